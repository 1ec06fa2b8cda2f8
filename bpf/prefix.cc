// SPDX-License-Identifier: Apache-2.0
#include "bpf/prefix.h"

#include <charconv>

namespace guideway {

namespace {

constexpr unsigned kMappedBits = 96;

Address masked(Address address, unsigned bits) {
  for (unsigned i = 0; i < address.bytes.size(); ++i) {
    unsigned kept = bits > i * 8 ? std::min(bits - i * 8, 8u) : 0;
    address.bytes[i] &= static_cast<uint8_t>(0xff00u >> kept);
  }
  return address;
}

}  // namespace

Result<Prefix> Prefix::parse(std::string_view text) {
  std::string field(text);
  size_t slash = text.find('/');
  std::optional<Address> address = Address::parse(text.substr(0, slash));
  if (!address) return fail(field, "is no prefix", "write 10.0.0.0/24 or fd00::/64");

  unsigned most = address->is_v4() ? 32 : 128;
  unsigned bits = most;
  if (slash != std::string_view::npos) {
    std::string_view digits = text.substr(slash + 1);
    auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
    if (error != std::errc{} || stop != digits.data() + digits.size() || bits > most)
      return fail(field, "prefix length must be 0 to " + std::to_string(most));
  }

  Prefix prefix{*address, bits + (address->is_v4() ? kMappedBits : 0)};
  Prefix sound{masked(prefix.address, prefix.bits), prefix.bits};
  if (sound != prefix) return fail(field, "bits are set after the prefix", "write " + sound.text());

  static constexpr uint8_t kAnyV4[4] = {};
  bool holds_v4 = masked(Address::from_v4(kAnyV4), prefix.bits) == prefix.address;
  if (!address->is_v4() && holds_v4)
    return fail(field, "is too wide", "2000::/3 holds all public IPv6 addresses");
  return prefix;
}

std::string Prefix::text() const {
  // A v4-mapped address with a short length is IPv6 text by construction of parse().
  unsigned shown = address.is_v4() && bits >= kMappedBits ? bits - kMappedBits : bits;
  return address.text() + "/" + std::to_string(shown);
}

}  // namespace guideway
