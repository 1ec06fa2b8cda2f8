// SPDX-License-Identifier: Apache-2.0
// `guideway status`: node, dataplane, services, pools, backends and verdicts at a glance, and first
// of all what is wrong.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "controlplane/cli/command.h"

namespace guideway::cli {

int status(const Context& context);

// What is wrong, one line each, worst first, from an answer of GET /v1/status.
std::vector<std::string> problems(const nlohmann::json& status);

}  // namespace guideway::cli
