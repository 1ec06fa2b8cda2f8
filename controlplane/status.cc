// SPDX-License-Identifier: Apache-2.0
#include "controlplane/status.h"

#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "controlplane/unique_fd.h"

namespace guideway {
namespace {

struct PoolHealth {
  ServiceState state = ServiceState::down;
  std::string reason;
};

PoolHealth pool_health(const PoolStatus& pool) {
  size_t weighted = 0;
  size_t up = 0;
  for (const BackendStatus& backend : pool.backends) {
    weighted += backend.weight > 0 ? 1 : 0;
    up += backend.state == BackendState::up ? 1 : 0;
  }
  if (weighted == 0) {
    return {ServiceState::down, pool.backends.empty()
                                    ? "pool " + pool.name + " has no backend"
                                    : "all backends of pool " + pool.name + " have weight 0"};
  }
  if (up == weighted) return {ServiceState::ready, ""};
  std::string count = std::to_string(up) + " of " + std::to_string(weighted) +
                      " backends of pool " + pool.name + " are up";
  return {up == 0 ? ServiceState::down : ServiceState::degraded, count};
}

// Null if there is none, or if it was made from an older state of the pool: its indices would mean
// other backends.
const SealedTable* table_of(const TableMap& tables, const std::string& name, const Pool& pool) {
  auto entry = tables.find(name);
  if (entry == tables.end() || entry->second.table == nullptr) return nullptr;
  const PoolTable& made = entry->second;
  bool same = made.slots == pool.table_slots &&
              std::equal(made.backends.begin(), made.backends.end(), pool.backends.begin(),
                         pool.backends.end(), [](const MaglevBackend& a, const auto& b) {
                           return a.address == b.first && a.weight == b.second.weight;
                         });
  return same ? made.table.get() : nullptr;
}

PoolStatus make_pool(const StatusSource& source, const std::string& name, const Pool& pool) {
  PoolStatus out;
  out.name = name;
  out.forwarding = pool.forwarding;
  out.table_slots = pool.table_slots;
  const SealedTable* table = table_of(source.tables, name, pool);
  if (table != nullptr) out.digest = table->digest();
  out.backends.reserve(pool.backends.size());
  uint32_t index = 0;
  for (const auto& [address, backend] : pool.backends) {
    BackendStatus item;
    item.address = address;
    item.weight = backend.weight;
    const NextHopState& next_hop = source.next_hop(address);
    std::tie(item.state, item.reason) = judge_backend(pool, address, backend, next_hop);
    item.next_hop = next_hop.hop;
    if (table != nullptr) {
      item.slots = table->slots_of(index);
      item.share = static_cast<double>(item.slots) / table->slots();
    }
    item.traffic = source.backend_traffic(name, address);
    out.backends.push_back(std::move(item));
    ++index;
  }
  return out;
}

}  // namespace

const char* state_name(BackendState state) {
  switch (state) {
    case BackendState::up:
      return "up";
    case BackendState::no_next_hop:
      return "no_next_hop";
    case BackendState::no_weight:
      break;
  }
  return "no_weight";
}

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

std::pair<BackendState, std::string> judge_backend(const Pool& pool, const Address& address,
                                                   const Backend& backend,
                                                   const NextHopState& next_hop) {
  if (backend.weight == 0) return {BackendState::no_weight, "its weight is 0"};
  std::string problem = next_hop_problem(pool.forwarding, address, next_hop);
  if (!problem.empty()) return {BackendState::no_next_hop, std::move(problem)};
  return {BackendState::up, ""};
}

void make_pools_and_services(const StatusSource& source, Status& status) {
  std::map<std::string, PoolHealth> health;
  std::map<std::string, uint32_t> users;
  for (const auto& [key, service] : source.intent.services) ++users[service.pool];
  for (const auto& [name, pool] : source.intent.pools) {
    PoolStatus item = make_pool(source, name, pool);
    item.services = users[name];
    health[name] = pool_health(item);
    status.pools.push_back(std::move(item));
  }
  for (const auto& [key, service] : source.intent.services) {
    ServiceStatus item;
    item.key = key;
    item.pool = service.pool;
    item.state = health[service.pool].state;
    item.reason = health[service.pool].reason;
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
