// SPDX-License-Identifier: Apache-2.0
// The planned changes of an intent's `gue` pools: what a pool's settings want of its table, and the
// plan (change_plan.h) that leads there. Only `gue` pools have plans: packets of the others carry
// no list, so their tables change in one step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "controlplane/intent.h"

namespace guideway {

// Members that are not enabled, or have no weight, are members with weight 0.
PoolShape shape_of(const Pool& pool);

// After a change: each `gue` pool gets a plan that wants its shape, a new one begins with it; other
// pools get none. `intent.revision` is that of the change.
void follow_plans(Intent& intent);

// All backends that the pool's table may name, in order of address: the pool-local index.
std::vector<Address> table_addresses(const Pool& pool);

// Whether new flows may begin on a backend that is not enabled: by a plan it has slots until the next
// epoch is committed.
bool takes_new(const Pool& pool, const Address& backend);

// A draining backend that no list has any more, but for the current epoch without a slot.
bool is_drained(const Pool& pool, const Address& backend);

// Whether such a plan can be one: what a store has kept may have been changed by anybody. The
// error's field is a path below the plan.
Result<void> check_plan(const ChangePlan& plan);

}  // namespace guideway
