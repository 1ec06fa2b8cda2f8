// SPDX-License-Identifier: Apache-2.0
// `guideway explain CLIENT:PORT SERVICE`: where this flow goes on this node, and why.
#pragma once

#include <string>

#include "controlplane/cli/command.h"

namespace guideway::cli {

int explain(const Context& context, const std::string& client, const std::string& service);

}  // namespace guideway::cli
