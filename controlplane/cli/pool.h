// SPDX-License-Identifier: Apache-2.0
// `guideway pool`: add, remove, list, show. And how pools and their backends look in tables.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "controlplane/cli/command.h"

namespace guideway::cli {

// Adds it, or gives an existing pool these settings.
int pool_add(const Context& context, const std::string& name, const std::string& forwarding,
             std::optional<int64_t> table_slots);
int pool_remove(const Context& context, const std::string& name);
int pool_list(const Context& context);
int pool_show(const Context& context, const std::string& name);

// "/v1/pools/NAME"
std::string pool_path(const std::string& name);

// "3 backends: 2 up, 1 no_next_hop" of a pool as in GET /v1/pools/NAME.
std::string backend_summary(const nlohmann::json& pool);
// One line about the pool, then its backends. With more than `backends_max` of them only those
// that are not up, and of those at most `backends_max`.
void print_pool(const Context& context, const nlohmann::json& pool, size_t backends_max);
void print_backends(const Context& context, const nlohmann::json& pool, size_t backends_max,
                    unsigned indent);

}  // namespace guideway::cli
