// SPDX-License-Identifier: Apache-2.0
// The prober's engine in trouble: the port, `edge`, the dataplane, this machine or the links fail,
// and nobody is blamed for it who is not to blame.
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

// The node is cut off, for as long as it may be: nobody falls.
TEST(ProbeTrouble, AnOutageOfThePortHarmsNobody) {
  std::mt19937 random(1);
  for (const auto& [interval, timeout] :
       {std::pair{10u, 10u}, {10u, 100u}, {1u, 5u}, {100u, 100u}}) {
    for (const uint64_t length : {1u, 5u, 12u, 30u, 60u, 105u, 300u, 2000u}) {
      for (const bool gateway : {false, true}) {
        SCOPED_TRACE(testing::Message() << interval << "/" << timeout << " ms, outage " << length
                                        << " ms, gateway " << gateway);
        FakeWorld world;
        world.start(20, gateway, interval, timeout);
        // Answers take longer from one than from another.
        for (uint32_t id = 0; id < 20; ++id)
          world.backends[id] = [id, timeout = timeout](uint64_t) {
            return FakeWorld::Answer{.after_ns = timeout * kMs / 2 * (id + 1) / 21};
          };
        world.run(500 * kMs + random() % 10'000 * kUs);
        world.link.set(world.now, false);
        world.link.set(world.now + length * kMs, true);
        world.run(length * kMs + 500 * kMs);
        EXPECT_EQ(world.falls(), 0u);
        for (uint32_t id = 0; id < 20; ++id) {
          EXPECT_EQ(world.sight(id).seen, Seen::up);
          EXPECT_FALSE(world.sight(id).blind);
        }
      }
    }
  }
}

// Frames wait in the port's queues, as while a dataplane starts or nobody gives it a CPU: for a
// while, again and again, or all of them for longer than a probe waits; or they are lost.
TEST(ProbeTrouble, QueuesOnTheWayHarmNobody) {
  for (const auto& [interval, timeout] : {std::pair{10u, 10u}, {10u, 30u}, {1u, 5u}, {100u, 10u}}) {
    for (const uint64_t stall : {5u, 12u, 25u, 45u, 60u, 300u}) {
      for (const bool lost : {false, true}) {
        // The end of a stall may cost a miss. No three in a row, unless a target's probes keep step
        // with the stalls.
        if (lost && (stall < 25 || interval > timeout)) continue;
        const uint64_t rest = interval > timeout ? 4 * interval : stall;
        SCOPED_TRACE(testing::Message() << interval << "/" << timeout << " ms, stalls of " << stall
                                        << " ms" << (lost ? ", lost" : ""));
        FakeWorld world;
        world.start(20, true, interval, timeout);
        world.run(200 * kMs);
        const uint64_t begin = world.now;
        constexpr uint64_t kNever = kSecond * kSecond;
        world.leaves = [&](uint64_t sent) {
          const uint64_t phase = (sent - begin) % ((stall + rest) * kMs);
          if (phase >= stall * kMs) return sent;
          return lost ? sent + kNever : sent - phase + stall * kMs;
        };
        world.run(3 * kSecond);
        EXPECT_EQ(world.falls(), 0u);
        // A queue that does not get shorter.
        world.leaves = [&](uint64_t sent) { return sent + stall * kMs; };
        world.run(kSecond);
        EXPECT_EQ(world.falls(), 0u);
        world.leaves = {};
        world.run(400 * kMs);
        for (uint32_t id = 0; id < 20; ++id) {
          EXPECT_EQ(world.sight(id).seen, Seen::up);
          EXPECT_FALSE(world.sight(id).blind);
        }
        const unsigned before = world.falls();
        world.backends[4] = FakeWorld::dead;
        world.run(6 * interval * kMs + timeout * kMs);
        EXPECT_EQ(world.falls(), before + 1) << "death is still seen";
      }
    }
  }
}

// With few others, whose probes keep their phases, and with time-outs much shorter than intervals.
TEST(ProbeTrouble, ADeathIsSeenHoweverFewThereAre) {
  struct Case {
    unsigned interval, timeout, rtt_ms, targets;
    bool gateway;
    uint64_t gateway_ms;
  };
  for (const Case& c : {Case{100, 10, 0, 8, false, 0}, Case{1000, 300, 5, 3, false, 0},
                        Case{100, 100, 40, 2, false, 0}, Case{100, 100, 5, 6, false, 0},
                        Case{10, 10, 0, 2, false, 0}, Case{10, 10, 0, 1, true, 6},
                        Case{100, 100, 20, 1, true, 60}, Case{1000, 100, 30, 1, true, 1}}) {
    for (uint32_t dead = 0; dead < c.targets; ++dead) {
      SCOPED_TRACE(testing::Message()
                   << c.interval << "/" << c.timeout << " ms, rtt " << c.rtt_ms << ", " << dead
                   << " of " << c.targets << " dies, gateway " << c.gateway_ms);
      FakeWorld world;
      world.start(c.targets, c.gateway, c.interval, c.timeout);
      for (auto& [id, backend] : world.backends) {
        const uint64_t rtt = id == FakeWorld::kGateway ? c.gateway_ms * kMs : c.rtt_ms * kMs;
        backend = [rtt](uint64_t) { return FakeWorld::Answer{.after_ns = rtt + 200 * kUs}; };
      }
      world.run(10 * c.interval * kMs);
      EXPECT_EQ(world.sight(dead).seen, Seen::up);
      world.backends[dead] = FakeWorld::dead;
      world.run((4 * c.interval + 2 * c.timeout + 10) * kMs);
      EXPECT_EQ(world.falls(), 1u);
      EXPECT_EQ(world.sight(dead).seen, Seen::down);
    }
  }
}

// One backend that is slow now and then, and nobody else to ask: no news with each probe.
TEST(ProbeTrouble, ALateAnswerIsNoNews) {
  FakeWorld world;
  world.start(1);
  unsigned asked = 0;
  world.backends[0] = [&](uint64_t) {
    return FakeWorld::Answer{.after_ns = (++asked % 2 ? 8 : 12) * kMs};
  };
  world.run(3 * kSecond);
  EXPECT_LE(world.changes.size(), 3u);
  EXPECT_EQ(world.falls(), 0u);
}

TEST(ProbeTrouble, ARestartOfEdgeHarmsNobody) {
  std::mt19937 random(2);
  for (const uint64_t away : {0u, 3u, 50u, 700u}) {
    for (const uint32_t timeout : {10u, 100u}) {
      SCOPED_TRACE(testing::Message() << "away " << away << " ms, time-out " << timeout);
      FakeWorld world;
      world.start(20, true, 10, timeout);
      for (unsigned program = 8; program < 18; ++program) {
        world.run(200 * kMs + random() % 10'000 * kUs);
        if (away) world.program.set(world.now, 0);
        world.program.set(world.now + away * kMs, program);
        if (away > 600) {
          world.run(500 * kMs);
          EXPECT_EQ(world.problem(), "eth1: the edge program is not attached");
          EXPECT_TRUE(world.sight(3).blind);
        }
        world.run(away * kMs + 300 * kMs);
        EXPECT_EQ(world.problem(), "");
      }
      EXPECT_EQ(world.falls(), 0u);
      for (uint32_t id = 0; id < 20; ++id) {
        EXPECT_EQ(world.sight(id).seen, Seen::up);
        EXPECT_FALSE(world.sight(id).blind);
      }
    }
  }
}

// Others were heard just before `edge` was replaced, and the slow one's answer came just after.
TEST(ProbeTrouble, AnAnswerThatMissesEdgeIsNoMiss) {
  for (unsigned i = 0; i < 40; ++i) {
    FakeWorld world;
    world.start(20);
    std::vector<ProbeTarget> targets;
    for (uint32_t id = 0; id < 20; ++id) targets.push_back(FakeWorld::target(id));
    targets[3].probe.fall = 1;
    world.set_targets(targets);
    world.backends[3] = [](uint64_t) { return FakeWorld::Answer{.after_ns = 8 * kMs}; };
    world.run(130 * kMs + i * 250 * kUs);
    world.program.set(world.now, 8);
    world.run(100 * kMs);
    EXPECT_EQ(world.falls(), 0u) << i;
  }
}

TEST(ProbeTrouble, WithoutEdgeNothingIsSentAndItComesBackSoon) {
  FakeWorld world;
  world.program.set(0, 0);
  world.start(3);
  world.run(300 * kMs);
  EXPECT_EQ(world.frames.size(), 0u);
  ASSERT_EQ(world.changes.size(), 3u) << "said once of each";
  EXPECT_EQ(world.changes[0].change.change.reason, "eth1: the edge program is not attached");
  world.program.set(world.now, 7);
  world.run(35 * kMs);
  for (uint32_t id = 0; id < 3; ++id) EXPECT_EQ(world.sight(id).seen, Seen::up);
}

TEST(ProbeTrouble, AnOwnedPortNeedsItsDataplane) {
  FakeWorld world;
  world.start(5, true);
  ProbePort port = FakeWorld::port(true);
  port.owned = true;
  world.engine.set_ports({port}, world.now);
  EXPECT_EQ(world.paths, 2u) << "an owned port is another";
  world.run(100 * kMs);
  EXPECT_EQ(world.problem(), "eth1: no dataplane is connected");
  EXPECT_TRUE(world.sight(0).blind);
  EXPECT_EQ(world.sight(0).sent, 0u);

  for (uint64_t connection = 1; connection < 6; ++connection) {
    port.connection = connection;
    world.engine.set_ports({port}, world.now);
    world.run(100 * kMs);
    EXPECT_EQ(world.sight(0).seen, Seen::up);
    EXPECT_EQ(world.problem(), "");
    // It dies; that is noticed a little later.
    world.link.set(world.now, false);
    world.run(15 * kMs);
    port.connection = 0;
    world.engine.set_ports({port}, world.now);
    world.run(300 * kMs);
    EXPECT_TRUE(world.sight(0).blind);
    world.link.set(world.now, true);
  }
  EXPECT_EQ(world.falls(), 0u);
  EXPECT_EQ(world.paths, 2u);
}

// However late the thread looks, stamps decide.
TEST(ProbeTrouble, AThreadThatSleepsSeesNoMisses) {
  for (const auto& [interval, timeout] : {std::pair{10u, 10u}, {10u, 100u}, {1u, 2u}, {1u, 100u}}) {
    for (const uint64_t rtt : {200 * kUs, 900 * kUs, timeout * kMs * 9 / 10}) {
      SCOPED_TRACE(testing::Message() << interval << "/" << timeout << " ms, rtt " << rtt);
      std::mt19937 random(3);
      FakeWorld world;
      world.oversleep = [&] { return random() % 50 ? random() % 100 * kUs : 200 * kMs; };
      world.start(10, false, interval, timeout);
      for (auto& [id, backend] : world.backends)
        backend = [rtt](uint64_t) { return FakeWorld::Answer{.after_ns = rtt}; };
      world.run(5 * kSecond);
      EXPECT_EQ(world.falls(), 0u);
      for (uint32_t id = 0; id < 10; ++id) EXPECT_EQ(world.sight(id).seen, Seen::up);
    }
  }
}

// While it slept, later answers took the places of earlier ones on the scoreboard.
TEST(ProbeTrouble, WhatWasOverwrittenIsNoMiss) {
  std::mt19937 random(7);
  FakeWorld world;
  world.oversleep = [&] { return random() % 300 ? 0 : 30 * kMs; };
  world.start(2, false, 1, 100);
  world.backends[0] = [](uint64_t) { return FakeWorld::Answer{.after_ns = 50 * kMs}; };
  world.run(5 * kSecond);
  EXPECT_EQ(world.falls(), 0u);
  EXPECT_FALSE(world.sight(0).blind);
  const uint64_t death = world.now;
  world.backends[0] = FakeWorld::dead;
  world.run(kSecond);
  EXPECT_EQ(world.falls(), 1u) << "but death is seen";
  EXPECT_LE(ms(world.turns(0).back().known_ns - death), 700);
}

// This machine stood still, and the answers with it: their stamps are late through no fault of
// the backends.
TEST(ProbeTrouble, AMachineThatIsHeldUpBlamesNobody) {
  FakeWorld world;
  world.start(10, true, 10, 100);
  for (auto& [id, backend] : world.backends)
    backend = [&](uint64_t asked) {
      const uint64_t stall = 1'000'500 * kMs;  // for 300 ms
      const uint64_t answered = asked + 40 * kMs;
      const bool held = answered > stall && answered < stall + 300 * kMs;
      return FakeWorld::Answer{.after_ns = held ? stall + 300 * kMs - asked : 40 * kMs};
    };
  bool stalled = false;
  world.oversleep = [&]() -> uint64_t {
    if (stalled || world.now < 1'000'500 * kMs) return 0;
    stalled = true;
    return 1'000'800 * kMs - world.now;
  };
  world.run(2 * kSecond);
  EXPECT_TRUE(stalled);
  EXPECT_EQ(world.falls(), 0u);
}

TEST(ProbeTrouble, LossIsOneFallAMinute) {
  FakeWorld world;
  world.start(6);
  std::mt19937 random(4);
  for (uint32_t id = 0; id < 3; ++id)
    world.backends[id] = [&](uint64_t) -> std::optional<FakeWorld::Answer> {
      if (random() % 10 < 3) return {};
      return FakeWorld::Answer{};
    };
  world.run(60 * kSecond);
  for (uint32_t id = 0; id < 3; ++id) EXPECT_EQ(world.turns(id).size(), 2u);
  EXPECT_EQ(world.falls(), 3u);
}

// With a time-out longer than the interval, answers are known before earlier silences are.
TEST(ProbeTrouble, ATimeoutLongerThanTheIntervalConfusesNobody) {
  FakeWorld world;
  world.start(5, false, 10, 100);
  const uint64_t death = world.now + 300 * kMs;
  const uint64_t back = death + kSecond;
  world.backends[0] = FakeWorld::until(death, FakeWorld::alive,
                                       FakeWorld::until(back, FakeWorld::dead, FakeWorld::alive));
  std::mt19937 random(6);
  world.backends[1] = [&](uint64_t) -> std::optional<FakeWorld::Answer> {
    if (random() % 10 < 3) return {};
    return FakeWorld::Answer{};
  };
  world.run(3 * kSecond);
  const auto turns = world.turns(0);
  ASSERT_EQ(turns.size(), 3u);
  EXPECT_LE(ms(turns[1].known_ns - death), 132);
  EXPECT_EQ(turns[2].change.change.reason, "16 probes answered") << "one lapse";
  EXPECT_LE(ms(turns[2].known_ns - back), 175);
  world.run(57 * kSecond);
  EXPECT_EQ(world.turns(1).size(), 2u);
  EXPECT_EQ(world.falls(), 2u);
}

TEST(ProbeTrouble, WhatCouldNotBeSentIsUnsure) {
  FakeWorld world;
  world.start(5);
  world.run(100 * kMs);
  world.send_error = [](size_t) { return ENETDOWN; };
  world.run(200 * kMs);
  EXPECT_EQ(world.falls(), 0u);
  EXPECT_TRUE(world.sight(2).blind);
  EXPECT_EQ(world.changes.back().change.change.reason, "sending by eth1: Network is down");
  const uint64_t sent = world.sight(2).sent;
  world.run(100 * kMs);
  EXPECT_EQ(world.sight(2).sent, sent);
  // Full queues: what fits is sent.
  world.send_error = [](size_t frame) { return frame == 3 ? ENOBUFS : 0; };
  world.run(100 * kMs);
  EXPECT_EQ(world.falls(), 0u);
  EXPECT_GT(world.sight(2).sent, sent + 5);
  world.send_error = {};
  world.run(50 * kMs);
  EXPECT_FALSE(world.sight(2).blind);
}

TEST(ProbeTrouble, SendingThatIsHeldUpTellsNothing) {
  FakeWorld world;
  world.start(5);
  world.run(100 * kMs);
  world.backends[0] = FakeWorld::dead;
  world.send_takes = 6 * kMs;
  world.run(300 * kMs);
  EXPECT_EQ(world.falls(), 0u);
  EXPECT_TRUE(world.sight(0).blind);
  EXPECT_FALSE(world.sight(1).blind) << "an answer is an answer";
}

// Random failures, restarts, losses and sleeps: only those whose fault it is fall.
TEST(ProbeTrouble, OnlyTheGuiltyFall) {
  for (unsigned seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    FakeWorld world;
    world.start(20, seed % 2, 10, 10 + seed % 3 * 10);
    world.run(100 * kMs);
    std::set<uint32_t> guilty;
    world.oversleep = [&] { return random() % 200 ? 0 : random() % 30 * kMs; };
    for (unsigned event = 0; event < 10; ++event) {
      const uint32_t id = random() % 20;
      switch (random() % 4) {
        case 0:
          world.program.set(world.now, 0);
          world.program.set(world.now + random() % 200 * kMs, 100 + event);
          break;
        case 1:
          world.link.set(world.now, false);
          world.link.set(world.now + random() % 200 * kMs, true);
          break;
        case 2:
          if (guilty.size() < 8) {
            guilty.insert(id);
            world.backends[id] = random() % 2 ? FakeWorld::dead : FakeWorld::refusing;
          }
          break;
        default:
          break;
      }
      world.run(250 * kMs + random() % 20'000 * kUs);
    }
    world.run(kSecond);
    for (uint32_t id = 0; id < 20; ++id)
      EXPECT_EQ(world.sight(id).seen, guilty.count(id) ? Seen::down : Seen::up) << id;
    EXPECT_EQ(world.falls(), guilty.size());
  }
}

}  // namespace
}  // namespace guideway
