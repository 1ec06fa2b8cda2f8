// SPDX-License-Identifier: Apache-2.0
// What every command gets and gives: the context it runs in, and its exit code.
#pragma once

#include <ostream>
#include <string>

namespace guideway::cli {

enum ExitCode : int {
  kOk = 0,           // done, or nothing to do
  kRefused = 1,      // the control plane refused it; a file is unreadable; doctor found a failure
  kUsage = 2,        // the command line is wrong
  kUnreachable = 3,  // no answer from the control plane
};

inline constexpr const char* kDefaultSocket = "/run/guideway/control.sock";

struct Context {
  Context(std::ostream& output, std::ostream& errors) : out(output), err(errors) {}

  std::string socket = kDefaultSocket;
  bool socket_given = false;  // by --socket or GUIDEWAY_SOCKET
  bool json = false;          // print the server's JSON, unchanged
  bool colour = false;        // `out` is a terminal and NO_COLOR is not set
  bool err_terminal = false;  // `err` is a terminal
  bool wait = true;           // changes wait until the dataplane has adopted them
  bool force = false;         // planned changes do not wait for old connections
  std::ostream& out;
  std::ostream& err;
};

}  // namespace guideway::cli
