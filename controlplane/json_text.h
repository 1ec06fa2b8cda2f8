// SPDX-License-Identifier: Apache-2.0
// JSON as it comes from outside: checked before a tree is made of it.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/result.h"

namespace guideway {

inline constexpr unsigned kJsonDepthMax = 16;

// The tree of a text: an object, not nested deeper than kJsonDepthMax, no key twice in one object.
// An error names the position, or the path of the key below `path` (the path of the whole text).
Result<nlohmann::json> parse_json(std::string_view text, const std::string& path);

// "web" below "pools": "pools.web". Long or unprintable keys are cut and cleaned.
std::string json_path(const std::string& path, std::string_view key);

// A value as an error shows it: short, printable.
std::string json_shown(const nlohmann::json& value);

// "must be an object, got a string"
std::string json_wrong_type(const char* wanted, const nlohmann::json& got);

// Refused if `object` has a field that is not `known`; json_known_here() is the hint.
Result<void> json_only_fields(const nlohmann::json& object, const std::string& path,
                              const std::vector<std::string_view>& known);
std::string json_known_here(const std::vector<std::string_view>& known);

// A whole number in these bounds.
Result<uint64_t> json_number(const nlohmann::json& value, const std::string& path, uint64_t least,
                             uint64_t most);

// `text` as a JSON string, quotes included. Bytes that are no UTF-8 become U+FFFD.
std::string json_quoted(std::string_view text);

}  // namespace guideway
