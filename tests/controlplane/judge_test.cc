// SPDX-License-Identifier: Apache-2.0
#include "controlplane/judge.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <vector>

namespace guideway {
namespace {

using Kind = Outcome::Kind;

constexpr uint64_t kMsNs = 1'000'000;

Probe every(uint32_t interval_ms, uint32_t fall = 3, uint32_t rise = 2) {
  Probe probe;
  probe.kind = ProbeKind::tcp;
  probe.interval_ms = probe.timeout_ms = interval_ms;
  probe.fall = fall;
  probe.rise = rise;
  return probe;
}

// A judge and its clock: each outcome is an interval later.
class Bench {
 public:
  explicit Bench(const Probe& probe) : probe_(probe), judge_(probe) {}

  std::optional<Judge::Change> take(Kind kind, const std::string& detail = {}) {
    now_ += probe_.interval_ms * kMsNs;
    auto change = judge_.take({kind, now_ - 1, now_, 0, detail});
    if (!change) return change;
    EXPECT_EQ(change->at_ns, now_);
    changes.push_back(*change);
    return change;
  }
  void take(Kind kind, unsigned times) {
    for (unsigned i = 0; i < times; ++i) take(kind);
  }
  // How many successes until it is up.
  unsigned recover() {
    unsigned count = 0;
    while (judge_.seen() != Seen::up && count < 100'000) {
      take(Kind::alive);
      ++count;
    }
    return count;
  }
  const Judge& judge() const { return judge_; }
  std::vector<Judge::Change> changes;

