// SPDX-License-Identifier: Apache-2.0
// A token bucket. Time is a parameter: nanoseconds of any monotonic clock.
#pragma once

#include <algorithm>
#include <cstdint>

namespace guideway {

class RateLimit {
 public:
  constexpr RateLimit(uint32_t per_second, uint32_t burst)
      : ns_per_token_(1'000'000'000u / per_second), capacity_ns_(uint64_t{burst} * ns_per_token_) {}

  // Takes one token if there is one.
  bool take(uint64_t now_ns) {
    // Credit is kept as time, so that nothing is lost to rounding between two calls.
    credit_ns_ = std::min(capacity_ns_, credit_ns_ + (now_ns - last_ns_));
    last_ns_ = now_ns;
    if (credit_ns_ < ns_per_token_) return false;
    credit_ns_ -= ns_per_token_;
    return true;
  }

 private:
  uint64_t ns_per_token_;
  uint64_t capacity_ns_;
  uint64_t credit_ns_ = 0;
  uint64_t last_ns_ = 0;
};

}  // namespace guideway
