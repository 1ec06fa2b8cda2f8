// SPDX-License-Identifier: Apache-2.0
// Whether all workers live, by their heartbeats: counters that grow every few milliseconds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace guideway {

class Pulse {
 public:
  // True once every worker's heartbeat differs from what it was when this was last true (at first:
  // from 0). `beats`: one per worker, the same workers each time. So one worker that stands still
  // keeps it false, however long the others go on, and it takes no clock.
  bool felt(std::vector<uint64_t> beats) {
    last_.resize(beats.size());
    for (size_t i = 0; i < beats.size(); ++i)
      if (beats[i] == last_[i]) return false;
    last_ = std::move(beats);
    return true;
  }

 private:
  std::vector<uint64_t> last_;
};

}  // namespace guideway
