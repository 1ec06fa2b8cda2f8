// SPDX-License-Identifier: Apache-2.0
#include "controlplane/time_text.h"

#include <charconv>
#include <ctime>
#include <limits>
#include <system_error>

namespace guideway {
namespace {

constexpr uint64_t kSecond = 1000;
constexpr uint64_t kMinute = 60 * kSecond;
constexpr uint64_t kHour = 60 * kMinute;
constexpr size_t kShownMax = 32;

struct Unit {
  std::string_view typed;
  std::string_view shown;
  uint64_t ms;
};
constexpr Unit kUnits[] = {
    {"h", " h", kHour}, {"m", " min", kMinute}, {"s", " s", kSecond}, {"ms", " ms", 1}};

std::optional<int> digits(std::string_view text) {
  int value = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return {};
    value = value * 10 + (c - '0');
  }
  return value;
}

}  // namespace

std::string utc_text(int64_t seconds) {
  std::time_t time = seconds;
  std::tm parts = {};
  gmtime_r(&time, &parts);
  char buffer[32];
  std::strftime(buffer, sizeof buffer, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return buffer;
}

std::optional<int64_t> utc_seconds(std::string_view text) {
  static constexpr std::string_view kForm = "0000-00-00T00:00:00Z";
  if (text.size() != kForm.size()) return {};
  auto year = digits(text.substr(0, 4)), month = digits(text.substr(5, 2)),
       day = digits(text.substr(8, 2)), hour = digits(text.substr(11, 2)),
       minute = digits(text.substr(14, 2)), second = digits(text.substr(17, 2));
  if (!year || !month || !day || !hour || !minute || !second) return {};
  std::tm parts = {};
  parts.tm_year = *year - 1900;
  parts.tm_mon = *month - 1;
  parts.tm_mday = *day;
  parts.tm_hour = *hour;
  parts.tm_min = *minute;
  parts.tm_sec = *second;
  const int64_t seconds = timegm(&parts);
  // timegm() takes the 30th of February for the 2nd of March, and here the separators are checked.
  if (seconds < 0 || utc_text(seconds) != text) return {};
  return seconds;
}

std::string duration_text(uint64_t ms) {
  if (ms == 0) return "0 s";
  for (const Unit& unit : kUnits) {
    if (ms % unit.ms == 0) return std::to_string(ms / unit.ms) + std::string(unit.shown);
  }
  return {};
}

Result<uint64_t> parse_duration(std::string_view text) {
  const std::string shown = "'" + std::string(text.substr(0, kShownMax)) + "'";
  uint64_t count = 0;
  const char* end = text.data() + text.size();
  auto [stop, error] = std::from_chars(text.data(), end, count);
  if (error != std::errc() || stop == text.data()) {
    return fail("", shown + " is no duration", "like 10ms, 30s, 10m or 2h");
  }
  const std::string_view rest(stop, static_cast<size_t>(end - stop));
  if (rest.empty() && count == 0) return 0;
  for (const Unit& unit : kUnits) {
    if (rest != unit.typed) continue;
    if (count > std::numeric_limits<uint64_t>::max() / unit.ms) break;
    return count * unit.ms;
  }
  if (rest.empty()) {
    const std::string number = std::to_string(count);
    return fail("", shown + " has no unit",
                number + "ms, " + number + "s, " + number + "m or " + number + "h");
  }
  return fail("", shown + " is no duration", "like 10ms, 30s, 10m or 2h");
}

}  // namespace guideway
