// SPDX-License-Identifier: Apache-2.0
// The prober's engine against a made-up port and a made-up clock (fake_probe_world.h).
#include "controlplane/probe_engine.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cmath>
#include <ctime>
#include <random>

#include "tests/controlplane/fake_probe_world.h"

namespace guideway {
namespace {

constexpr uint64_t kSecond = 1'000 * kMs;

double ms(uint64_t ns) {
  return static_cast<double>(ns) / 1e6;
}

TEST(ProbeEngine, ProbesEachTargetOnceInAnIntervalAndSpreadsThem) {
  FakeWorld world;
  world.start(100);
  world.run(kSecond);
  std::map<uint64_t, unsigned> in_ms;
  for (const auto& frame : world.frames)
    if (!frame.reset) ++in_ms[frame.at_ns / kMs];
  for (const auto& [at, count] : in_ms) EXPECT_LE(count, 16u) << at;
  for (uint32_t id = 0; id < 100; ++id) {
    const unsigned probes = world.sent(id, false);
    EXPECT_NEAR(probes, 100, 1);
    EXPECT_NEAR(world.sent(id, true), probes, 1) << "each half-open connection is taken back";
    const ProbeSight sight = world.sight(id);
    EXPECT_EQ(sight.seen, Seen::up);
    EXPECT_FALSE(sight.blind);
    EXPECT_EQ(sight.sent, probes);
    EXPECT_NEAR(static_cast<double>(sight.answered), probes, 1);
    EXPECT_NEAR(sight.rtt_us, 200, 1);
    ASSERT_EQ(world.turns(id).size(), 1u);
    EXPECT_EQ(world.turns(id)[0].change.change.reason, "1 probe answered");
  }
  EXPECT_EQ(world.problem(), "");
}

TEST(ProbeEngine, ADeadHostIsJudgedIn30To40Ms) {
  std::vector<double> took;
  for (unsigned i = 0; i < 100; ++i) {
    FakeWorld world;
    const uint64_t death = world.now + 200 * kMs + i * 137 * kUs;
    world.start(20);
    world.backends[7] = FakeWorld::until(death, FakeWorld::alive, FakeWorld::dead);
    world.run(400 * kMs);
    const auto turns = world.turns(7);
    ASSERT_EQ(turns.size(), 2u);
    EXPECT_EQ(turns[1].change.change.reason, "3 probes without an answer within 10 ms");
    took.push_back(ms(turns[1].known_ns - death));
    EXPECT_EQ(world.falls(), 1u);
  }
  std::sort(took.begin(), took.end());
  EXPECT_GE(took.front(), 29.5);
  EXPECT_LE(took.back(), 42.0);
  EXPECT_LE(took[50], 36.5);
}

TEST(ProbeEngine, ARefusedPortIsJudgedWithTheNextProbe) {
  for (unsigned i = 0; i < 50; ++i) {
    FakeWorld world;
    const uint64_t death = world.now + 200 * kMs + i * 203 * kUs;
    world.start(3);
    world.backends[1] = FakeWorld::until(death, FakeWorld::alive, FakeWorld::refusing);
    world.run(300 * kMs);
    const auto turns = world.turns(1);
    ASSERT_EQ(turns.size(), 2u);
    EXPECT_EQ(turns[1].change.change.reason, "refused");
    EXPECT_LE(ms(turns[1].known_ns - death), 10.8);
    EXPECT_LE(ms(turns[1].known_ns - turns[1].change.change.at_ns), 0.5);
  }
}

TEST(ProbeEngine, AloneItAsksTheGateway) {
  for (const uint32_t interval : {1u, 10u, 100u}) {
    SCOPED_TRACE(interval);
    FakeWorld world;
    world.start(1, true, interval, interval);
    world.run(kSecond);
    EXPECT_EQ(world.sent(FakeWorld::kGateway, false), 0u) << "nobody is in doubt";
    const uint64_t death = world.now;
    world.backends[0] = FakeWorld::dead;
    world.run(kSecond);
    const auto turns = world.turns(0);
    ASSERT_EQ(turns.size(), 2u);
    EXPECT_LE(ms(turns[1].known_ns - death), 4.2 * interval + 2);
    EXPECT_EQ(world.problem(), "");
    EXPECT_FALSE(world.sight(0).blind);
    const unsigned asked = world.sent(FakeWorld::kGateway, false);
    EXPECT_LE(asked, 20u) << "once it is down the doubt matters little";
  }
}

TEST(ProbeEngine, AloneWithoutAGatewayItCannotTell) {
  FakeWorld world;
  world.start(1);
  world.run(100 * kMs);
  world.backends[0] = FakeWorld::dead;
  world.run(kSecond);
  EXPECT_EQ(world.falls(), 0u);
  EXPECT_TRUE(world.sight(0).blind);
  EXPECT_EQ(world.problem(), "nothing comes back by eth1");
  EXPECT_EQ(world.changes.back().change.change.reason, "nothing comes back by eth1");
  world.backends[0] = FakeWorld::alive;
  world.run(20 * kMs);
  EXPECT_FALSE(world.sight(0).blind);
  EXPECT_EQ(world.changes.back().change.change.reason, "probing works again");
  EXPECT_EQ(world.problem(), "");
}

TEST(ProbeEngine, AllDeadButTheGateway) {
  FakeWorld world;
  world.start(50, true);
  world.run(100 * kMs);
  const uint64_t death = world.now;
  for (uint32_t id = 0; id < 50; ++id) world.backends[id] = FakeWorld::dead;
  world.run(kSecond);
  EXPECT_EQ(world.falls(), 50u);
  for (uint32_t id = 0; id < 50; ++id) {
    ASSERT_EQ(world.turns(id).size(), 2u);
    EXPECT_LE(ms(world.turns(id)[1].known_ns - death), 45);
    EXPECT_FALSE(world.sight(id).blind);
  }
}

TEST(ProbeEngine, SlowAnswersAreMissesAndSaidToBe) {
  FakeWorld world;
  world.start(3);
  world.run(100 * kMs);
  world.backends[0] = [](uint64_t) { return FakeWorld::Answer{.after_ns = 15 * kMs}; };
  world.run(300 * kMs);
  const auto turns = world.turns(0);
  ASSERT_EQ(turns.size(), 2u);
  EXPECT_EQ(turns[1].change.change.reason,
            "3 probes without an answer within 10 ms (an earlier one was answered after 15 ms)");
  EXPECT_GT(world.sight(0).rtt_us, 10'000u);
  EXPECT_GE(world.sent(0, true) + 2, world.sent(0, false));
}

// A SYN-ACK that was lost, or comes too late, leaves no socket either.
TEST(ProbeEngine, TakesBackWhatWasNotAnswered) {
  FakeWorld world;
  world.start(3);
  world.backends[0] = FakeWorld::dead;
  world.run(kSecond);
  EXPECT_NEAR(world.sent(0, true), world.sent(0, false), 4);
  ProbeTarget icmp = FakeWorld::target(0);
  icmp.probe.kind = ProbeKind::icmp;
  world.frames.clear();
  world.set_targets({icmp});
  world.run(kSecond);
  EXPECT_LE(world.sent(0, true), 4u);
  EXPECT_NEAR(world.sent(0, false), 100, 1);
}

TEST(ProbeEngine, AWayThatChangedKeepsTheVerdict) {
  FakeWorld world;
  world.start(3);
  world.run(105 * kMs);
  world.changes.clear();
  std::vector<ProbeTarget> targets;
  for (uint32_t id = 0; id < 3; ++id) targets.push_back(FakeWorld::target(id));
  targets[0].outer[5] = 1;
  world.set_targets(targets);
  EXPECT_EQ(world.sight(0).seen, Seen::up);
  const uint64_t sent = world.sight(0).sent;
  world.run(100 * kMs);
  EXPECT_NEAR(static_cast<double>(world.sight(0).sent - sent), 10, 1);
  EXPECT_EQ(world.turns(1).size(), 0u);

  targets[0].probe.fall = 5;
  targets.erase(targets.begin() + 1);
  world.set_targets(targets);
  EXPECT_EQ(world.engine.sights().size(), 2u);
  EXPECT_EQ(world.sight(0).seen, Seen::unknown) << "another probe, another judge";
  EXPECT_EQ(world.sight(2).seen, Seen::up);
  world.run(50 * kMs);
  EXPECT_EQ(world.sight(0).seen, Seen::up);
  EXPECT_EQ(world.sight(2).seen, Seen::up);
}

// A gateway's new MAC address changes the way of all targets at once.
TEST(ProbeEngine, ManyWaysChangeAtOnce) {
  FakeWorld world;
  world.start(5000, false, 100, 100);
  world.run(250 * kMs);
  std::vector<ProbeTarget> targets;
  for (uint32_t id = 0; id < 5000; ++id) {
    targets.push_back(FakeWorld::target(id, 100, 100));
    targets.back().outer[5] = 7;
  }
  const std::clock_t begun = std::clock();
  world.set_targets(targets);
  std::printf("5000 ways changed in %.1f ms of CPU\n",
              1e3 * static_cast<double>(std::clock() - begun) / CLOCKS_PER_SEC);
  world.changes.clear();
  world.run(300 * kMs);
  for (const ProbeSight& sight : world.engine.sights()) {
    EXPECT_EQ(sight.seen, Seen::up);
    EXPECT_FALSE(sight.blind);
  }
  EXPECT_EQ(world.falls(), 0u);
}

TEST(ProbeEngine, WhatCannotBeProbedSaysWhy) {
  FakeWorld world;
  world.start(1);
  ProbeTarget elsewhere = FakeWorld::target(1);
  elsewhere.interface = "eth9";
  ProbeTarget broken = FakeWorld::target(2);
  broken.outer.assign(20, 0);
  ProbeTarget foreign = FakeWorld::target(kProbeTargetsMax);
  world.set_targets({FakeWorld::target(0), elsewhere, broken, foreign});
  world.run(100 * kMs);
  EXPECT_EQ(world.sight(0).seen, Seen::up);
  EXPECT_EQ(world.engine.sights().size(), 3u);
  std::map<uint32_t, std::string> reasons;
  for (const auto& one : world.changes) reasons[one.change.id] = one.change.change.reason;
  EXPECT_EQ(reasons[1], "eth9 is no port");
  EXPECT_EQ(reasons[2], "probe: an outer header of 20 bytes");
  world.engine.set_ports({}, world.now);
  world.run(100 * kMs);
  EXPECT_EQ(world.changes.back().change.change.reason, "eth1 is a port no more");
  EXPECT_EQ(world.falls(), 0u);
}

TEST(ProbeEngine, HttpIsAskedForAndJudged) {
  FakeWorld world;
  world.start(2, true);
  ProbeTarget http = FakeWorld::target(5, 100, 50);
  http.probe.kind = ProbeKind::http;
  http.probe.path = "/";
  http.outer.clear();
  world.set_targets({FakeWorld::target(0), http});
  world.run(110 * kMs);
  ASSERT_EQ(world.http.size(), 1u);
  world.run(kSecond);
  ASSERT_EQ(world.http.size(), 1u) << "one at a time";

  const auto answer = [&](Outcome::Kind kind, const std::string& detail = {}) {
    const HttpRequest request = world.http.back();
    world.engine.take_http(
        {request.id, request.token, {kind, world.now - 10 * kMs, world.now, 10'000, detail}});
    world.run(200 * kMs);
    EXPECT_NE(world.http.back().token, request.token);
  };
  answer(Outcome::Kind::alive);
  EXPECT_EQ(world.sight(5).seen, Seen::up);
  EXPECT_EQ(world.sight(5).rtt_us, 10'000u);
  answer(Outcome::Kind::bad, "GET /: status 500");
  answer(Outcome::Kind::silent);
  EXPECT_EQ(world.sight(5).seen, Seen::up);
  answer(Outcome::Kind::silent);
  EXPECT_EQ(world.sight(5).seen, Seen::down) << "others were heard by the same port";

  // The port is cut off, and http with it.
  for (int i = 0; i < 10; ++i) answer(Outcome::Kind::alive);
  EXPECT_EQ(world.sight(5).seen, Seen::up);
  world.link.set(world.now, false);
  for (int i = 0; i < 5; ++i) answer(Outcome::Kind::silent);
  EXPECT_EQ(world.sight(5).seen, Seen::up);
  EXPECT_TRUE(world.sight(5).blind);
  EXPECT_EQ(world.falls(), 1u);
}

TEST(ProbeEngine, AnHttpThreadThatDoesNotAnswerIsNoFaultOfTheBackend) {
  FakeWorld world;
  ProbeTarget http = FakeWorld::target(5, 100, 50);
  http.probe.kind = ProbeKind::http;
  world.set_targets({http});
  world.run(2300 * kMs);
  ASSERT_FALSE(world.changes.empty());
  EXPECT_TRUE(world.sight(5).blind);
  EXPECT_EQ(world.http.size(), 2u);
  const HttpRequest old = world.http.front();
  world.engine.take_http({old.id, old.token, {Outcome::Kind::alive, world.now, world.now, 1, {}}});
  world.run(10 * kMs);
  EXPECT_EQ(world.sight(5).seen, Seen::unknown) << "an answer to an earlier request";
}

// What 1,000 backends every 10 ms cost the engine itself; printed, not asserted.
TEST(ProbeEngine, Cost) {
  FakeWorld world;
  world.start(1000);
  world.run(100 * kMs);
  world.steps = world.batches = 0;
  world.frames.clear();
  world.run(kSecond);
  EXPECT_NEAR(static_cast<double>(world.frames.size()), 200'000, 2'000);
  EXPECT_LE(world.steps, 2100u);
  EXPECT_LE(world.batches, 5000u);
  std::printf("steps %lu, sendmmsg %lu a second\n", world.steps, world.batches);
}

}  // namespace
}  // namespace guideway
