// SPDX-License-Identifier: Apache-2.0
// `guideway apply FILE`: makes services and pools what the file says, and prints the differences.
#pragma once

#include <string>

#include "controlplane/cli/command.h"

namespace guideway::cli {

int apply(const Context& context, const std::string& file, bool dry_run);

}  // namespace guideway::cli
