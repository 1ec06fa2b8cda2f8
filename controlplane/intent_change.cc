// SPDX-License-Identifier: Apache-2.0
#include "controlplane/intent_change.h"

#include <utility>

#include "controlplane/intent_rules.h"

namespace guideway {
namespace {

constexpr size_t kNamesShown = 3;

tl::unexpected<RefusedChange> refuse(Refusal refusal, std::string field, std::string message,
                                     std::string hint = {}) {
  return tl::unexpected<RefusedChange>(
      RefusedChange{refusal, Error{std::move(field), std::move(message), std::move(hint)}});
}

ChangeResult checked(Intent after) {
  if (auto valid = check_intent(after); !valid) {
    return tl::unexpected<RefusedChange>(RefusedChange{Refusal::invalid, valid.error()});
  }
  return after;
}

tl::unexpected<RefusedChange> no_pool(const std::string& name) {
  return refuse(Refusal::not_found, "pools." + name, "there is no such pool");
}

tl::unexpected<RefusedChange> no_backend(const std::string& pool, const Address& address) {
  return refuse(Refusal::not_found, "pools." + pool + ".backends." + address.text(),
                "there is no such backend");
}

// The order as it is now, unless another is given.
void set_mode(Backend& backend, const WantedBackend& wanted) {
  if (!wanted.mode) return;
  const bool drains = *wanted.mode == BackendMode::draining;
  const bool drained_before = backend.mode == BackendMode::draining;
  if (!drains || !drained_before) backend.drain_until = 0;
  if (drains && !drained_before) backend.drain_until = wanted.default_drain_until;
  if (drains && wanted.drain_until) backend.drain_until = *wanted.drain_until;
  backend.mode = *wanted.mode;
}

std::map<Address, Backend> backends_of(const std::map<Address, WantedBackend>& wanted,
                                       const std::map<Address, Backend>& before) {
  std::map<Address, Backend> out;
  for (const auto& [address, item] : wanted) {
    Backend backend;
    if (auto old = before.find(address); old != before.end()) backend = old->second;
    backend.weight = item.weight.value_or(Backend{}.weight);
    set_mode(backend, item);
    out.emplace_hint(out.end(), address, backend);
  }
  return out;
}

// What is absent is as in `pool`.
void set_pool(Pool& pool, const WantedPool& wanted) {
  if (wanted.forwarding) pool.forwarding = *wanted.forwarding;
  if (wanted.table_slots) pool.table_slots = *wanted.table_slots;
  if (wanted.probe) pool.probe = *wanted.probe;
  if (wanted.slow_start_ms) pool.slow_start_ms = *wanted.slow_start_ms;
  if (wanted.hold_s) pool.hold_s = *wanted.hold_s;
  if (wanted.backends) pool.backends = backends_of(*wanted.backends, pool.backends);
}

tl::unexpected<RefusedChange> no_forwarding(const std::string& pool) {
  return refuse(Refusal::invalid, "pools." + pool + ".forwarding", "is needed for a new pool",
                "\"l2\", \"ipip\" or \"gue\"");
}

}  // namespace

ChangeResult replace_intent(const Intent& before, const WantedIntent& wanted) {
  const bool restores = before.revision == 0 && wanted.flow_seed;
  if (!restores && wanted.flow_seed && *wanted.flow_seed != before.flow_seed) {
    return refuse(Refusal::conflict, "flow_seed",
                  "this node has another one, and another would move its flows",
                  "leave 'flow_seed' out, or restore into a node that never had an intent");
  }
  Intent after;
  after.revision = before.revision;
  after.flow_seed = wanted.flow_seed.value_or(before.flow_seed);
  after.services = wanted.services;
  for (const auto& [name, item] : wanted.pools) {
    Pool pool;
    if (!item.forwarding) return no_forwarding(name);
    if (auto old = before.pools.find(name); old != before.pools.end()) {
      pool.backends = old->second.backends;  // for their modes
      pool.plan = old->second.plan;
    }
    set_pool(pool, item);
    if (!item.backends) pool.backends.clear();
    after.pools.emplace_hint(after.pools.end(), name, std::move(pool));
  }
  const bool same = after.pools == before.pools && after.services == before.services;
  if (same && !restores) return before;
  if (!restores && wanted.revision && *wanted.revision != before.revision) {
    return refuse(Refusal::conflict, "revision",
                  "the intent is at revision " + std::to_string(before.revision) + ", not " +
                      std::to_string(*wanted.revision),
                  "read it again, or leave 'revision' out");
  }
  return checked(std::move(after));
}

ChangeResult put_pool(const Intent& before, const std::string& name, const WantedPool& wanted) {
  Intent after = before;
  auto [pool, is_new] = after.pools.try_emplace(name);
  if (is_new && !wanted.forwarding) return no_forwarding(name);
  set_pool(pool->second, wanted);
  return checked(std::move(after));
}

ChangeResult remove_pool(const Intent& before, const std::string& name) {
  if (before.pools.count(name) == 0) return no_pool(name);
  std::string users;
  size_t count = 0;
  for (const auto& [key, service] : before.services) {
    if (service.pool != name) continue;
    if (++count <= kNamesShown) users += (count > 1 ? ", " : "") + key.text();
  }
  if (count > kNamesShown) users += " and " + std::to_string(count - kNamesShown) + " more";
  if (count > 0) {
    return refuse(Refusal::conflict, "pools." + name,
                  std::string("is used by ") + (count == 1 ? "service " : "services ") + users,
                  "remove them first, or give them another pool");
  }
  Intent after = before;
  after.pools.erase(name);
  return after;
}

ChangeResult put_backend(const Intent& before, const std::string& pool, const Address& address,
                         const WantedBackend& wanted) {
  if (before.pools.count(pool) == 0) return no_pool(pool);
  Intent after = before;
  auto [backend, is_new] = after.pools.at(pool).backends.try_emplace(address);
  if (is_new && wanted.mode == BackendMode::draining) return no_backend(pool, address);
  if (wanted.weight) backend->second.weight = *wanted.weight;
  set_mode(backend->second, wanted);
  return checked(std::move(after));
}

ChangeResult remove_backend(const Intent& before, const std::string& pool, const Address& address) {
  auto found = before.pools.find(pool);
  if (found == before.pools.end()) return no_pool(pool);
  if (found->second.backends.count(address) == 0) return no_backend(pool, address);
  Intent after = before;
  after.pools.at(pool).backends.erase(address);
  return after;
}

ChangeResult put_service(const Intent& before, const ServiceKey& key, const Service& service) {
  Intent after = before;
  after.services[key] = service;
  return checked(std::move(after));
}

ChangeResult remove_service(const Intent& before, const ServiceKey& key) {
  if (before.services.count(key) == 0) {
    return refuse(Refusal::not_found, "services." + key.text(), "there is no such service");
  }
  Intent after = before;
  after.services.erase(key);
  return after;
}

}  // namespace guideway
