// SPDX-License-Identifier: Apache-2.0
// How pools and their backends look in tables.
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "controlplane/cli/command.h"

namespace guideway::cli {

// "3 backends: 2 up, 1 no_next_hop" of a pool as in GET /v1/pools/NAME.
std::string backend_summary(const nlohmann::json& pool);

// "tcp:443 every 100 ms, time-out 100 ms, fall 3, rise 2", of a probe as the API gives or takes it;
// "none".
std::string probe_words(const nlohmann::json& probe);

// "n1, n2"; of more than `shown`, how many more.
std::string names(const nlohmann::json& list, size_t shown);

// Where in the cluster it is down: "down on n2 only", "down on n1, n2", "down on all nodes"; and
// where nothing can be told. Empty: nowhere, or there is no cluster.
std::string where_down(const nlohmann::json& backend);

// "PANIC" or "BLIND", or nothing, of a pool.
std::string alarm(const nlohmann::json& pool);

// One line about the pool, its probe, its alarm, then its backends. With more than `backends_max`
// of them only those that are not up, and of those at most `backends_max`.
void print_pool(const Context& context, const nlohmann::json& pool, size_t backends_max);
void print_backends(const Context& context, const nlohmann::json& pool, size_t backends_max,
                    unsigned indent);

}  // namespace guideway::cli
