// SPDX-License-Identifier: Apache-2.0
// `guideway backend drain`.
#pragma once

#include <cstdint>
#include <string>

#include "controlplane/cli/command.h"

namespace guideway::cli {

// No new flows for this backend; after `deadline_ms` (rounded up to seconds; 0: never) it is
// disabled. Refused if the pool has no such backend. With `wait` it returns when the backend is
// disabled or removed (kOk), or enabled again (kRefused); a control plane that is away for less
// than a minute does not end that.
int backend_drain(const Context& context, const std::string& pool, const std::string& address,
                  uint64_t deadline_ms, bool wait);

}  // namespace guideway::cli
