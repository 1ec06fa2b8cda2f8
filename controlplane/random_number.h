// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/random.h>

#include <cstdint>

namespace guideway {

// From the kernel; never 0.
inline uint64_t random_number() {
  uint64_t out = 0;
  while (out == 0 && getrandom(&out, sizeof out, 0) == sizeof out) continue;
  return out;
}

}  // namespace guideway
