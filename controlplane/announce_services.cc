// SPDX-License-Identifier: Apache-2.0
#include "controlplane/announce_services.h"

#include "controlplane/status.h"

namespace guideway {
namespace {

struct PoolFacts {
  ServiceHealth health = ServiceHealth::down;
  uint32_t healthy = 0;
};

PoolFacts facts_of(const Pool& pool,
                   const std::function<const NextHopState&(const Address&)>& next_hop) {
  PoolFacts out;
  uint32_t weighted = 0;
  for (const auto& [address, backend] : pool.backends) {
    if (backend.weight == 0) continue;
    ++weighted;
    if (judge_backend(pool, address, backend, next_hop(address)).first == BackendState::up) {
      ++out.healthy;
    }
  }
  if (out.healthy > 0) {
    out.health = out.healthy == weighted ? ServiceHealth::ready : ServiceHealth::degraded;
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
    const Intent& intent, const std::function<const NextHopState&(const Address&)>& next_hop) {
  std::map<std::string, PoolFacts> pools;
  for (const auto& [name, pool] : intent.pools) pools[name] = facts_of(pool, next_hop);
  Announcer::Services out;
  for (const auto& [key, service] : intent.services) {
    const PoolFacts& pool = pools[service.pool];
    out[key.vip].push_back({key.text(), service.pool, pool.health, pool.healthy});
  }
  return out;
}

}  // namespace guideway
