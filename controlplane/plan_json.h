// SPDX-License-Identifier: Apache-2.0
// A pool's plan as a store keeps it:
//
//   {"revision":12,"forced":false,"current":EPOCH,"incoming":EPOCH or null,"earlier":[EPOCH,...]}
//   EPOCH: {"number":3,"slots":65537,"fill_slots":65537,"members":{"10.0.0.21":100},
//           "kept_stand_ins":{"10.0.0.22":[7,4711]},"stand_ins":true}
//
// What is wanted is not there: it follows from the pool's settings.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "controlplane/change_plan.h"
#include "controlplane/result.h"

namespace guideway {

std::string write_plan(const ChangePlan& plan);

// Types and fields alone; see check_plan().
Result<ChangePlan> read_plan(const nlohmann::json& object, const std::string& path);

}  // namespace guideway
