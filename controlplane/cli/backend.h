// SPDX-License-Identifier: Apache-2.0
// `guideway backend`: add, remove, weight, list.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "controlplane/cli/command.h"

namespace guideway::cli {

// Adds it, or gives an existing backend this weight. Without a weight a new one gets 100 and an
// old one keeps its own.
int backend_add(const Context& context, const std::string& pool, const std::string& address,
                std::optional<int64_t> weight);
int backend_remove(const Context& context, const std::string& pool, const std::string& address);
// Refused if the pool has no such backend: a typing error must not add one.
int backend_weight(const Context& context, const std::string& pool, const std::string& address,
                   int64_t weight);
int backend_list(const Context& context, const std::string& pool);

}  // namespace guideway::cli
