// SPDX-License-Identifier: Apache-2.0
// The client of the control socket: one HTTP request, one answer, over a Unix socket.
#pragma once

#include <string>
#include <string_view>

#include "controlplane/cli/command.h"
#include "controlplane/result.h"

namespace guideway::cli {

// Why there is no 2xx answer.
struct Failure {
  ExitCode code = kRefused;  // kRefused: the server said no; kUnreachable: no answer
  int status = 0;            // HTTP status; 0 without an answer
  Error error;               // field, message and hint, from the answer or about the socket
  std::string body;          // of the answer, as it came; empty without one
};

// The body of a 2xx answer.
using Answer = tl::expected<std::string, Failure>;

class Client {
 public:
  explicit Client(std::string socket) : socket_(std::move(socket)) {}

  // `path` is an absolute path with its query, parts percent-encoded (see escaped()). Blocks until
  // the answer is complete, at most a minute between two bytes of it.
  Answer get(const std::string& path) const { return send("GET", path, ""); }
  Answer put(const std::string& path, const std::string& json) const {
    return send("PUT", path, json);
  }
  Answer remove(const std::string& path) const { return send("DELETE", path, ""); }
  Answer send(const std::string& method, const std::string& path, const std::string& body) const;

 private:
  Failure unreachable(const std::string& problem) const;

  std::string socket_;
};

// One segment of a path, or a value of a query (RFC 3986: all but unreserved, and ':').
std::string escaped(std::string_view segment);

// Says on `err` what went wrong and what to do; with --json also the error object on `out`, so that
// a program need read only one stream. Returns the exit code.
int report(const Context& context, const Failure& failure);

}  // namespace guideway::cli