 private:
  Probe probe_;
  Judge judge_;
  uint64_t now_ = 1000 * kMsNs;
};

TEST(Judge, TheFirstSuccessIsEnough) {
  Bench bench(every(10));
  const auto up = bench.take(Kind::alive);
  ASSERT_TRUE(up);
  EXPECT_EQ(up->seen, Seen::up);
  EXPECT_EQ(up->reason, "1 probe answered");
  EXPECT_FALSE(bench.take(Kind::alive));
}

TEST(Judge, OneThatWasDownTakesItsRise) {
  Judge judge(every(10, 3, 4), true);
  EXPECT_EQ(judge.seen(), Seen::down);
  for (int i = 1; i <= 4; ++i) {
    const auto change = judge.take({Kind::alive, 10u * i - 1, 10u * i, 0, {}});
    EXPECT_EQ(change.has_value(), i == 4);
  }
  EXPECT_EQ(judge.seen(), Seen::up);
}

TEST(Judge, FallsAfterSoManyInARow) {
  Bench bench(every(10));
  bench.take(Kind::alive, 5);
  bench.take(Kind::silent, 2);
  bench.take(Kind::alive);
  bench.take(Kind::silent, 2);
  EXPECT_EQ(bench.changes.size(), 1u);
  const auto down = bench.take(Kind::silent);
  ASSERT_TRUE(down);
  EXPECT_EQ(down->seen, Seen::down);
  EXPECT_EQ(down->reason, "3 probes without an answer within 10 ms");
}

TEST(Judge, UnknownFallsLikeUp) {
  Bench bench(every(10));
  bench.take(Kind::silent, 2);
  EXPECT_EQ(bench.judge().seen(), Seen::unknown);
  bench.take(Kind::silent);
  EXPECT_EQ(bench.judge().seen(), Seen::down);
  Bench refused(every(10));
  refused.take(Kind::refused);
  EXPECT_EQ(refused.judge().seen(), Seen::down);
}

TEST(Judge, GivesReasons) {
  Bench refused(every(10));
  refused.take(Kind::alive);
  EXPECT_EQ(refused.take(Kind::refused)->reason, "refused");

  Bench late(every(10));
  late.take(Kind::late, 2);
  EXPECT_EQ(late.take(Kind::late)->reason, "3 probes answered later than 10 ms");

  Bench mixed(every(10));
  mixed.take(Kind::late, 2);
  EXPECT_EQ(mixed.take(Kind::silent, "an earlier one was answered after 15 ms")->reason,
            "3 probes without an answer within 10 ms (an earlier one was answered after 15 ms)");

  Bench bad(every(10, 2));
  bad.take(Kind::bad, "GET /healthz: status 500");
  EXPECT_EQ(bad.take(Kind::bad, "GET /healthz: status 503")->reason, "GET /healthz: status 503");

  Bench both(every(10, 2));
  both.take(Kind::bad, "GET /healthz: status 500");
  EXPECT_EQ(both.take(Kind::silent)->reason,
            "2 probes without success, the last without an answer within 10 ms");

  Bench one(every(10, 1));
  EXPECT_EQ(one.take(Kind::silent)->reason, "1 probe without an answer within 10 ms");
}

TEST(Judge, UnsureCountsForNothingAndBlinds) {
  Bench bench(every(10));
  bench.take(Kind::alive);
  bench.take(Kind::silent, 2);
  const auto blind = bench.take(Kind::unsure, "eth1: the edge program is not attached");
  ASSERT_TRUE(blind);
  EXPECT_TRUE(blind->blind);
  EXPECT_EQ(blind->seen, Seen::up);
  EXPECT_EQ(blind->reason, "eth1: the edge program is not attached");
  bench.take(Kind::unsure, 1000u);
  EXPECT_EQ(bench.changes.size(), 2u) << "said once";

  const auto sure = bench.take(Kind::silent);  // the third
  ASSERT_TRUE(sure);
  EXPECT_EQ(sure->seen, Seen::down);
  EXPECT_FALSE(sure->blind);
  EXPECT_EQ(sure->reason, "3 probes without an answer within 10 ms");

  bench.take(Kind::unsure);
  const auto again = bench.take(Kind::silent);
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->blind);
  EXPECT_EQ(again->reason, "probing works again");
}

TEST(Judge, ARestartedProcessIsBackAtOnce) {
  for (uint32_t rise : {1u, 2u, 5u}) {
    Bench bench(every(10, 3, rise));
    bench.take(Kind::alive, 1000);
    bench.take(Kind::refused, 200);
    EXPECT_EQ(bench.judge().successes_needed(), rise * 2);
    EXPECT_EQ(bench.recover(), rise * 2);
    EXPECT_EQ(bench.changes.back().reason, std::to_string(rise * 2) + " probes answered");
  }
}

TEST(Judge, ALostHostIsBackSoon) {
  Bench fast(every(10));
  fast.take(Kind::alive, 1000);
  fast.take(Kind::silent, 200);
  EXPECT_EQ(fast.recover(), 16u);
  Bench slow(every(1000));
  slow.take(Kind::alive, 100);
  slow.take(Kind::silent, 10);
  EXPECT_EQ(slow.recover(), 4u);
  Bench middle(every(100));
  middle.take(Kind::alive, 100);
  middle.take(Kind::silent, 10);
  EXPECT_EQ(middle.recover(), 10u);
}

TEST(Judge, LapsesAreForgottenAfterAMinute) {
  Bench bench(every(10));
  for (int i = 0; i < 20; ++i) {
    bench.take(Kind::alive);
    bench.take(Kind::silent);
  }
  bench.take(Kind::refused, 4900);
  EXPECT_EQ(bench.recover(), 1000u) << "as many as take 10 s";
  bench.take(Kind::alive, 6000);
  bench.take(Kind::refused);
  EXPECT_EQ(bench.judge().successes_needed(), 4u);
}

TEST(Judge, WhatIsAskedForHasALimit) {
  const auto worst = [](const Probe& probe) {
    Bench bench(probe);
    for (int i = 0; i < 30; ++i) {
      bench.take(Kind::alive);
      bench.take(Kind::refused);
    }
    return bench.judge().successes_needed();
  };
  EXPECT_EQ(worst(every(10)), 1000u);
  EXPECT_EQ(worst(every(1)), 2048u) << "2^10 times";
  EXPECT_EQ(worst(every(1000)), 32u);
  EXPECT_EQ(worst(every(1000, 3, 100)), 100u) << "not less than rise";
}

// "one that comes and goes, falls once and stays out": after a handful at the most.
TEST(Judge, FlappingEverySecondStaysDown) {
  for (const Kind kind : {Kind::refused, Kind::silent}) {
    for (uint32_t interval : {10u, 100u}) {
      Bench bench(every(interval));
      for (int second = 0; second < 600; ++second)
        bench.take(second % 2 ? kind : Kind::alive, 1000 / interval);
      const auto falls =
          std::count_if(bench.changes.begin(), bench.changes.end(),
                        [](const auto& change) { return change.seen == Seen::down; });
      EXPECT_LE(falls, 6) << interval;
      EXPECT_EQ(bench.judge().seen(), Seen::down);
    }
  }
}

// 30 % of packets lost at 10 ms: at most one fall a minute, whenever the loss begins.
TEST(Judge, LossOnTheLinkIsOneFall) {
  int seeds_with_two = 0;
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    std::bernoulli_distribution lost(0.3);
    Bench bench(every(10));
    bench.take(Kind::alive, 100);
    for (int i = 0; i < 6000; ++i) bench.take(lost(random) ? Kind::silent : Kind::alive);
    int falls = 0;
    for (const auto& change : bench.changes) falls += change.seen == Seen::down;
    EXPECT_GE(falls, 1);
    seeds_with_two += falls > 1;
  }
  EXPECT_LE(seeds_with_two, 1);
}

