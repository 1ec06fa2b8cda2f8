// SPDX-License-Identifier: Apache-2.0
// What the service manager is told about this process (sd_notify(3)): that it is ready, that it is
// alive, that it stops. Without a service manager nothing is said. What it was told is lost when it
// does not listen; that is no error here, for it then acts by its own time limits.
#pragma once

#include <chrono>
#include <string>

namespace guideway {

class Supervisor {
 public:
  // From the environment: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID.
  Supervisor();

  // How often alive() is wanted, with a wide margin; zero: nobody waits for it.
  std::chrono::milliseconds period() const { return period_; }

  void ready(const std::string& status) const;  // `status`: one line for people
  void alive() const;
  void stopping() const;

 private:
  std::chrono::milliseconds period_{0};
};

}  // namespace guideway
