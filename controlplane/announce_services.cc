// SPDX-License-Identifier: Apache-2.0
#include "controlplane/announce_services.h"

namespace guideway {
namespace {

struct PoolFacts {
  ServiceHealth health = ServiceHealth::down;
  uint32_t healthy = 0;
};

PoolFacts facts_of(const Pool& pool, const PoolState& state) {
  PoolFacts out;
  uint32_t wanted = 0;
  for (const auto& [address, backend] : pool.backends) {
    if (backend.weight == 0 || backend.mode != BackendMode::enabled) continue;
    ++wanted;
    const auto view = state.view(address);
    if (view && (view->state == BackendState::up || state.is_presumed(address))) ++out.healthy;
  }
  if (state.condition() == PoolCondition::panic) {
    out.health = ServiceHealth::panic;
  } else if (out.healthy > 0) {
    out.health = out.healthy == wanted ? ServiceHealth::ready : ServiceHealth::degraded;
  }
  return out;
}

}  // namespace

std::set<Address> vips_of(const Intent& intent) {
  std::set<Address> out;
  for (const auto& [key, service] : intent.services) out.insert(key.vip);
  return out;
}

Announcer::Services announce_services(
    const Intent& intent, const std::function<const PoolState*(const std::string&)>& state_of,
    const std::map<std::string, std::string>& lone) {
  std::map<std::string, PoolFacts> pools;
  for (const auto& [name, pool] : intent.pools)
    if (const PoolState* state = state_of(name)) pools[name] = facts_of(pool, *state);
  Announcer::Services out;
  for (const auto& [key, service] : intent.services) {
    const PoolFacts& pool = pools[service.pool];
    const auto why = lone.find(service.pool);
    out[key.vip].push_back({key.text(), service.pool, pool.health, pool.healthy,
                            why == lone.end() ? "" : why->second});
  }
  return out;
}

}  // namespace guideway
