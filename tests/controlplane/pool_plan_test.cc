// SPDX-License-Identifier: Apache-2.0
#include "controlplane/pool_plan.h"

#include <gtest/gtest.h>

#include "controlplane/intent_json.h"

namespace guideway {
namespace {

Address address(int last) {
  return Address::parse("10.0.0." + std::to_string(last)).value();
}

Intent with_pool(Forwarding forwarding, int backends) {
  Intent intent;
  intent.revision = 7;
  Pool& pool = intent.pools["web"];
  pool.forwarding = forwarding;
  pool.table_slots = 251;
  for (int i = 1; i <= backends; ++i) pool.backends[address(i)] = {};
  return intent;
}

TEST(PoolPlan, OnlyGuePoolsHaveOne) {
  for (const Forwarding forwarding : {Forwarding::l2, Forwarding::ipip}) {
    Intent intent = with_pool(forwarding, 3);
    follow_plans(intent, intent);
    EXPECT_FALSE(intent.pools["web"].plan);
    EXPECT_EQ(table_addresses(intent.pools["web"]).size(), 3u);
  }
}

TEST(PoolPlan, ANewPoolBeginsInItsShape) {
  Intent intent = with_pool(Forwarding::gue, 3);
  follow_plans(intent, intent);
  const ChangePlan& plan = intent.pools["web"].plan.value();
  EXPECT_TRUE(at_rest(plan));
  EXPECT_EQ(plan.revision, 7u);
  EXPECT_EQ(plan.history.current.members.size(), 3u);
}

TEST(PoolPlan, AnEmptyPoolNeedsNoSteps) {
  Intent intent = with_pool(Forwarding::gue, 0);
  follow_plans(intent, intent);
  intent.pools["web"].backends[address(1)] = {};
  intent.revision = 8;
  follow_plans(intent, intent);
  const ChangePlan& plan = intent.pools["web"].plan.value();
  EXPECT_TRUE(at_rest(plan));
  EXPECT_EQ(plan.history.current.number, 2u);
  EXPECT_EQ(plan.revision, 8u);
}

TEST(PoolPlan, AChangeOfOneInUseIsWantedAndNotDone) {
  Intent intent = with_pool(Forwarding::gue, 3);
  follow_plans(intent, intent);
  Pool& pool = intent.pools["web"];
  pool.backends.erase(address(2));
  pool.backends[address(3)].mode = BackendMode::draining;
  intent.revision = 8;
  follow_plans(intent, intent);
  ASSERT_TRUE(pool.plan);
  EXPECT_EQ(pool.plan->history.current.members.size(), 3u);
  EXPECT_EQ(pool.plan->revision, 7u);
  const PoolShape wanted{251, {{address(1), 100}, {address(3), 0}}};
  EXPECT_EQ(pool.plan->wanted, wanted);
  EXPECT_EQ(table_addresses(pool), (std::vector{address(1), address(2), address(3)}));
}

// Until no list names it any more.
TEST(PoolPlan, IsDrainedWhenNoEpochHasIt) {
  Intent intent = with_pool(Forwarding::gue, 3);
  follow_plans(intent, intent);
  Pool& pool = intent.pools["web"];
  pool.backends[address(3)].mode = BackendMode::draining;
  follow_plans(intent, intent);
  uint64_t revision = 8;
  const auto take = [&](const PlanEvent& event) {
    EXPECT_FALSE(is_drained(pool, address(3)));
    PlanStep next = step(*pool.plan, event, revision);
    EXPECT_TRUE(next.changed) << next.waits;
    pool.plan = next.plan;
    ++revision;
  };
  take(Confirmed{revision});
  take(Confirmed{revision});
  take(Deadline{revision, 1});
  EXPECT_TRUE(is_drained(pool, address(3)));
  EXPECT_FALSE(is_drained(pool, address(1)));
}

TEST(PoolPlan, AStepStoredTogetherWithAnotherChangeIsOfItsRevision) {
  Intent intent = with_pool(Forwarding::gue, 3);
  follow_plans(intent, intent);
  const Intent before = intent;
  Pool& pool = intent.pools["web"];
  pool.backends[address(2)].weight = 5;
  intent.revision = 8;
  follow_plans(intent, before);
  pool.plan = step(*pool.plan, Confirmed{8}, 9).plan;
  follow_plans(intent, before);
  EXPECT_EQ(pool.plan->revision, 8u);
}

TEST(PoolPlan, AStoreKeepsIt) {
  Intent intent = with_pool(Forwarding::gue, 3);
  follow_plans(intent, intent);
  Pool& pool = intent.pools["web"];
  pool.backends[address(2)].weight = 5;
  intent.revision = 8;
  follow_plans(intent, intent);
  pool.plan = step(*pool.plan, Confirmed{8}, 9).plan;
  intent.revision = 9;
  auto stored = read_stored_intent(write_stored_intent(intent));
  ASSERT_TRUE(stored) << stored.error().text();
  EXPECT_EQ(*stored, intent);
  EXPECT_EQ(write_intent(intent).find("plan"), std::string::npos) << "not the operator's";

  std::string text = write_stored_intent(intent);
  const size_t at = text.find("\"slots\":251");
  text.replace(at, 11, "\"slots\":256");
  stored = read_stored_intent(text);
  ASSERT_FALSE(stored);
  EXPECT_EQ(stored.error().field, "pools.web.plan.current.slots");

  intent.pools["web"].plan.reset();
  stored = read_stored_intent(write_stored_intent(intent));
  ASSERT_FALSE(stored);
  EXPECT_EQ(stored.error().field, "pools.web.plan");
}

}  // namespace
}  // namespace guideway
