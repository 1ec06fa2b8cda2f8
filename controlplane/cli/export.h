// SPDX-License-Identifier: Apache-2.0
// guideway export: the intent as TOML, which `guideway apply` reads.
#pragma once

#include "controlplane/cli/command.h"

namespace guideway::cli {

int export_intent(const Context& context);

}  // namespace guideway::cli
