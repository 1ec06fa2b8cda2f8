// SPDX-License-Identifier: Apache-2.0
#include "controlplane/pool_plan.h"

#include <algorithm>
#include <set>
#include <utility>

#include "controlplane/intent_rules.h"
#include "dataplane/abi.h"

namespace guideway {
namespace {

bool has_weight(const Epoch& epoch, const Address& address) {
  return std::any_of(epoch.members.begin(), epoch.members.end(), [&](const MaglevBackend& member) {
    return member.address == address && member.weight > 0;
  });
}

bool keeps(const Epoch& epoch, const Address& address) {
  return has_weight(epoch, address) || epoch.kept_stand_ins.count(address) > 0;
}

bool is_size(uint32_t slots) {
  return slots >= kTableSlotsMin && slots <= GW_TABLE_SLOTS_MAX && is_prime(slots);
}

Result<void> check_epoch(const Epoch& epoch) {
  if (!is_size(epoch.slots)) return fail("slots", "is no table size");
  if (!is_size(epoch.fill_slots) || epoch.fill_slots > epoch.slots)
    return fail("fill_slots", "is no table size, or above that of the table");
  if (epoch.members.size() > GW_POOL_BACKENDS_MAX) return fail("members", "are too many");
  for (const MaglevBackend& member : epoch.members) {
    if (member.weight > kWeightMax) return fail("members." + member.address.text(), "weight");
    if (std::string problem = address_problem(member.address); !problem.empty())
      return fail("members." + member.address.text(), problem);
  }
  size_t kept = 0;
  for (const auto& [address, slots] : epoch.kept_stand_ins) {
    const std::string path = "kept_stand_ins." + address.text();
    const bool is_member =
        std::any_of(epoch.members.begin(), epoch.members.end(),
                    [&](const MaglevBackend& member) { return member.address == address; });
    if (!is_member) return fail(path, "is no member");
    if (!std::is_sorted(slots.begin(), slots.end(), std::less_equal<>()) || slots.empty() ||
        slots.back() >= epoch.slots)
      return fail(path, "are not ascending slots of the table");
    kept += slots.size();
  }
  if (kept > kKeptStandInsMax) return fail("kept_stand_ins", "are too many");
  return {};
}

}  // namespace

PoolShape shape_of(const Pool& pool) {
  PoolShape shape;
  shape.slots = pool.table_slots;
  shape.members.reserve(pool.backends.size());
  for (const auto& [address, backend] : pool.backends) {
    const bool takes = pool.forwarding != Forwarding::gue || backend.mode == BackendMode::enabled;
    shape.members.push_back({address, takes ? backend.weight : 0});
  }
  return shape;
}

// No slot of it has ever led to anybody, or does any more.
static bool is_unused(const PoolHistory& history) {
  const auto none = [](const Epoch& epoch) {
    return std::all_of(epoch.members.begin(), epoch.members.end(),
                       [](const MaglevBackend& member) { return member.weight == 0; });
  };
  return history.earlier.empty() && !history.incoming && none(history.current);
}

static bool has_weight(const PoolShape& shape) {
  return std::any_of(shape.members.begin(), shape.members.end(),
                     [](const MaglevBackend& member) { return member.weight > 0; });
}

static Epoch epoch_of(const PoolShape& shape, uint64_t number) {
  Epoch epoch;
  epoch.number = number;
  epoch.slots = epoch.fill_slots = shape.slots;
  epoch.members = shape.members;
  return epoch;
}

// `origin` with whoever else is a member of `other`.
static void add_members(Epoch& origin, const Epoch& other) {
  std::vector<MaglevBackend> members = origin.members;
  const auto less = [](const MaglevBackend& a, const MaglevBackend& b) {
    return a.address < b.address;
  };
  for (const MaglevBackend& member : other.members) {
    if (!std::binary_search(origin.members.begin(), origin.members.end(), member, less))
      members.push_back({member.address, 0});
  }
  origin.members = sorted_members(std::move(members));
}

// `was`: null if the pool is new.
static void follow_one_step(Pool& pool, const Pool* was, uint64_t revision) {
  if (pool.plan && !pool.plan->history.one_step) pool.plan.reset();
  if (!was || was->forwarding == Forwarding::gue) return;
  PoolShape shape = shape_of(pool);
  const PoolShape known = pool.plan ? pool.plan->wanted : shape_of(*was);
  if (known == shape) {
    if (pool.plan && pool.plan->history.earlier.empty()) pool.plan.reset();
    return;
  }
  ChangePlan plan;
  plan.revision = revision;
  plan.wanted = std::move(shape);
  plan.history.one_step = true;
  plan.history.current = epoch_of(plan.wanted, 2 * revision + 1);
  Epoch origin = epoch_of(known, 0);
  if (pool.plan && !pool.plan->history.earlier.empty()) {
    origin = std::move(pool.plan->history.earlier.front());
    add_members(origin, pool.plan->history.current);
  }
  origin.number = 2 * revision;  // another one: its time begins anew
  origin.stand_ins = false;      // flows that began there were learned
  plan.history.earlier.push_back(std::move(origin));
  pool.plan.reset();
  if (!has_weight(known) && plan.history.earlier.front().members == known.members) return;
  if (pool_addresses(plan.history).size() > GW_POOL_BACKENDS_MAX) return;
  pool.plan = std::move(plan);
}

void follow_plans(Intent& intent, const Intent& before) {
  for (auto& [name, pool] : intent.pools) {
    if (pool.forwarding != Forwarding::gue) {
      const auto was = before.pools.find(name);
      follow_one_step(pool, was == before.pools.end() ? nullptr : &was->second, intent.revision);
      continue;
    }
    if (pool.plan && pool.plan->history.one_step) pool.plan.reset();
    PoolShape shape = shape_of(pool);
    if (!pool.plan) {
      pool.plan = first_plan(std::move(shape), intent.revision);
    } else if (pool.plan->wanted != shape && is_unused(pool.plan->history)) {
      const uint64_t number = pool.plan->history.current.number + 1;
      pool.plan = first_plan(std::move(shape), intent.revision);
      pool.plan->history.current.number = number;
    } else if (pool.plan->wanted != shape) {
      pool.plan = step(*pool.plan, Want{std::move(shape), false}, intent.revision).plan;
    }
    // A step that is stored together with a change before it is of that revision, not of a next one
    // that may never come.
    pool.plan->revision = std::min(pool.plan->revision, intent.revision);
  }
}

std::vector<Address> table_addresses(const Pool& pool) {
  if (pool.plan) return pool_addresses(pool.plan->history);
  std::vector<Address> out;
  out.reserve(pool.backends.size());
  for (const auto& [address, backend] : pool.backends) out.push_back(address);
  return out;
}

bool has_steps(const Pool& pool) {
  return pool.plan && !pool.plan->history.one_step;
}

bool takes_new(const Pool& pool, const Address& backend) {
  if (!has_steps(pool)) return false;
  const PoolHistory& history = pool.plan->history;
  return keeps(history.current, backend) || (history.incoming && keeps(*history.incoming, backend));
}

bool is_drained(const Pool& pool, const Address& backend) {
  if (!has_steps(pool)) return false;
  const PoolHistory& history = pool.plan->history;
  if (keeps(history.current, backend)) return false;
  if (history.incoming && keeps(*history.incoming, backend)) return false;
  return std::none_of(history.earlier.begin(), history.earlier.end(),
                      [&](const Epoch& epoch) { return keeps(epoch, backend); });
}

Result<void> check_plan(const ChangePlan& plan) {
  const auto below = [](const std::string& path, Error error) {
    error.field = path + "." + error.field;
    return tl::unexpected(std::move(error));
  };
  std::set<uint64_t> numbers;
  const auto check = [&](const std::string& path, const Epoch& epoch) -> Result<void> {
    if (!numbers.insert(epoch.number).second) return fail(path + ".number", "stands twice");
    if (auto valid = check_epoch(epoch); !valid) return below(path, valid.error());
    return {};
  };
  if (auto valid = check("current", plan.history.current); !valid) return valid;
  if (plan.history.incoming)
    if (auto valid = check("incoming", *plan.history.incoming); !valid) return valid;
  for (size_t i = 0; i < plan.history.earlier.size(); ++i) {
    auto valid = check("earlier." + std::to_string(i), plan.history.earlier[i]);
    if (!valid) return valid;
  }
  if (plan.history.one_step) {
    const Epoch& now = plan.history.current;
    if (plan.history.incoming) return fail("incoming", "belongs to forwarding gue only");
    if (plan.history.earlier.size() != 1) return fail("earlier", "must be one epoch");
    if (now.members != plan.wanted.members || now.slots != plan.wanted.slots)
      return fail("current", "is not what the pool's backends and table_slots say");
  }
  if (!build_hop_table(plan.history)) return fail("history", "has a slot with too many hops");
  return {};
}

}  // namespace guideway
