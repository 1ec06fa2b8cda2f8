// SPDX-License-Identifier: Apache-2.0
#include "controlplane/pool_state.h"

#include <gtest/gtest.h>

#include <random>

namespace guideway {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1000 * kMs;

Address at(int i) {
  return *Address::parse("10.0.0." + std::to_string(i));
}

Pool pool_of(int backends, ProbeKind kind = ProbeKind::tcp, uint32_t slow_start_ms = 0) {
  Pool pool;
  pool.probe.kind = kind;
  pool.probe.port = 80;
  pool.probe.interval_ms = 10;
  pool.probe.timeout_ms = 10;
  pool.slow_start_ms = slow_start_ms;
  for (int i = 1; i <= backends; ++i) pool.backends[at(i)] = {};
  return pool;
}

Judge::Change verdict(Seen seen, const std::string& reason = "refused") {
  return {seen, false, reason, 0};
}

class PoolStateTest : public testing::Test {
 protected:
  void begin(const Pool& pool) {
    pool_ = pool;
    state_.configure(pool, true, now_);
    settle();
    for (const auto& [address, backend] : pool.backends) {
      state_.judged(address, verdict(Seen::up, "a probe answered"), now_);
    }
    settle();
  }
  void change(const std::function<void(Pool&)>& edit) {
    edit(pool_);
    state_.configure(pool_, false, now_);
    settle();
  }
  void judge(int i, Seen seen) {
    state_.judged(at(i), verdict(seen), now_);
    settle();
  }
  void settle() { last_ = state_.settle(now_); }
  uint32_t share(int i) { return state_.release(at(i)).share; }
  bool holds(int i) { return state_.release(at(i)).holds; }
  BackendState state(int i) { return state_.view(at(i))->state; }

