// SPDX-License-Identifier: Apache-2.0
// GET requests to backends, in a thread of its own (libcurl): to the backend's own address, by the
// kernel's routes. No redirect is followed, no proxy or environment used, no connection kept; of
// the body at most 64 KiB are read, and thrown away.
//
// The outcome of a request:
//   alive    a status of 200 to 399 and the body, or 64 KiB of it, within the time-out
//   refused  connection refused
//   bad      another status, no HTTP, or a connection but no whole answer in time
//   silent   no connection; whether that tells of the backend is for the caller to judge
//   unsure   this machine has no socket, no memory, no route, or was too busy
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "controlplane/judge.h"
#include "controlplane/result.h"
#include "dataplane/address.h"

namespace guideway {

struct HttpRequest {
  uint32_t id = 0;     // the target's
  uint64_t token = 0;  // given back with the answer
  Address address;
  Probe probe;  // kind http
};

struct HttpAnswer {
  uint32_t id = 0;
  uint64_t token = 0;
  Outcome outcome;
};

class HttpProber {
 public:
  using OnAnswer = std::function<void(HttpAnswer)>;  // in the prober's thread

  // Starts the thread, in the network namespace of the caller.
  static Result<std::unique_ptr<HttpProber>> create(OnAnswer on_answer);
  // What is under way is dropped, without an answer.
  ~HttpProber();
  HttpProber(const HttpProber&) = delete;
  HttpProber& operator=(const HttpProber&) = delete;

  // From any thread; does not wait. Each request gets one answer.
  void start(HttpRequest request);

 private:
  class Impl;
  explicit HttpProber(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace guideway
