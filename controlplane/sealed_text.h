// SPDX-License-Identifier: Apache-2.0
// A line of JSON that was written by Guideway and must come back as it was: two lines, the first
// about the second.
//
//   {"format":1,"checksum":"<XXH3 of name and second line, without newline, 16 hex digits>"}
//   {...}
#pragma once

#include <string>
#include <string_view>

#include "controlplane/result.h"

namespace guideway {

// What stands under another name does not read. The name is not in the text.
std::string seal(std::string_view line, std::string_view name);

struct Unsealable {
  std::string why;     // "is damaged: its checksum is wrong"
  bool newer = false;  // of a format that this version does not know
};

// The second line. Points into `text`.
tl::expected<std::string_view, Unsealable> unseal(std::string_view text, std::string_view name);

}  // namespace guideway
