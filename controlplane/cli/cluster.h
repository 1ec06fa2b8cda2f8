// SPDX-License-Identifier: Apache-2.0
// `guideway cluster`: status, join, leave. Whether this node's intent is that of its cluster.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "controlplane/cli/command.h"

namespace guideway::cli {

int cluster_status(const Context& context);
int cluster_join(const Context& context);
int cluster_leave(const Context& context);

// The nodes of an answer of GET /v1/status, as a table; nothing if there is no cluster.
void print_cluster(const Context& context, const nlohmann::json& status);

// What is wrong, one line each.
void cluster_problems(const nlohmann::json& status, std::vector<std::string>& out);

}  // namespace guideway::cli
