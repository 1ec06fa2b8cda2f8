// SPDX-License-Identifier: Apache-2.0
// What the generator tells of itself, in a file that scripts/lib/bench_packet.py reads: five 64-bit
// words. `sequence` is odd while the others are written.
#pragma once

#include <cstdint>

namespace guideway {

struct Stamp {
  uint64_t sequence;
  uint64_t received;  // packets handed out
  uint64_t sent;      // packets taken back by transmit
  uint64_t cpu_ns;    // CPU time of the polling thread: what others take from it does not count
  uint64_t wall_ns;   // CLOCK_MONOTONIC
};
static_assert(sizeof(Stamp) == 40);

// A cache line each, and the next one, which some processors fetch along.
inline constexpr unsigned kStampBytes = 128;
inline constexpr unsigned kStampsMax = 8;

}  // namespace guideway
