// SPDX-License-Identifier: Apache-2.0
#include "controlplane/store.h"

#include "controlplane/pool_plan.h"

namespace guideway {

ChangeResult next_intent(const Intent& before, const Store::Change& change) {
  ChangeResult after = change(before);
  if (!after || *after == before) return after;
  after->revision = before.revision + 1;
  follow_plans(*after, before);
  return after;
}

}  // namespace guideway
