// SPDX-License-Identifier: Apache-2.0
// Big-endian integers as types of their own: a value converts explicitly, with .host(), and is made
// explicitly, from a host integer. Alignment 1, so that wire structs need no packing.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

namespace guideway {

template <typename T>
class BigEndian {
 public:
  constexpr BigEndian() = default;
  constexpr explicit BigEndian(T host) : bytes_(std::bit_cast<Bytes>(swap(host))) {}

  constexpr T host() const { return swap(raw()); }
  // The bytes as they lie in memory, read as a host integer (for checksums and comparisons).
  constexpr T raw() const { return std::bit_cast<T>(bytes_); }
  static constexpr BigEndian from_raw(T raw) {
    BigEndian value;
    value.bytes_ = std::bit_cast<Bytes>(raw);
    return value;
  }

  constexpr bool operator==(const BigEndian&) const = default;

 private:
  using Bytes = std::array<uint8_t, sizeof(T)>;

  static constexpr T swap(T value) {
    if constexpr (std::endian::native == std::endian::big) return value;
    if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
    if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
    if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
  }

  Bytes bytes_{};
};

using be16 = BigEndian<uint16_t>;
using be32 = BigEndian<uint32_t>;
using be64 = BigEndian<uint64_t>;

static_assert(sizeof(be16) == 2 && alignof(be16) == 1);
static_assert(sizeof(be32) == 4 && alignof(be32) == 1);
static_assert(sizeof(be64) == 8 && alignof(be64) == 1);

}  // namespace guideway
