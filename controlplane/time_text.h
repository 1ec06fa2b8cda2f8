// SPDX-License-Identifier: Apache-2.0
// Times and durations as text: RFC 3339 for JSON, units for people.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "controlplane/result.h"

namespace guideway {

// Seconds since 1970 as "2026-11-23T12:00:00Z", and back: of that form alone (RFC 3339, UTC, whole
// seconds), 1970 to 9999.
std::string utc_text(int64_t seconds);
std::optional<int64_t> utc_seconds(std::string_view text);

// "10 ms", "1500 ms", "30 s", "10 min", "2 h": exact, in the largest unit that allows it; "0 s".
std::string duration_text(uint64_t ms);

// Milliseconds of "10ms", "30s", "10m" or "2h"; 0 needs no unit. The error's field is empty.
Result<uint64_t> parse_duration(std::string_view text);

}  // namespace guideway
