// SPDX-License-Identifier: Apache-2.0
// `guideway node`: drain, enable. Takes this node out of service by BGP, or back.
#pragma once

#include <cstdint>
#include <optional>

#include "controlplane/cli/command.h"

namespace guideway::cli {

// With `wait` it returns when the node is drained and no traffic comes any more (drain), or when
// all VIPs are announced as before (enable); kRefused if that takes longer than `timeout_s`.
int node_drain(const Context& context, bool wait, int64_t timeout_s);
int node_enable(const Context& context, bool wait, int64_t timeout_s);

}  // namespace guideway::cli
