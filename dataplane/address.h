// SPDX-License-Identifier: Apache-2.0
// One IP address of either family: 16 bytes in network byte order, IPv4 mapped as ::ffff:a.b.c.d
// (RFC 4291 section 2.5.5.2). Address family is data: code asks is_v4() only where headers differ.
#pragma once

#include <arpa/inet.h>

#include <array>
#include <bit>
#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace guideway {

struct Address {
  std::array<uint8_t, 16> bytes{};

  // Made and compared as two words: what is written in small pieces and then read as a whole
  // stalls the processor.
  using Words = std::array<uint64_t, 2>;
  static Address from_words(const Words& words) { return std::bit_cast<Address>(words); }
  Words words() const { return std::bit_cast<Words>(bytes); }

  static Address from_v4(const void* four_bytes) {
    uint32_t raw;
    std::memcpy(&raw, four_bytes, 4);
    if constexpr (std::endian::native == std::endian::little)
      return from_words({0, uint64_t{raw} << 32 | 0xffff0000u});
    return from_words({0, uint64_t{0xffff} << 32 | raw});
  }
  static Address from_v6(const void* sixteen_bytes) {
    Address a;
    std::memcpy(a.bytes.data(), sixteen_bytes, 16);
    return a;
  }

  // Text of either family without prefix length, zone or brackets; nothing if it is not one, or
  // if it is an IPv4-mapped address written as IPv6 (which would be two spellings of one thing).
  static std::optional<Address> parse(std::string_view text) {
    char buffer[INET6_ADDRSTRLEN];
    if (text.empty() || text.size() >= sizeof buffer) return {};
    if (text.find('\0') != text.npos) return {};
    std::memcpy(buffer, text.data(), text.size());
    buffer[text.size()] = 0;
    uint8_t raw[16];
    if (inet_pton(AF_INET, buffer, raw) == 1) return from_v4(raw);
    if (inet_pton(AF_INET6, buffer, raw) != 1) return {};
    Address a = from_v6(raw);
    if (a.is_v4()) return {};
    return a;
  }

  bool is_v4() const { return words() == from_v4(v4()).words(); }
  const uint8_t* v4() const { return &bytes[12]; }
  const uint8_t* v6() const { return bytes.data(); }

  std::string text() const {
    char buffer[INET6_ADDRSTRLEN];
    if (is_v4()) {
      inet_ntop(AF_INET, v4(), buffer, sizeof buffer);
    } else {
      inet_ntop(AF_INET6, v6(), buffer, sizeof buffer);
    }
    return buffer;
  }

  auto operator<=>(const Address&) const = default;  // NOLINT(modernize-use-nullptr)
  bool operator==(const Address& other) const {
    const Words a = words();
    const Words b = other.words();
    return ((a[0] ^ b[0]) | (a[1] ^ b[1])) == 0;
  }
};
static_assert(sizeof(Address) == 16);

}  // namespace guideway
