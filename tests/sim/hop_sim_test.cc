// SPDX-License-Identifier: Apache-2.0
// Random histories of a pool, and the same with one rule broken at a time.
//
//   GUIDEWAY_SIM_SEED=4711 hop_sim_test      one history, told step by step
//   GUIDEWAY_SIM_HISTORIES=1000000 hop_sim_test --gtest_filter='*EveryFlow*'
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "tests/sim/environment.h"
#include "tests/sim/hop_world.h"

namespace guideway {
namespace {

void add(SimReport& sum, const SimReport& report) {
  sum.flows += report.flows;
  sum.packets += report.packets;
  sum.second_chances += report.second_chances;
  sum.refused += report.refused;
  sum.steps += report.steps;
  sum.commits += report.commits;
  sum.resizes += report.resizes;
  sum.waits += report.waits;
  sum.deadlines += report.deadlines;
  sum.forced += report.forced;
  sum.restarts += report.restarts;
  sum.kept += report.kept;
  sum.full_lists += report.full_lists;
}

TEST(HopSim, EveryFlowFindsItsSocketInEveryHistory) {
  const SimRules rules;
  if (std::getenv("GUIDEWAY_SIM_SEED") != nullptr) {
    const uint64_t seed = number_from("GUIDEWAY_SIM_SEED", 0);
    EXPECT_EQ(HopWorld(seed, rules, &std::cout).run().failure, "");
    return;
  }
  const uint64_t histories = number_from("GUIDEWAY_SIM_HISTORIES", 10000);
  SimReport sum;
  for (uint64_t seed = 1; seed <= histories; ++seed) {
    const SimReport report = HopWorld(seed, rules, nullptr).run();
    ASSERT_EQ(report.failure, "") << "\nreplay: GUIDEWAY_SIM_SEED=" << seed << " hop_sim_test";
    add(sum, report);
  }
  std::printf(
      "%lu histories: %lu flows, %lu packets, %lu second chances, %lu SYNs refused\n"
      "%lu steps, %lu commits, %lu resizes wanted, %lu times a change waited, %lu deadlines, "
      "%lu forced, %lu restarts, %lu stand-ins kept, %lu tables with lists of four\n",
      histories, sum.flows, sum.packets, sum.second_chances, sum.refused, sum.steps, sum.commits,
      sum.resizes, sum.waits, sum.deadlines, sum.forced, sum.restarts, sum.kept, sum.full_lists);
  // A world in which nothing happens would pass as well.
  EXPECT_GT(sum.flows, histories * 10);
  EXPECT_GT(sum.packets, histories * 50);
  EXPECT_GT(sum.second_chances, histories * 2);
  EXPECT_GT(sum.commits, histories);
  EXPECT_GT(sum.waits, histories / 10);
  EXPECT_GT(sum.deadlines, histories / 10);
  EXPECT_GT(sum.forced, histories / 10);
  EXPECT_GT(sum.restarts, histories / 10);
  EXPECT_GT(sum.kept, histories / 10);
  EXPECT_GT(sum.full_lists, histories / 10);
}

TEST(HopSim, SameSeedSameHistory) {
  const SimRules rules;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const SimReport once = HopWorld(seed, rules, nullptr).run();
    const SimReport again = HopWorld(seed, rules, nullptr).run();
    EXPECT_EQ(once.packets, again.packets);
    EXPECT_EQ(once.second_chances, again.second_chances);
    EXPECT_EQ(once.steps, again.steps);
  }
}

// ---- Each rule is needed: without it, some history of the first thousand breaks.

std::string first_failure(const SimRules& rules) {
  for (uint64_t seed = 1; seed <= 1000; ++seed) {
    const SimReport report = HopWorld(seed, rules, nullptr).run();
    if (report.failure.empty()) continue;
    std::printf("seed %lu: %s\n", seed, report.failure.c_str());
    return report.failure;
  }
  return "";
}

bool breaks_a_flow(const SimRules& rules) {
  const std::string failure = first_failure(rules);
  return failure.find("is not in the lists") != failure.npos || failure.starts_with("RST");
}

TEST(HopSimBroken, StepWithoutConfirmation) {
  SimRules rules;
  rules.steps_unconfirmed = true;
  EXPECT_TRUE(breaks_a_flow(rules));
}

TEST(HopSimBroken, RetiredTooEarly) {
  SimRules rules;
  rules.agents_say_empty = true;
  EXPECT_TRUE(breaks_a_flow(rules));
}

TEST(HopSimBroken, AskedBeforeAllNodesConfirmed) {
  SimRules rules;
  rules.asks_unconfirmed = true;
  EXPECT_TRUE(breaks_a_flow(rules));
}

TEST(HopSimBroken, NoIncomingHop) {
  SimRules rules;
  rules.build = [](const PoolHistory& history) {
    PoolHistory less = history;
    less.incoming.reset();
    return build_hop_table(less);
  };
  EXPECT_TRUE(breaks_a_flow(rules));
}

TEST(HopSimBroken, NoEarlierHop) {
  SimRules rules;
  rules.build = [](const PoolHistory& history) {
    PoolHistory less = history;
    less.earlier.clear();
    return build_hop_table(less);
  };
  EXPECT_TRUE(breaks_a_flow(rules));
}

// What the first design had: only owners are remembered.
TEST(HopSimBroken, NoEarlierStandIns) {
  SimRules rules;
  rules.build = [](const PoolHistory& history) {
    PoolHistory less = history;
    for (Epoch& epoch : less.earlier) epoch.stand_ins = false;
    return build_hop_table(less);
  };
  EXPECT_TRUE(breaks_a_flow(rules));
}

TEST(HopSimBroken, NoIncomingStandIn) {
  SimRules rules;
  rules.build = [](const PoolHistory& history) {
    PoolHistory less = history;
    if (less.incoming) less.incoming->stand_ins = false;
    return build_hop_table(less);
  };
  EXPECT_TRUE(breaks_a_flow(rules));
}

TEST(HopSimBroken, NewFlowsOnHopsThatGo) {
  SimRules rules;
  rules.syn_to_any_hop = true;
  EXPECT_TRUE(breaks_a_flow(rules));
}

// A resize in one step: lists of the two table sizes do not go into four hops.
TEST(HopSimBroken, AnotherSizeTakenForTheSame) {
  SimRules rules;
  rules.build = [](const PoolHistory& history) {
    PoolHistory less = history;
    for (Epoch& epoch : less.earlier) epoch.slots = epoch.fill_slots = less.current.slots;
    if (less.incoming) less.incoming->slots = less.incoming->fill_slots = less.current.slots;
    return build_hop_table(less);
  };
  EXPECT_TRUE(breaks_a_flow(rules));
}

TEST(HopSimBroken, NothingIsEverReleased) {
  SimRules rules;
  rules.agents_are_silent = true;
  EXPECT_EQ(first_failure(rules), "a change that nothing holds up does not come to its end");
}

TEST(HopSimBroken, RestartForgetsEarlierEpochs) {
  SimRules rules;
  rules.forgets_earlier = true;
  EXPECT_TRUE(breaks_a_flow(rules));
}

// A table that depends on the order of the lists that it is made of.
TEST(HopSimBroken, OrderMatters) {
  SimRules rules;
  rules.build = [](const PoolHistory& history) {
    PoolHistory other = history;
    if (!other.current.members.empty()) ++other.current.members[0].weight;
    return build_hop_table(other);
  };
  EXPECT_NE(first_failure(rules), "");
}

}  // namespace
}  // namespace guideway
