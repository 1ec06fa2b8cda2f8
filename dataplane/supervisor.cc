// SPDX-License-Identifier: Apache-2.0
#include "dataplane/supervisor.h"

#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cstdint>

namespace guideway {
namespace {

// Four chances before the watchdog bites.
constexpr uint64_t kChances = 4;

}  // namespace

Supervisor::Supervisor() {
  uint64_t limit_us = 0;
  if (sd_watchdog_enabled(0, &limit_us) <= 0) return;
  period_ = std::chrono::milliseconds(std::max<uint64_t>(limit_us / 1000 / kChances, 1));
}

void Supervisor::ready(const std::string& status) const {
  sd_notify(0, ("READY=1\nSTATUS=" + status).c_str());
}

void Supervisor::alive() const {
  if (period_.count() != 0) sd_notify(0, "WATCHDOG=1");
}

void Supervisor::stopping() const {
  sd_notify(0, "STOPPING=1");
}

}  // namespace guideway
