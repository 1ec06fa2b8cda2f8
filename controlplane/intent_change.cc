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

std::string pool_text(const Pool& pool) {
  size_t count = pool.backends.size();
  return std::string(forwarding_name(pool.forwarding)) + ", " + std::to_string(pool.table_slots) +
         " slots, " + std::to_string(count) + (count == 1 ? " backend" : " backends");
}

std::string weight_text(const Backend& backend) {
  return "weight " + std::to_string(backend.weight);
}

// Walks two maps by key: `one` has (key, before or null, after or null) for each that differs.
template <typename Map, typename One>
void walk(const Map& before, const Map& after, One one) {
  auto b = before.begin();
  auto a = after.begin();
  while (b != before.end() || a != after.end()) {
    if (a == after.end() || (b != before.end() && b->first < a->first)) {
      one(b->first, &b->second, nullptr);
      ++b;
    } else if (b == before.end() || a->first < b->first) {
      one(a->first, nullptr, &a->second);
      ++a;
    } else {
      if (!(b->second == a->second)) one(b->first, &b->second, &a->second);
      ++b;
      ++a;
    }
  }
}

template <typename Value, typename Text>
Difference difference(std::string what, const Value* before, const Value* after, Text text) {
  Difference out;
  out.op = before == nullptr  ? Difference::Op::add
           : after == nullptr ? Difference::Op::remove
                              : Difference::Op::change;
  out.what = std::move(what);
  if (before != nullptr) out.from = text(*before);
  if (after != nullptr) out.to = text(*after);
  return out;
}

}  // namespace

ChangeResult replace_intent(const Intent& before, const WantedIntent& wanted) {
  const bool restores = before.revision == 0 && wanted.flow_seed;
  if (!restores && wanted.flow_seed && *wanted.flow_seed != before.flow_seed) {
    return refuse(Refusal::conflict, "flow_seed",
                  "this node has another one, and another would move its flows",
                  "leave 'flow_seed' out, or restore into a node that never had an intent");
  }
  const bool same = wanted.pools == before.pools && wanted.services == before.services;
  if (same && !restores) return before;
  if (!restores && wanted.revision && *wanted.revision != before.revision) {
    return refuse(Refusal::conflict, "revision",
                  "the intent is at revision " + std::to_string(before.revision) + ", not " +
                      std::to_string(*wanted.revision),
                  "read it again, or leave 'revision' out");
  }
  Intent after;
  after.revision = before.revision;
  after.flow_seed = wanted.flow_seed.value_or(before.flow_seed);
  after.pools = wanted.pools;
  after.services = wanted.services;
  return checked(std::move(after));
}

ChangeResult put_pool(const Intent& before, const std::string& name, const WantedPool& wanted) {
  Intent after = before;
  auto [pool, is_new] = after.pools.try_emplace(name);
  if (is_new && !wanted.forwarding) {
    return refuse(Refusal::invalid, "pools." + name + ".forwarding", "is needed for a new pool",
                  "\"l2\" or \"ipip\"");
  }
  if (wanted.forwarding) pool->second.forwarding = *wanted.forwarding;
  if (wanted.table_slots) pool->second.table_slots = *wanted.table_slots;
  if (wanted.backends) pool->second.backends = *wanted.backends;
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
                         std::optional<uint32_t> weight) {
  if (before.pools.count(pool) == 0) return no_pool(pool);
  Intent after = before;
  Backend& backend = after.pools.at(pool).backends[address];
  if (weight) backend.weight = *weight;
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

const char* forwarding_name(Forwarding forwarding) {
  return forwarding == Forwarding::l2 ? "l2" : "ipip";
}

std::optional<Forwarding> forwarding_of(std::string_view name) {
  if (name == "l2") return Forwarding::l2;
  if (name == "ipip") return Forwarding::ipip;
  return {};
}

const char* op_name(Difference::Op op) {
  switch (op) {
    case Difference::Op::add:
      return "add";
    case Difference::Op::remove:
      return "remove";
    case Difference::Op::change:
      break;
  }
  return "change";
}

std::vector<Difference> differences(const Intent& before, const Intent& after) {
  std::vector<Difference> out;
  walk(before.pools, after.pools, [&](const std::string& name, const Pool* from, const Pool* to) {
    bool same_head = from != nullptr && to != nullptr && from->forwarding == to->forwarding &&
                     from->table_slots == to->table_slots;
    if (!same_head) out.push_back(difference("pool " + name, from, to, pool_text));
    if (from == nullptr || to == nullptr) return;
    walk(from->backends, to->backends,
         [&](const Address& address, const Backend* old, const Backend* now) {
           out.push_back(
               difference("backend " + name + " " + address.text(), old, now, weight_text));
         });
  });
  walk(before.services, after.services,
       [&](const ServiceKey& key, const Service* from, const Service* to) {
         out.push_back(difference("service " + key.text(), from, to,
                                  [](const Service& service) { return "pool " + service.pool; }));
       });
  return out;
}

}  // namespace guideway
