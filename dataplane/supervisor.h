// SPDX-License-Identifier: Apache-2.0
// What the service manager is told about this process (sd_notify(3)): that it is ready, that it is
// alive, that it stops; and the descriptors that it holds for the next run (FDSTORE=1), so that
// what hangs on them outlives a kill. Without a service manager nothing is said. What it was told
// is lost when it does not listen; that is no error here, for it then acts by its own time limits.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "controlplane/unique_fd.h"

namespace guideway {

class Supervisor {
 public:
  // From the environment: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID, LISTEN_FDS, LISTEN_FDNAMES.
  Supervisor();

  // How often alive() is wanted, with a wide margin; zero: nobody waits for it.
  std::chrono::milliseconds period() const { return period_; }

  void ready(const std::string& status) const;  // `status`: one line for people
  void alive() const;
  void stopping() const;

  // The manager holds a duplicate until the unit is stopped, as far as FileDescriptorStoreMax= lets
  // it. `name`: no colon.
  void keep(const std::string& name, int fd) const;
  // What a run before this one gave to keep(); empty if nothing. Each can be had once.
  UniqueFd kept(const std::string& name);
  // The manager need not hold it any more.
  void drop(const std::string& name);
  void drop_the_rest();  // nobody asked for it

 private:
  std::map<std::string, UniqueFd> kept_;
  std::chrono::milliseconds period_{0};
};

}  // namespace guideway
