// SPDX-License-Identifier: Apache-2.0
// `guideway events`: what happened to backends and pools.
#pragma once

#include <cstdint>
#include <optional>

#include "controlplane/cli/command.h"

namespace guideway::cli {

struct EventsWanted {
  std::optional<uint64_t> since;  // a number; absent: from the first that is kept
  std::optional<uint64_t> limit;  // absent: 100; with follow, 10
  bool follow = false;            // until it is killed; with --json one event on each line
};

int events(const Context& context, const EventsWanted& wanted);

}  // namespace guideway::cli
