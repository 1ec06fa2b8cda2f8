// SPDX-License-Identifier: Apache-2.0
#include "controlplane/status.h"

#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "controlplane/pool_plan.h"
#include "controlplane/unique_fd.h"

namespace guideway {
namespace {

struct ServiceView {
  ServiceState state = ServiceState::down;
  std::string reason;
};

ServiceView service_view(const PoolStatus& pool) {
  size_t wanted = 0;
  size_t up = 0;
  size_t unknown = 0;
  for (const BackendStatus& backend : pool.backends) {
    unknown += backend.state == BackendState::unknown ? 1 : 0;
    wanted += backend.weight > 0 && backend.mode == BackendMode::enabled ? 1 : 0;
    up += backend.state == BackendState::up ? 1 : 0;
  }
  if (wanted == 0) {
    return {ServiceState::down, pool.backends.empty() ? "pool " + pool.name + " has no backend"
                                                      : "all backends of pool " + pool.name +
                                                            " have weight 0 or are drained"};
  }
  if (up == wanted) return {ServiceState::ready, ""};
  std::string count = std::to_string(up) + " of " + std::to_string(wanted) + " backends of pool " +
                      pool.name + " are up";
  if (pool.condition == PoolCondition::panic) return {ServiceState::down, "panic: " + count};
  if (up == 0 && unknown > 0) {
    return {ServiceState::degraded,
            "no backend of pool " + pool.name + " has answered a probe yet"};
  }
  return {up == 0 ? ServiceState::down : ServiceState::degraded, count};
}

// Null if there is none, or if it was made from an older state of the pool: its indices would mean
// other backends.
const SealedTable* table_of(const TableMap& tables, const std::string& name, const Pool& pool) {
  auto entry = tables.find(name);
  if (entry == tables.end() || entry->second.table == nullptr) return nullptr;
  const PoolTable& made = entry->second;
  if (pool.plan) return made.history == pool.plan->history ? made.table.get() : nullptr;
  bool same = made.slots == pool.table_slots &&
              std::equal(made.backends.begin(), made.backends.end(), pool.backends.begin(),
                         pool.backends.end(), [](const MaglevBackend& a, const auto& b) {
                           return a.address == b.first && a.weight == b.second.weight;
                         });
  return same ? made.table.get() : nullptr;
}

std::string time_text(uint64_t monotonic_ns) {
  return monotonic_ns == 0 ? "" : wall_time(monotonic_ns);
}

PoolStatus::Change change_of(const ChangePlan& plan) {
  PoolStatus::Change out;
  out.epoch = plan.history.current.number;
  if (plan.history.incoming) out.incoming = plan.history.incoming->number;
  for (const Epoch& epoch : plan.history.earlier) out.earlier.push_back(epoch.number);
  out.wanted = next_epoch(plan.history.current, plan.wanted).has_value();
  return out;
}

PoolStatus make_pool(const StatusSource& source, const std::string& name, const Pool& pool) {
  PoolStatus out;
  out.name = name;
  out.forwarding = pool.forwarding;
  out.table_slots = pool.table_slots;
  out.probe = pool.probe;
  out.slow_start_ms = pool.slow_start_ms;
  out.hold_s = pool.hold_s;
  if (has_steps(pool)) out.change = change_of(*pool.plan);
  if (const PoolState* state = source.health.pool(name)) {
    out.condition = state->condition();
    out.condition_reason = state->condition_reason();
    out.condition_since = time_text(state->condition_since_ns());
  }
  const SealedTable* table = table_of(source.tables, name, pool);
  if (table != nullptr) out.digest = table->digest();
  out.backends.reserve(pool.backends.size());
  const std::vector<Address> order = table_addresses(pool);
  for (const auto& [address, backend] : pool.backends) {
    BackendStatus item;
    item.address = address;
    item.weight = backend.weight;
    item.mode = backend.mode;
    item.drain_until = backend.drain_until;
    if (auto view = source.health.backend(name, address)) {
      item.state = view->state.state;
      item.reason = std::move(view->state.reason);
      item.since = time_text(view->state.since_ns);
      item.share_now = static_cast<double>(view->state.release.share) / GW_SHARE_ALL;
      item.sight = view->sight;
    }
    item.next_hop = source.next_hop(address).hop;
    const auto at = std::lower_bound(order.begin(), order.end(), address);
    if (table != nullptr && at != order.end() && *at == address) {
      item.slots = table->slots_of(static_cast<uint32_t>(at - order.begin()));
      item.share = static_cast<double>(item.slots) / table->slots();
    }
    item.traffic = source.backend_traffic(name, address);
    out.backends.push_back(std::move(item));
  }
  return out;
}

}  // namespace

const char* state_name(ServiceState state) {
  switch (state) {
    case ServiceState::ready:
      return "ready";
    case ServiceState::degraded:
      return "degraded";
    case ServiceState::down:
      break;
  }
  return "down";
}

void make_pools_and_services(const StatusSource& source, Status& status) {
  std::map<std::string, ServiceView> views;
  std::map<std::string, uint32_t> users;
  for (const auto& [key, service] : source.intent.services) ++users[service.pool];
  for (const auto& [name, pool] : source.intent.pools) {
    PoolStatus item = make_pool(source, name, pool);
    item.services = users[name];
    views[name] = service_view(item);
    status.pools.push_back(std::move(item));
  }
  for (const auto& [key, service] : source.intent.services) {
    ServiceStatus item;
    item.key = key;
    item.pool = service.pool;
    item.state = views[service.pool].state;
    item.reason = views[service.pool].reason;
    item.traffic = source.service_traffic(key);
    status.services.push_back(std::move(item));
  }
}

PortStatus port_status(const std::string& interface) {
  PortStatus out;
  out.interface = interface;
  UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = {};
  if (!socket || interface.size() >= sizeof request.ifr_name) return out;
  std::memcpy(request.ifr_name, interface.c_str(), interface.size() + 1);
  if (ioctl(socket.get(), SIOCGIFHWADDR, &request) == 0) {
    Mac mac{};
    std::memcpy(&mac, request.ifr_hwaddr.sa_data, 6);
    out.mac = mac_text(mac);
  }
  if (ioctl(socket.get(), SIOCGIFMTU, &request) == 0) {
    out.mtu = static_cast<uint32_t>(request.ifr_mtu);
  }
  if (ioctl(socket.get(), SIOCGIFFLAGS, &request) == 0) {
    out.up = (request.ifr_flags & IFF_UP) != 0 && (request.ifr_flags & IFF_RUNNING) != 0;
  }
  return out;
}

}  // namespace guideway