  PoolState state_;
  Pool pool_;
  PoolState::Settled last_;
  uint64_t now_ = 1000 * kSecond;
};

TEST_F(PoolStateTest, UnprobedBackendsAreUp) {
  state_.configure(pool_of(2, ProbeKind::none), true, now_);
  settle();
  EXPECT_EQ(state(1), BackendState::up);
  EXPECT_EQ(share(1), GW_SHARE_ALL);
  EXPECT_TRUE(last_.transitions.empty());
}

// The control plane has started anew: nobody is cut off before it is judged, however long that
// takes.
TEST_F(PoolStateTest, ThoseFromBeforeCountAsUpUntilJudged) {
  pool_ = pool_of(4);
  state_.configure(pool_, true, now_);
  settle();
  judge(2, Seen::up);
  EXPECT_EQ(state(1), BackendState::unknown);
  EXPECT_TRUE(state_.is_presumed(at(1)));
  EXPECT_FALSE(state_.is_presumed(at(2)));
  EXPECT_EQ(state_.release(at(1)), (Release{GW_SHARE_ALL, true}));
  judge(1, Seen::down);
  EXPECT_EQ(state_.release(at(1)), (Release{0, false}));
  state_.reachable(at(3), false, "no neighbour");
  settle();
  EXPECT_FALSE(state_.is_presumed(at(3)));
  // One that is taken out by order has no such favour afterwards.
  change([](Pool& pool) { pool.backends[at(4)].mode = BackendMode::disabled; });
  change([](Pool& pool) { pool.backends[at(4)].mode = BackendMode::enabled; });
  EXPECT_FALSE(state_.is_presumed(at(4)));
  EXPECT_EQ(share(4), 0u);
}

TEST_F(PoolStateTest, NoPanicWhileSomebodyIsNotJudged) {
  for (const bool trusted : {true, false}) {
    state_ = {};
    state_.configure(pool_of(3), trusted, now_);
    settle();
    judge(1, Seen::down);
    EXPECT_EQ(state_.condition(), PoolCondition::normal);
    EXPECT_EQ(share(1), 0u);
    EXPECT_EQ(state_.release(at(2)), (Release{GW_SHARE_ALL, true}));
    now_ += 20 * kMs;
    judge(2, Seen::down);
    EXPECT_EQ(state_.condition(), PoolCondition::normal);
    now_ += 20 * kMs;
    judge(3, Seen::down);
    EXPECT_EQ(state_.condition(), PoolCondition::panic);
    for (int i : {1, 2, 3}) EXPECT_EQ(state_.release(at(i)), (Release{GW_SHARE_ALL, true})) << i;
  }
}

TEST_F(PoolStateTest, OneWithoutAWayBlindsNobody) {
  begin(pool_of(3));
  state_.judged(at(1), {Seen::up, true, "eth1: the edge program is not attached", 0}, now_);
  settle();
  EXPECT_EQ(state_.condition(), PoolCondition::blind);
  state_.reachable(at(1), false, "no neighbour");
  settle();
  EXPECT_EQ(state_.condition(), PoolCondition::normal);
}

TEST_F(PoolStateTest, ADrainThatEndsSaysSo) {
  begin(pool_of(2));
  change([](Pool& pool) { pool.backends[at(1)].mode = BackendMode::draining; });
  EXPECT_EQ(last_.transitions[0].reason, "by order");
  change([](Pool& pool) { pool.backends[at(1)].mode = BackendMode::disabled; });
  EXPECT_EQ(last_.transitions[0].reason, "its drain has ended");
}

// A pool whose table still names 10.0.0.1 to .3, of which 10.0.0.1 has been removed.
Pool without_the_first(Pool pool) {
  pool.plan.emplace();
  for (const auto& [address, backend] : pool.backends)
    pool.plan->history.current.members.push_back({address, backend.weight});
  pool.backends.erase(at(1));
  return pool;
}

TEST_F(PoolStateTest, WhoLeavesKeepsItsConnectionsUntilItIsDown) {
  for (const Forwarding forwarding : {Forwarding::gue, Forwarding::ipip}) {
    state_ = {};
    Pool pool = pool_of(3);
    pool.forwarding = forwarding;
    begin(pool);
    change([](Pool& now) { now = without_the_first(now); });
    EXPECT_TRUE(holds(1));
    EXPECT_TRUE(last_.transitions.empty());
    now_ += kSecond;
    judge(1, Seen::down);
    EXPECT_TRUE(last_.transitions.empty()) << "nobody asks any more";
    EXPECT_EQ(share(1), 0u);
    EXPECT_EQ(holds(1), forwarding == Forwarding::gue) << "tried last for a while";
    now_ += 10 * kSecond;
    settle();
    EXPECT_FALSE(holds(1));
    EXPECT_EQ(state_.condition(), PoolCondition::normal);
    change([](Pool& now) { now.plan.reset(); });
    EXPECT_FALSE(state_.has(at(1)));
  }
}

TEST_F(PoolStateTest, WhoWasDownOrDisabledLeavesAsThat) {
  for (const bool disabled : {true, false}) {
    state_ = {};
    Pool pool = pool_of(3);
    pool.forwarding = Forwarding::gue;
    begin(pool);
    if (disabled) {
      change([](Pool& now) { now.backends[at(1)].mode = BackendMode::disabled; });
    } else {
      judge(1, Seen::down);
    }
    now_ += 11 * kSecond;
    settle();
    EXPECT_EQ(state_.release(at(1)), (Release{0, false}));
    change([](Pool& now) { now = without_the_first(now); });
    EXPECT_EQ(state_.release(at(1)), (Release{0, false})) << disabled;
    // Added again, it is what the probes say.
    change([](Pool& now) { now.backends[at(1)] = {}; });
    judge(1, Seen::up);
    EXPECT_EQ(state_.release(at(1)), (Release{GW_SHARE_ALL, true})) << disabled;
  }
}

TEST_F(PoolStateTest, UnknownOnesServeOnlyWhileNobodyIsUp) {
  state_.configure(pool_of(3), false, now_);
  settle();
  EXPECT_EQ(state(1), BackendState::unknown);
  EXPECT_EQ(share(1), GW_SHARE_ALL);
  EXPECT_EQ(state_.condition(), PoolCondition::normal);
  judge(2, Seen::up);
  EXPECT_EQ(share(1), 0u);
  EXPECT_EQ(share(2), GW_SHARE_ALL);
  EXPECT_TRUE(holds(1)) << "it may have been here before, and have connections";
  judge(1, Seen::down);
  EXPECT_FALSE(holds(1));
}

TEST_F(PoolStateTest, AFallTakesTheSlotsAndARecoveryGivesThemBack) {
  begin(pool_of(3));
  now_ += kSecond;
  judge(2, Seen::down);
  ASSERT_EQ(last_.transitions.size(), 1u);
  EXPECT_EQ(last_.transitions[0].from, "up");
  EXPECT_EQ(last_.transitions[0].to, "down");
  EXPECT_EQ(last_.transitions[0].reason, "refused");
  EXPECT_TRUE(last_.released);
  EXPECT_EQ(state_.release(at(2)), (Release{0, false}));
  EXPECT_EQ(state_.release(at(1)), (Release{GW_SHARE_ALL, true}));
  EXPECT_EQ(state_.view(at(2))->since_ns, now_);
  judge(2, Seen::up);
  EXPECT_EQ(state_.release(at(2)), (Release{GW_SHARE_ALL, true}));
}

TEST_F(PoolStateTest, PanicKeepsThoseThatFellTogether) {
  begin(pool_of(4));
  judge(1, Seen::down);
  now_ += 60 * kSecond;  // long before the others
  judge(2, Seen::down);
  now_ += 20 * kMs;
  judge(3, Seen::down);
  EXPECT_EQ(share(2), 0u);
  now_ += 20 * kMs;
  judge(4, Seen::down);
  EXPECT_EQ(state_.condition(), PoolCondition::panic);
  ASSERT_EQ(last_.transitions.size(), 2u);
  EXPECT_FALSE(last_.transitions[1].backend);
  EXPECT_EQ(last_.transitions[1].to, "panic");
  EXPECT_EQ(share(1), 0u);
  for (int i : {2, 3, 4}) EXPECT_EQ(state_.release(at(i)), (Release{GW_SHARE_ALL, true})) << i;
  EXPECT_EQ(state(4), BackendState::down);

  judge(3, Seen::up);
  EXPECT_EQ(state_.condition(), PoolCondition::normal);
  EXPECT_EQ(share(2), 0u);
  EXPECT_EQ(share(3), GW_SHARE_ALL);
  EXPECT_EQ(share(4), 0u);
}

TEST_F(PoolStateTest, PanicByOrderGivesEverybodyAChance) {
  begin(pool_of(3));
  judge(1, Seen::down);
  now_ += 60 * kSecond;
  judge(2, Seen::down);
  now_ += 60 * kSecond;
  change([](Pool& pool) { pool.backends[at(3)].mode = BackendMode::disabled; });
  EXPECT_EQ(state_.condition(), PoolCondition::panic);
  EXPECT_EQ(share(1), GW_SHARE_ALL);
  EXPECT_EQ(share(2), GW_SHARE_ALL);
  EXPECT_EQ(share(3), 0u);
}

TEST_F(PoolStateTest, DrainingHoldsAndTakesNothingNew) {
  begin(pool_of(3));
  change([](Pool& pool) { pool.backends[at(2)].mode = BackendMode::draining; });
  EXPECT_EQ(state(2), BackendState::draining);
  EXPECT_EQ(state_.release(at(2)), (Release{0, true}));
  EXPECT_EQ(state_.condition(), PoolCondition::normal);
  judge(2, Seen::down);
  EXPECT_EQ(state_.release(at(2)), (Release{0, false}));
  judge(2, Seen::up);
  change([](Pool& pool) { pool.backends[at(2)].mode = BackendMode::disabled; });
  EXPECT_EQ(state(2), BackendState::disabled);
  EXPECT_EQ(state_.release(at(2)), (Release{0, false}));
  change([](Pool& pool) { pool.backends[at(2)].mode = BackendMode::enabled; });
  EXPECT_EQ(state_.release(at(2)), (Release{GW_SHARE_ALL, true}));
}

TEST_F(PoolStateTest, SlowStartGrowsStepByStep) {
  begin(pool_of(3, ProbeKind::tcp, 10'000));
  EXPECT_EQ(share(1), GW_SHARE_ALL) << "the first coming is no coming back";
  EXPECT_EQ(state_.next_settle_ns(), 0u);
  judge(2, Seen::down);
  now_ += kSecond;
  judge(2, Seen::up);
  uint32_t before = share(2);
  EXPECT_GT(before, 0u);
  EXPECT_LT(before, GW_SHARE_ALL / 20);
  EXPECT_TRUE(holds(2));
  const uint64_t began = now_;
  int steps = 0;
  while (const uint64_t next = state_.next_settle_ns()) {
    ASSERT_GT(next, now_);
    now_ = next;
    settle();
    EXPECT_TRUE(last_.released);
    EXPECT_GT(share(2), before);
    before = share(2);
    ASSERT_LT(++steps, 200);
  }
  EXPECT_EQ(share(2), GW_SHARE_ALL);
  EXPECT_GE(now_ - began, 10 * kSecond);
  EXPECT_LE(now_ - began, 11 * kSecond);
  EXPECT_EQ(share(1), GW_SHARE_ALL);
}

TEST_F(PoolStateTest, NoSlowStartWithoutSomebodyElse) {
  begin(pool_of(2, ProbeKind::tcp, 10'000));
  judge(1, Seen::down);
  now_ += 5 * kSecond;
  judge(2, Seen::down);  // panic
  judge(1, Seen::up);
  EXPECT_EQ(share(1), GW_SHARE_ALL);
  judge(2, Seen::up);
  EXPECT_LT(share(2), GW_SHARE_ALL);
  judge(1, Seen::down);
  EXPECT_EQ(share(2), GW_SHARE_ALL) << "the other is gone: it has to take all";
}

TEST_F(PoolStateTest, ANewBackendComesWithItsFirstSuccessAndSlowly) {
  begin(pool_of(2, ProbeKind::tcp, 10'000));
  change([](Pool& pool) { pool.backends[at(3)] = {}; });
  EXPECT_EQ(state(3), BackendState::unknown);
  EXPECT_EQ(share(3), 0u);
  judge(3, Seen::up);
  EXPECT_GT(share(3), 0u);
  EXPECT_LT(share(3), GW_SHARE_ALL);
}

TEST_F(PoolStateTest, AProbeThatIsGivenToAPoolTakesNobodyOut) {
  begin(pool_of(2, ProbeKind::none));
  change([](Pool& pool) { pool.probe.kind = ProbeKind::icmp; });
  EXPECT_EQ(state(1), BackendState::up);
  judge(1, Seen::down);
  EXPECT_EQ(state(1), BackendState::down);
  change([](Pool& pool) { pool.probe.kind = ProbeKind::none; });
  EXPECT_EQ(state(1), BackendState::up);
}

TEST_F(PoolStateTest, BlindChangesNoRelease) {
  begin(pool_of(2));
  judge(1, Seen::down);
  state_.judged(at(2), {Seen::up, true, "edge is not attached to eth1", 0}, now_);
  settle();
  EXPECT_EQ(state_.condition(), PoolCondition::blind);
  EXPECT_EQ(state_.condition_reason(), "edge is not attached to eth1");
  EXPECT_FALSE(last_.released);
  EXPECT_EQ(state(2), BackendState::up);
  EXPECT_EQ(share(1), 0u);
  state_.judged(at(2), {Seen::up, false, "2 probes answered", 0}, now_);
  settle();
  EXPECT_EQ(state_.condition(), PoolCondition::normal);
}

TEST_F(PoolStateTest, NoWayIsNoVerdict) {
  begin(pool_of(2));
  state_.reachable(at(1), false, "no route to 10.0.0.1");
  settle();
  EXPECT_EQ(state(1), BackendState::no_next_hop);
  EXPECT_EQ(state_.view(at(1))->reason, "no route to 10.0.0.1");
  EXPECT_FALSE(last_.released);
  judge(2, Seen::down);
  EXPECT_EQ(state_.condition(), PoolCondition::panic);
  EXPECT_EQ(share(2), GW_SHARE_ALL);
}

// Whatever happens: somebody takes new flows if anybody enabled has weight; who is down takes none
// unless in panic; who is up and enabled takes some; releases change only where the transition was.
TEST_F(PoolStateTest, RandomHistoriesKeepTheRules) {
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    std::mt19937 random(seed);
    state_ = {};
    begin(pool_of(2 + static_cast<int>(seed % 5), ProbeKind::tcp, seed % 3 ? 0 : 5000));
    const int count = static_cast<int>(pool_.backends.size());
    for (int step = 0; step < 100; ++step) {
      now_ += random() % (2 * kSecond) + 1;
      const int who = 1 + static_cast<int>(random() % static_cast<unsigned>(count));
      std::map<Address, Release> before;
      for (const auto& [address, backend] : pool_.backends)
        before[address] = state_.release(address);
      const bool was_panic = state_.condition() == PoolCondition::panic;
      bool one_only = false;
      switch (random() % 4) {
        case 0:
          change([&](Pool& pool) {
            pool.backends[at(who)].mode = static_cast<BackendMode>(random() % 3);
          });
          break;
        case 1:
          settle();
          break;
        default:
          judge(who, random() % 2 ? Seen::up : Seen::down);
          one_only = true;
      }
      bool enabled = false;
      bool taken = false;
      for (const auto& [address, backend] : pool_.backends) {
        const Release release = state_.release(address);
        const BackendState now_is = state_.view(address)->state;
        enabled |= backend.mode == BackendMode::enabled;
        taken |= release.share > 0;
        if (now_is == BackendState::up) {
          EXPECT_GT(release.share, 0u);
        } else if (state_.condition() != PoolCondition::panic) {
          EXPECT_EQ(release.share, 0u);
        }
        const bool calm = one_only && !was_panic && pool_.slow_start_ms == 0 &&
                          state_.condition() != PoolCondition::panic;
        if (calm && address != at(who)) {
          EXPECT_EQ(release, before[address]) << seed << " " << step;
        }
      }
      EXPECT_EQ(taken, enabled) << seed << " " << step;
    }
  }
}

// gue: down, and still the last hop for a while.
class LingerTest : public PoolStateTest {
 protected:
  void SetUp() override {
    Pool pool = pool_of(3);
    pool.forwarding = Forwarding::gue;
    begin(pool);
    judge(1, Seen::down);
    EXPECT_TRUE(holds(1));
    EXPECT_EQ(share(1), 0u);
  }
  void pass(uint64_t time) {
    now_ += time;
    settle();
  }
};

TEST_F(LingerTest, EndsAfterTenSeconds) {
  EXPECT_EQ(state_.next_settle_ns(), now_ + 10 * kSecond);
  pass(10 * kSecond - 1);
  EXPECT_TRUE(holds(1));
  pass(1);
  EXPECT_FALSE(holds(1));
  EXPECT_TRUE(last_.released);
}

TEST_F(LingerTest, EndsSoonerWhenAllNodesSeeItDown) {
  state_.agreed_down({at(1), at(2)});
  settle();
  EXPECT_TRUE(holds(1)) << "not at once";
  EXPECT_TRUE(holds(2)) << "it is up here";
  EXPECT_EQ(state_.next_settle_ns(), now_ + 2 * kSecond);
  pass(2 * kSecond);
  EXPECT_FALSE(holds(1));
  EXPECT_TRUE(holds(2));
}

TEST_F(LingerTest, AnAgreementThatComesLateEndsItAtOnce) {
  pass(5 * kSecond);
  EXPECT_TRUE(holds(1));
  state_.agreed_down({at(1)});
  settle();
  EXPECT_FALSE(holds(1));
}

TEST_F(LingerTest, AnAgreementIsOfOneFall) {
  state_.agreed_down({at(1)});
  pass(3 * kSecond);
  EXPECT_FALSE(holds(1));
  judge(1, Seen::up);
  EXPECT_TRUE(holds(1));
  judge(1, Seen::down);
  pass(3 * kSecond);
  EXPECT_TRUE(holds(1)) << "nobody has said so of this one";
}

TEST_F(PoolStateTest, AnOutlookIsOfThoseThatAreToTakeFlows) {
  Pool pool = pool_of(7);
  pool.backends[at(6)].mode = BackendMode::disabled;
  pool.backends[at(7)].weight = 0;
  begin(pool);
  EXPECT_EQ(state_.outlook(), (PoolOutlook{5, 5, false, {}}));
  judge(1, Seen::down);
  judge(6, Seen::down);
  state_.reachable(at(2), false, "no route");
  state_.judged(at(3), {Seen::up, true, "nothing comes back", 0}, now_);
  change([](Pool& it) { it.backends[at(8)] = {}; });
  EXPECT_EQ(state_.outlook(), (PoolOutlook{6,
                                           2,
                                           false,
                                           {{at(1), Sight::down},
                                            {at(2), Sight::no_way},
                                            {at(3), Sight::blind},
                                            {at(8), Sight::unknown}}}));
}

}  // namespace
}  // namespace guideway
