// SPDX-License-Identifier: Apache-2.0
#include "controlplane/time_text.h"

#include <gtest/gtest.h>

namespace guideway {
namespace {

TEST(TimeText, UtcThereAndBack) {
  for (int64_t seconds : {0L, 1L, 951782400L, 1795435200L, 253402300799L}) {
    EXPECT_EQ(utc_seconds(utc_text(seconds)), seconds) << utc_text(seconds);
  }
  EXPECT_EQ(utc_text(1795435200), "2026-11-23T12:00:00Z");
  EXPECT_EQ(utc_seconds("2000-02-29T00:00:00Z"), 951782400);
}

TEST(TimeText, OnlyOneFormOfATime) {
  for (const char* bad :
       {"", "2026-11-23", "2026-11-23T12:00:00", "2026-11-23T12:00:00z", "2026-11-23 12:00:00Z",
        "2026-11-23T12:00:00.5Z", "2026-11-23T12:00:00+00:00", "2026-02-30T12:00:00Z",
        "2026-11-23T24:00:00Z", "2026-11-23T12:60:00Z", "2026-11-23T12:00:60Z",
        "2026-13-23T12:00:00Z", "2026-00-23T12:00:00Z", "1969-12-31T23:59:59Z",
        "2026-11-23T12:00:-1Z", " 026-11-23T12:00:00Z", "2026-11-23T12:00:00Z "}) {
    EXPECT_EQ(utc_seconds(bad), std::nullopt) << bad;
  }
}

TEST(TimeText, DurationsAreExactInTheLargestUnit) {
  const std::pair<uint64_t, const char*> table[] = {
      {0, "0 s"},         {1, "1 ms"},      {999, "999 ms"},     {1000, "1 s"},
      {1500, "1500 ms"},  {59000, "59 s"},  {60000, "1 min"},    {90000, "90 s"},
      {600000, "10 min"}, {3600000, "1 h"}, {5400000, "90 min"}, {86400000, "24 h"},
  };
  for (const auto& [ms, text] : table) EXPECT_EQ(duration_text(ms), text);
}

TEST(TimeText, DurationsAsTyped) {
  const std::pair<const char*, uint64_t> table[] = {
      {"0", 0},       {"0s", 0},        {"1ms", 1},        {"10ms", 10},
      {"30s", 30000}, {"10m", 600'000}, {"2h", 7'200'000}, {"18446744073709551615ms", ~0ull},
  };
  for (const auto& [text, ms] : table) {
    auto parsed = parse_duration(text);
    ASSERT_TRUE(parsed) << text << parsed.error().text();
    EXPECT_EQ(*parsed, ms) << text;
  }
  const std::pair<const char*, const char*> bad[] = {
      {"10", "'10' has no unit (10ms, 10s, 10m or 10h)"},
      {"", "'' is no duration (like 10ms, 30s, 10m or 2h)"},
      {"ms", "'ms' is no duration (like 10ms, 30s, 10m or 2h)"},
      {"-1s", "'-1s' is no duration (like 10ms, 30s, 10m or 2h)"},
      {"1.5s", "'1.5s' is no duration (like 10ms, 30s, 10m or 2h)"},
      {"1 s", "'1 s' is no duration (like 10ms, 30s, 10m or 2h)"},
      {"1d", "'1d' is no duration (like 10ms, 30s, 10m or 2h)"},
      {"18446744073709551615h",
       "'18446744073709551615h' is no duration (like 10ms, 30s, 10m or 2h)"},
      {"99999999999999999999s",
       "'99999999999999999999s' is no duration (like 10ms, 30s, 10m or 2h)"},
  };
  for (const auto& [text, message] : bad) {
    auto parsed = parse_duration(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().text(), message);
  }
}

}  // namespace
}  // namespace guideway
