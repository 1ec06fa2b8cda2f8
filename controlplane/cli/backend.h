// SPDX-License-Identifier: Apache-2.0
// `guideway backend`: add, remove, weight, enable, disable, list. For drain see drain.h.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "controlplane/cli/command.h"

namespace guideway::cli {

// Adds it, or gives an existing backend this weight. Without a weight a new one gets 100 and an
// old one keeps its own.
int backend_add(const Context& context, const std::string& pool, const std::string& address,
                std::optional<int64_t> weight);
int backend_remove(const Context& context, const std::string& pool, const std::string& address);
// These are refused if the pool has no such backend: a typing error must not add one.
int backend_weight(const Context& context, const std::string& pool, const std::string& address,
                   int64_t weight);
int backend_enable(const Context& context, const std::string& pool, const std::string& address);
// On context.err, if no backend of the pool is enabled and has weight.
void warn_if_nobody_is_left(const Context& context, const std::string& pool);
int backend_disable(const Context& context, const std::string& pool, const std::string& address);
int backend_list(const Context& context, const std::string& pool);

// As the server spells it, so that 2001:DB8::7 is found as 2001:db8::7.
std::string canonical(const std::string& address);
// "/v1/pools/POOL/backends/ADDRESS"
std::string backend_path(const std::string& pool, const std::string& address);
// The backend in a pool of the API; null if it is not there.
const nlohmann::json& find_backend(const nlohmann::json& pool, const std::string& address);
// The backend as it is now; without one that is reported, and `exit_code` set.
std::optional<nlohmann::json> need_backend(const Context& context, const std::string& pool,
                                           const std::string& address, int& exit_code);

}  // namespace guideway::cli
