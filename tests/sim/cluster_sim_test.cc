// SPDX-License-Identifier: Apache-2.0
// Random histories of a cluster, and the same with one rule broken at a time.
//
//   GUIDEWAY_SIM_SEED=4711 cluster_sim_test      one history, told step by step
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "tests/sim/cluster_world.h"
#include "tests/sim/environment.h"

namespace guideway {
namespace {

TEST(ClusterSim, EveryFlowIsInReachAndAllNodesEndTheSame) {
  const ClusterRules rules;
  if (std::getenv("GUIDEWAY_SIM_SEED") != nullptr) {
    const uint64_t seed = number_from("GUIDEWAY_SIM_SEED", 0);
    EXPECT_EQ(ClusterWorld(seed, rules, &std::cout).run().failure, "");
    return;
  }
  const uint64_t histories = number_from("GUIDEWAY_SIM_HISTORIES", 10000);
  ClusterReport sum;
  for (uint64_t seed = 1; seed <= histories; ++seed) {
    const ClusterReport report = ClusterWorld(seed, rules, nullptr).run();
    if (!report.failure.empty()) ClusterWorld(seed, rules, &std::cout).run();
    ASSERT_EQ(report.failure, "") << "\nreplay: GUIDEWAY_SIM_SEED=" << seed << " cluster_sim_test";
    sum.flows += report.flows;
    sum.packets += report.packets;
    sum.second_chances += report.second_chances;
    sum.steps += report.steps;
    sum.conflicts += report.conflicts;
    sum.lost += report.lost;
    sum.cuts += report.cuts;
    sum.restarts += report.restarts;
    sum.lapses += report.lapses;
    sum.elections += report.elections;
    sum.silences += report.silences;
    sum.without_promise += report.without_promise;
  }
  std::printf(
      "%lu histories: %lu flows, %lu packets, %lu second chances, %lu steps, %lu conflicts\n"
      "%lu messages lost, %lu cuts, %lu restarts, %lu leases lapsed, %lu elections, %lu streams "
      "dead, %lu ticks without a promise\n",
      histories, sum.flows, sum.packets, sum.second_chances, sum.steps, sum.conflicts, sum.lost,
      sum.cuts, sum.restarts, sum.lapses, sum.elections, sum.silences, sum.without_promise);
  // A world in which nothing happens would pass as well.
  EXPECT_GT(sum.flows, histories * 10);
  EXPECT_GT(sum.second_chances, histories * 2);
  EXPECT_GT(sum.steps, histories);
  EXPECT_GT(sum.cuts, histories);
  EXPECT_GT(sum.restarts, histories / 2);
  EXPECT_GT(sum.lapses, histories / 2);
  EXPECT_GT(sum.elections, histories);
  EXPECT_GT(sum.silences, histories);
  EXPECT_GT(sum.conflicts, histories / 100);
}

// ---- Each rule is needed: without it, some history breaks a flow.

std::string first_failure(const ClusterRules& rules) {
  for (uint64_t seed = 1; seed <= 3000; ++seed) {
    const ClusterReport report = ClusterWorld(seed, rules, nullptr).run();
    if (report.failure.empty()) continue;
    std::printf("seed %lu: %s\n", seed, report.failure.c_str());
    return report.failure;
  }
  return {};
}

TEST(ClusterSim, BreaksWithoutTheMargin) {
  ClusterRules rules;
  rules.margin = 0;
  EXPECT_NE(first_failure(rules).find("out of reach"), std::string::npos);
}

TEST(ClusterSim, BreaksWithoutConfirmation) {
  ClusterRules rules;
  rules.skips_confirmation = true;
  EXPECT_NE(first_failure(rules).find("out of reach"), std::string::npos);
}

TEST(ClusterSim, BreaksWhenOneAnnouncesThatTheOthersDoNotCount) {
  ClusterRules rules;
  rules.announces_uncounted = true;
  EXPECT_NE(first_failure(rules).find("out of reach"), std::string::npos);
}

TEST(ClusterSim, BreaksWhenOldIntentIsGoodEnough) {
  ClusterRules rules;
  rules.ready_with_old = true;
  EXPECT_NE(first_failure(rules).find("out of reach"), std::string::npos);
}

TEST(ClusterSim, BreaksWhenTheIntentIsNotReadAnewUnderANewLease) {
  ClusterRules rules;
  rules.keeps_old_intent = true;
  EXPECT_NE(first_failure(rules).find("out of reach"), std::string::npos);
}

TEST(ClusterSim, BreaksWhenTheElectedTrustsItsWatch) {
  ClusterRules rules;
  rules.steps_by_the_watch = true;
  EXPECT_NE(first_failure(rules).find("out of reach"), std::string::npos);
}

TEST(ClusterSim, NeverComesToRestWhenASilentStreamIsTrusted) {
  ClusterRules rules;
  rules.trusts_silence = true;
  const std::string failure = first_failure(rules);
  EXPECT_TRUE(failure == "the change does not come to its end" ||
              failure == "nodes differ after the network has healed")
      << failure;
}

}  // namespace
}  // namespace guideway
