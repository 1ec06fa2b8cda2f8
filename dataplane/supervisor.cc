// SPDX-License-Identifier: Apache-2.0
#include "dataplane/supervisor.h"

#include <stdlib.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cstdint>
#include <utility>

namespace guideway {
namespace {

// Four chances before the watchdog bites.
constexpr uint64_t kChances = 4;

}  // namespace

Supervisor::Supervisor() {
  char** names = nullptr;
  const int count = sd_listen_fds_with_names(1, &names);
  for (int i = 0; i < count; ++i) {
    kept_[names[i]] = UniqueFd(SD_LISTEN_FDS_START + i);
    free(names[i]);
  }
  free(static_cast<void*>(names));

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

void Supervisor::keep(const std::string& name, int fd) const {
  sd_pid_notify_with_fds(0, 0, ("FDSTORE=1\nFDNAME=" + name).c_str(), &fd, 1);
}

UniqueFd Supervisor::kept(const std::string& name) {
  const auto found = kept_.find(name);
  if (found == kept_.end()) return UniqueFd();
  UniqueFd fd = std::move(found->second);
  kept_.erase(found);
  return fd;
}

void Supervisor::drop(const std::string& name) {
  kept_.erase(name);
  sd_notify(0, ("FDSTOREREMOVE=1\nFDNAME=" + name).c_str());
}

void Supervisor::drop_the_rest() {
  while (!kept_.empty()) drop(std::string(kept_.begin()->first));
}

}  // namespace guideway
