// SPDX-License-Identifier: Apache-2.0
#include "controlplane/event_log.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace guideway {
namespace {

PoolTransition fall(uint64_t at_ns) {
  return {*Address::parse("10.0.0.21"), "up", "down", "refused \"at once\"", at_ns};
}

nlohmann::json events(const EventLog& log, uint64_t since = 0, size_t limit = 100) {
  return nlohmann::json::parse(log.json(since, limit));
}

TEST(EventLog, NumbersTimesAndReasons) {
  EventLog log;
  log.add("web", fall(monotonic_ns()), true);
  log.add("web", {std::nullopt, "normal", "panic", "none is up", monotonic_ns()}, false);
  const auto all = events(log);
  ASSERT_EQ(all["events"].size(), 2u);
  EXPECT_EQ(all["next"], 3);
  EXPECT_EQ(all["events"][0]["number"], 1);
  EXPECT_EQ(all["events"][0]["backend"], "10.0.0.21");
  EXPECT_EQ(all["events"][0]["reason"], "refused \"at once\"");
  EXPECT_TRUE(all["events"][1]["backend"].is_null());
  EXPECT_EQ(all["events"][1]["to"], "panic");
}

TEST(EventLog, TheNewestWithinTheLimit) {
  EventLog log;
  for (int i = 0; i < 10; ++i) log.add("web", fall(monotonic_ns()), true);
  const auto some = events(log, 0, 3);
  ASSERT_EQ(some["events"].size(), 3u);
  EXPECT_EQ(some["events"][0]["number"], 8);
  EXPECT_EQ(events(log, 9)["events"].size(), 2u);
  EXPECT_EQ(events(log, 11)["events"].size(), 0u);
  EXPECT_EQ(events(log, 11)["next"], 11);
}

TEST(EventLog, ForgetsTheOldest) {
  EventLog log;
  for (size_t i = 0; i < kEventsMax + 5; ++i) log.add("web", fall(1), true);
  EXPECT_EQ(events(log, 0, 100'000)["events"].size(), kEventsMax);
  EXPECT_EQ(events(log, 0, 100'000)["events"][0]["number"], 6);
}

TEST(EventLog, TellsHowLongUntilAdopted) {
  EventLog log;
  log.add("web", fall(1'000'000), true);
  log.add("web", fall(1'500'000), false);  // changes no image
  EXPECT_TRUE(events(log)["events"][0]["generation"].is_null());
  log.published(7);
  log.add("web", fall(2'000'000), true);
  log.adopted(7, 4'000'000);
  auto all = events(log)["events"];
  EXPECT_EQ(all[0]["generation"], 7);
  EXPECT_DOUBLE_EQ(all[0]["adopted_ms"], 3.0);
  EXPECT_TRUE(all[1]["generation"].is_null());
  EXPECT_TRUE(all[1]["adopted_ms"].is_null());
  EXPECT_TRUE(all[2]["generation"].is_null());
  log.published(8);
  log.adopted(8, 9'000'000);
  all = events(log)["events"];
  EXPECT_DOUBLE_EQ(all[0]["adopted_ms"], 3.0);
  EXPECT_DOUBLE_EQ(all[2]["adopted_ms"], 7.0);
  EXPECT_TRUE(all[1]["adopted_ms"].is_null());
}

TEST(EventLog, AnOlderGenerationsAckAdoptsNothingNewer) {
  EventLog log;
  log.add("web", fall(1'000'000), true);
  log.published(7);
  log.add("web", fall(2'000'000), true);
  log.published(8);
  log.adopted(7, 3'000'000);
  const auto all = events(log)["events"];
  EXPECT_DOUBLE_EQ(all[0]["adopted_ms"], 2.0);
  EXPECT_TRUE(all[1]["adopted_ms"].is_null());
}

}  // namespace
}  // namespace guideway
