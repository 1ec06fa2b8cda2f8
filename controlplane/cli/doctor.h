// SPDX-License-Identifier: Apache-2.0
// `guideway doctor`: what on this machine would stop Guideway from working, and the command that
// mends it. Works without a running daemon, and looks further with one.
#pragma once

#include <string>

#include "controlplane/cli/command.h"
#include "controlplane/cli/finding.h"

namespace guideway::cli {

// `config`: path of node.toml. Returns kRefused if any finding is a failure.
int doctor(const Context& context, const std::string& config);

// The same for the machine given.
int doctor(const Context& context, const std::string& config, const Machine& machine);

}  // namespace guideway::cli