// On a busy machine some probe is always late.
TEST(Judge, AMissInAHundredDelaysAReturnOneInTenPreventsIt) {
  for (const unsigned each : {100u, 10u}) {
    Bench bench(every(10));
    for (int i = 0; i < 30; ++i) bench.take(i % 2 ? Kind::alive : Kind::silent);
    bench.take(Kind::silent, 3);
    for (unsigned i = 1; i <= 1500; ++i) bench.take(i % each ? Kind::alive : Kind::silent);
    EXPECT_EQ(bench.judge().seen(), each == 100 ? Seen::up : Seen::down) << each;
  }
}

// The same rules, from the whole history each time.
class Oracle {
 public:
  explicit Oracle(const Probe& probe) : probe_(probe) {}

  void take(Kind kind, uint64_t now) {
    blind = kind == Kind::unsure;
    if (blind) return;
    history_.push_back({kind, now});
    const size_t misses = run([](Kind k) { return k != Kind::alive; });
    const bool fallen = kind == Kind::refused || misses >= probe_.fall;
    if (seen != Seen::down && misses && fallen) {
      seen = Seen::down;
      silently_ = kind != Kind::refused;
      fell_ = history_.size();
    } else if (seen == Seen::unknown && kind == Kind::alive) {
      seen = Seen::up;
    } else if (seen == Seen::down && kind == Kind::alive && credit() >= needed(now)) {
      seen = Seen::up;
    }
  }
  Seen seen = Seen::unknown;
  bool blind = false;

 private:
  size_t run(const std::function<bool(Kind)>& belongs) const {
    size_t count = 0;
    while (count < history_.size() && belongs(history_[history_.size() - 1 - count].first)) ++count;
    return count;
  }
  // Since it fell: a success earns one, a miss costs ten, a refusal all.
  int credit() const {
    int credit = 0;
    for (size_t i = fell_; i < history_.size(); ++i) {
      const Kind kind = history_[i].first;
      credit += kind == Kind::alive ? 1 : kind == Kind::refused ? -credit : -10;
      credit = std::max(credit, 0);
    }
    return credit;
  }
  int needed(uint64_t now) const {
    int lapses = 0;
    for (size_t i = 1; i < history_.size(); ++i)
      lapses += history_[i].first != Kind::alive && history_[i - 1].first == Kind::alive &&
                history_[i].second + 60'000 * kMsNs > now;
    size_t needed = probe_.rise;
    for (int i = 0; i < std::min(lapses, 10); ++i) needed *= 2;
    if (silently_)
      needed = std::max(needed, std::min<size_t>(4 * needed, 1000 / probe_.interval_ms));
    needed = std::min<size_t>(needed, std::max(32u, 10'000 / probe_.interval_ms));
    return static_cast<int>(std::max<size_t>(needed, probe_.rise));
  }

  Probe probe_;
  bool silently_ = false;
  size_t fell_ = 0;  // the outcomes up to the last fall
  std::vector<std::pair<Kind, uint64_t>> history_;
};

TEST(Judge, AgreesWithTheOracle) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto upto = [&](unsigned n) { return static_cast<uint32_t>(random() % n); };
    const uint32_t intervals[] = {1, 10, 150, 1000, 20'000};
    const Probe probe = every(intervals[upto(5)], 1 + upto(5), 1 + upto(4));
    Judge judge(probe);
    Oracle oracle(probe);
    uint64_t now = 0;
    bool failing = false;
    for (int i = 0; i < 600; ++i) {
      if (upto(20) == 0) failing = !failing;
      now += probe.interval_ms * kMsNs;
      Kind kind = failing ? Kind::silent : Kind::alive;
      if (upto(15) == 0) kind = static_cast<Kind>(upto(6));
      const Seen seen_before = judge.seen();
      const bool blind_before = judge.blind();
      const auto change = judge.take({kind, now, now, 0, "why"});
      oracle.take(kind, now);
      ASSERT_EQ(judge.seen(), oracle.seen) << i;
      ASSERT_EQ(judge.blind(), oracle.blind) << i;
      ASSERT_EQ(change.has_value(), judge.seen() != seen_before || judge.blind() != blind_before);
      if (!change) continue;
      ASSERT_EQ(change->seen, judge.seen());
      ASSERT_EQ(change->blind, judge.blind());
      ASSERT_FALSE(change->reason.empty());
    }
  }
}

}  // namespace
}  // namespace guideway
