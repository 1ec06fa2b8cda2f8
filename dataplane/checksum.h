// SPDX-License-Identifier: Apache-2.0
// The Internet checksum (RFC 1071) and its incremental update (RFC 1624). Sums are kept in the byte
// order of memory, so nothing is swapped on the way (RFC 1071 section 2(B)).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "dataplane/byteorder.h"

namespace guideway {

// Adds `bytes` bytes to an unfolded one's complement sum; an odd last byte is padded with zero.
inline uint64_t checksum_add(const void* data, size_t bytes, uint64_t sum = 0) {
  const auto* p = static_cast<const uint8_t*>(data);
  for (; bytes >= 4; p += 4, bytes -= 4) {
    uint32_t word;
    std::memcpy(&word, p, 4);
    sum += word;
  }
  if (bytes >= 2) {
    uint16_t word;
    std::memcpy(&word, p, 2);
    sum += word;
    p += 2;
    bytes -= 2;
  }
  if (bytes) {
    uint16_t word = 0;
    std::memcpy(&word, p, 1);
    sum += word;
  }
  return sum;
}

// checksum_add() of the 20 bytes of an IPv4 header without options.
inline uint64_t checksum_v4_header(const void* data) {
  uint64_t first, second;
  uint32_t third;
  const auto* p = static_cast<const uint8_t*>(data);
  std::memcpy(&first, p, 8);
  std::memcpy(&second, p + 8, 8);
  std::memcpy(&third, p + 16, 4);
  return (first & UINT32_MAX) + (first >> 32) + (second & UINT32_MAX) + (second >> 32) + third;
}

// Folds a sum to 16 bits, not complemented: 0xffff for data whose checksum is right.
inline uint16_t checksum_fold(uint64_t sum) {
  // A number and the same with its halves exchanged add up, in the upper half, to the sum of the
  // halves with its carry added.
  sum += std::rotl(sum, 32);
  auto half = static_cast<uint32_t>(sum >> 32);
  half += std::rotl(half, 16);
  return static_cast<uint16_t>(half >> 16);
}

// The value of a checksum field, ready to be stored.
inline be16 checksum_finish(uint64_t sum) {
  return be16::from_raw(static_cast<uint16_t>(~checksum_fold(sum)));
}

// The checksum after one 16-bit field of the data changed: HC' = ~(~HC + ~m + m').
inline be16 checksum_update(be16 checksum, be16 before, be16 after) {
  const uint64_t sum = uint64_t{static_cast<uint16_t>(~checksum.raw())} +
                       static_cast<uint16_t>(~before.raw()) + after.raw();
  return checksum_finish(sum);
}

}  // namespace guideway
