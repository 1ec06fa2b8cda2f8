// SPDX-License-Identifier: Apache-2.0
// `guideway service`: add, remove, list.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "controlplane/cli/command.h"

namespace guideway::cli {

// `service` is VIP:PORT/PROTOCOL or VIP/PROTOCOL (all ports). Adds it, or gives an existing one
// this pool.
int service_add(const Context& context, const std::string& service, const std::string& pool);
int service_remove(const Context& context, const std::string& service);
int service_list(const Context& context);

// `services`: an array as in GET /v1/status. With more than `services_max` of them only those that
// are not ready, and of those at most `services_max`.
void print_services(const Context& context, const nlohmann::json& services, size_t services_max);

}  // namespace guideway::cli
