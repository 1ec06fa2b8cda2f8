// SPDX-License-Identifier: Apache-2.0
// What the prober needs of a port: frames out, and what `edge` has taken in. ProbeSocket is the
// kernel's; tests have their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "bpf/scoreboard.h"
#include "controlplane/result.h"

namespace guideway {

class ProbePath {
 public:
  virtual ~ProbePath() = default;

  // Makes the socket and maps the scoreboard of the `edge` that is attached now; anew, if they were
  // there. Errors say why it cannot; then nothing below but open() may be called.
  virtual Result<void> open() = 0;
  // Whether what open() found is still so. A few system calls.
  virtual Result<void> check() = 0;

  // As in bpf/scoreboard.h.
  virtual void expect(uint32_t target, uint32_t attempt, uint32_t awaited) = 0;
  virtual void forget(uint32_t target) = 0;
  virtual Scoreboard::Reply read(uint32_t target, uint32_t attempt) const = 0;

  using Frame = std::span<const uint8_t>;
  static constexpr size_t kFramesMax = 64;
  struct Sent {
    size_t frames = 0;       // as many of the first ones were sent
    int error = 0;           // errno, of the first; if some were sent, 0: try the rest
    uint64_t before_ns = 0;  // CLOCK_MONOTONIC
    uint64_t after_ns = 0;
  };
  // At most kFramesMax. Does not wait.
  virtual Sent send(std::span<const Frame> frames) = 0;
};

}  // namespace guideway
