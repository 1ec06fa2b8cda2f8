// SPDX-License-Identifier: Apache-2.0
// The control socket's requests and answers (docs/openapi.yaml). Runs in the server's threads:
// reads bodies and writes answers there, and does everything else in the loop's.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "controlplane/control.h"
#include "controlplane/event_loop.h"
#include "controlplane/http_server.h"

namespace guideway {

class Api {
 public:
  using Clock = int64_t (*)();  // seconds since 1970

  // Both must outlive it. `adoption_timeout`: how long ?wait=adopted waits. `clock`: what deadlines
  // count from; null: the system's.
  Api(EventLoop& loop, Control& control,
      std::chrono::milliseconds adoption_timeout = std::chrono::seconds(5), Clock clock = nullptr);

  // From any thread but the loop's.
  HttpReply handle(const HttpRequest& request);

  // `{"error":{...}}`
  static std::string error_body(const Error& error);
  // For what the HTTP layer refuses by itself.
  static std::string http_error_body(int status);

 private:
  EventLoop& loop_;
  Control& control_;
  std::chrono::milliseconds adoption_timeout_;
  Clock clock_;
};

}  // namespace guideway
