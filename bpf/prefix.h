// SPDX-License-Identifier: Apache-2.0
// An address prefix of either family: "10.0.0.0/24", "fd00::/64".
#pragma once

#include <compare>
#include <string>
#include <string_view>

#include "controlplane/result.h"
#include "dataplane/address.h"

namespace guideway {

struct Prefix {
  Address address;    // bits after the prefix are 0
  unsigned bits = 0;  // 0 to 128, of the 16 bytes: an IPv4 prefix counts 96 more than its text

  // Text; an address without length is the prefix of that one address. Refused: bits set after
  // the prefix, and IPv6 prefixes that hold ::ffff:0:0/96, since they would mean all of IPv4 too.
  static Result<Prefix> parse(std::string_view text);

  std::string text() const;
  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 misreads a defaulted <=>
  auto operator<=>(const Prefix&) const = default;
};

}  // namespace guideway
