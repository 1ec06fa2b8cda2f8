// SPDX-License-Identifier: Apache-2.0
// The planned changes of an intent's pools: what a pool's settings want of its table, and the plan
// (change_plan.h) that leads there.
//
// The packets of `l2` and `ipip` pools carry no list, so their tables change in one step, and a
// plan (PoolHistory::one_step) is there only afterwards, until the pool has been left alone for
// kOneStepHold. It has one earlier epoch: the table as it was before the first of the changes since
// the pool was at rest. That is enough for all connections that stay on their node: in slots whose
// owner is not that epoch's, the workers learn each flow, from its SYN on. So one of which they
// know nothing began before, and is sent to the owner of that epoch, and is known from then on. The
// epoch also has (with weight 0) all who came and went since, so that known flows find them.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "controlplane/intent.h"

namespace guideway {

// From the last change of an l2 or ipip pool: a connection that is silent for longer may be unknown
// to the flow tables when its slot settles. (The pool's `hold`, if that is less.)
inline constexpr uint32_t kOneStepHoldS = 60;
// Where changes follow each other for ever, "before the first of them" gets old, and tells less and
// less of flows that a worker has forgotten: it is dropped after the one time, in a pause of the
// other.
inline constexpr std::chrono::seconds kOneStepMost{600};
inline constexpr std::chrono::seconds kOneStepLeast{5};

// Members that have no weight are members with weight 0, and so are, with `gue`, those that are not
// enabled. (With l2 and ipip these keep their slots, and lose new flows by their share alone.)
PoolShape shape_of(const Pool& pool);

// After a change: each `gue` pool has a plan that wants its shape, a new one begins with it; the
// others have one as above. `intent.revision` is that of the change; `before` the intent before it.
void follow_plans(Intent& intent, const Intent& before);

// Whether the plan goes by steps which the planner takes and others may wait for.
bool has_steps(const Pool& pool);

// All backends that the pool's table may name, in order of address: the pool-local index.
std::vector<Address> table_addresses(const Pool& pool);

// Whether new flows may begin on a backend that is not enabled: by a plan it has slots until the
// next epoch is committed.
bool takes_new(const Pool& pool, const Address& backend);

// A draining backend that no list has any more, but for the current epoch without a slot.
bool is_drained(const Pool& pool, const Address& backend);

// Whether such a plan can be one: what a store has kept may have been changed by anybody. `wanted`
// is filled in. The error's field is a path below the plan.
Result<void> check_plan(const ChangePlan& plan);

}  // namespace guideway
