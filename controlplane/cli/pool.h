// SPDX-License-Identifier: Apache-2.0
// `guideway pool`: add, set, remove, list, show.
#pragma once

#include <string>

#include "controlplane/cli/command.h"
#include "controlplane/cli/pool_settings.h"

namespace guideway::cli {

// Adds it, or gives an existing pool these settings.
int pool_add(const Context& context, const std::string& name, const PoolSettings& settings);
// Refused if there is no such pool: a typing error must not add one.
int pool_set(const Context& context, const std::string& name, const PoolSettings& settings);
int pool_remove(const Context& context, const std::string& name);
int pool_list(const Context& context);
int pool_show(const Context& context, const std::string& name);

// "/v1/pools/NAME"
std::string pool_path(const std::string& name);

}  // namespace guideway::cli
