// SPDX-License-Identifier: Apache-2.0
// The one-step plans of l2 and ipip pools (pool_plan.h): whatever the operator changes, connections
// that stay on their node stay where they are, by the rules that stand above gw_backend in abi.h.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "controlplane/hop_table.h"
#include "controlplane/intent_json.h"
#include "controlplane/pool_plan.h"
#include "controlplane/store.h"

namespace guideway {
namespace {

constexpr uint32_t kSlots = 251;

Address address(uint32_t number) {
  return Address::parse("10.0." + std::to_string(number / 250) + "." +
                        std::to_string(number % 250 + 1))
      .value();
}

Intent with_pool(uint32_t backends) {
  Intent intent;
  intent.revision = 1;
  Pool& pool = intent.pools["web"];
  pool.forwarding = Forwarding::ipip;
  pool.table_slots = kSlots;
  for (uint32_t i = 0; i < backends; ++i) pool.backends[address(i)] = {};
  return intent;
}

// One change as a store makes it.
template <typename Change>
void change(Intent& intent, const Change& make) {
  const auto after = next_intent(intent, [&](const Intent& before) -> ChangeResult {
    Intent next = before;
    make(next.pools.at("web"));
    return next;
  });
  ASSERT_TRUE(after);
  intent = *after;
  const auto stored = read_stored_intent(write_stored_intent(intent));
  ASSERT_TRUE(stored) << stored.error().text();
  ASSERT_EQ(*stored, intent);
}

// What the planner does when the hold is over.
void rest(Intent& intent) {
  change(intent, [&](Pool& pool) {
    if (!pool.plan) return;
    const uint64_t epoch = pool.plan->history.earlier.at(0).number;
    pool.plan = step(*pool.plan, Deadline{intent.revision, epoch}, intent.revision + 1).plan;
  });
}

HopTable table_of(const Pool& pool) {
  PoolHistory history = pool.plan ? pool.plan->history : first_plan(shape_of(pool), 1).history;
  return build_hop_table(history).value();
}

// A worker: its flow table without limits, and no health.
class Worker {
 public:
  Address take(const HopTable& table, uint32_t flow, bool is_new) {
    const auto found = known_.find(flow);
    if (found != known_.end() && table.index_of(found->second)) return found->second;
    const auto slot = table.slot(slot_at(flow, table.slots));
    const bool settled =
        std::none_of(slot.begin(), slot.end(), [](uint16_t entry) { return entry & kHopRoles; });
    const auto earlier =
        std::find_if(slot.begin(), slot.end(), [](uint16_t entry) { return entry & kHopEarlier; });
    const uint16_t to = is_new || earlier == slot.end() ? slot.front() : *earlier;
    const Address backend = table.backends[to & kHopIndex];
    if (!settled) known_[flow] = backend;
    return backend;
  }

 private:
  std::map<uint32_t, Address> known_;
};

void change_somehow(Pool& pool, std::mt19937& random, uint32_t& next) {
  const auto any = [&] {
    return std::next(pool.backends.begin(), static_cast<long>(random() % pool.backends.size()));
  };
  switch (random() % 3) {
    case 0:
      pool.backends[address(next++ % 12)] = {};
      break;
    case 1:
      if (pool.backends.size() > 2) pool.backends.erase(any());
      break;
    default:
      any()->second.weight = 1 + random() % 4;
  }
}

TEST(OneStep, ConnectionsStayWhereTheyAre) {
  for (uint32_t seed = 1; seed <= 300; ++seed) {
    std::mt19937 random(seed);
    Intent intent = with_pool(4);
    Worker worker;
    std::map<uint32_t, Address> connections;
    uint32_t next = 4;
    for (int round = 0; round < 30; ++round) {
      const HopTable table = table_of(intent.pools["web"]);
      for (int i = 0; i < 20; ++i) {
        const uint32_t flow = static_cast<uint32_t>(random());
        if (connections.count(flow)) continue;
        connections[flow] = worker.take(table, flow, true);
      }
      for (const auto& [flow, backend] : connections)
        ASSERT_EQ(worker.take(table, flow, false), backend)
            << "seed " << seed << ", round " << round << ", flow " << flow;
      if (random() % 8 == 0) {
        rest(intent);
        // Whoever was taken away is gone by now, with what it had.
        std::erase_if(connections, [&](const auto& one) {
          return intent.pools["web"].backends.count(one.second) == 0;
        });
      } else {
        // Several at once, so that a connection is silent meanwhile.
        for (uint32_t n = 1 + random() % 4; n > 0; --n)
          change(intent, [&](Pool& pool) { change_somehow(pool, random, next); });
      }
    }
  }
}

TEST(OneStep, AChangeIsDoneAtOnceAndForgottenLater) {
  Intent intent = with_pool(4);
  change(intent, [](Pool& pool) { pool.backends[address(7)] = {}; });
  const Pool& pool = intent.pools["web"];
  ASSERT_TRUE(pool.plan);
  EXPECT_FALSE(has_steps(pool)) << "nobody waits for it";
  const HopTable during = table_of(pool);
  const HopTable after = build_hop_table(first_plan(shape_of(pool), 1).history).value();
  uint32_t moved = 0;
  for (uint32_t slot = 0; slot < kSlots; ++slot) {
    EXPECT_EQ(during.slot(slot)[0], after.slot(slot)[0]);
    moved += during.slot(slot)[1] & kHopEarlier ? 1 : 0;
  }
  EXPECT_GT(moved, kSlots / 8);
  EXPECT_LT(moved, kSlots / 2);
  rest(intent);
  EXPECT_FALSE(intent.pools["web"].plan);
}

TEST(OneStep, WhoWasTakenAwayKeepsItsConnectionsForTheHold) {
  Intent intent = with_pool(4);
  change(intent, [](Pool& pool) { pool.backends.erase(address(2)); });
  change(intent, [](Pool& pool) { pool.backends[address(9)] = {}; });
  change(intent, [](Pool& pool) { pool.backends.erase(address(9)); });
  const std::vector<Address> all = table_addresses(intent.pools["web"]);
  EXPECT_NE(std::find(all.begin(), all.end(), address(2)), all.end());
  EXPECT_NE(std::find(all.begin(), all.end(), address(9)), all.end()) << "it had some, too";
  rest(intent);
  EXPECT_EQ(table_addresses(intent.pools["web"]).size(), 3u);
}

TEST(OneStep, DrainAndDisableChangeNoTable) {
  Intent intent = with_pool(4);
  change(intent, [](Pool& pool) { pool.backends[address(1)].mode = BackendMode::draining; });
  EXPECT_FALSE(intent.pools["web"].plan);
  change(intent, [](Pool& pool) { pool.backends[address(1)].mode = BackendMode::disabled; });
  EXPECT_FALSE(intent.pools["web"].plan);
}

TEST(OneStep, AnotherForwardingBeginsAnew) {
  Intent intent = with_pool(4);
  change(intent, [](Pool& pool) { pool.backends.erase(address(2)); });
  change(intent, [](Pool& pool) { pool.forwarding = Forwarding::gue; });
  EXPECT_TRUE(has_steps(intent.pools["web"]));
  EXPECT_TRUE(at_rest(*intent.pools["web"].plan));
  change(intent, [](Pool& pool) { pool.forwarding = Forwarding::l2; });
  EXPECT_FALSE(intent.pools["web"].plan);
}

TEST(OneStep, ASmallerTableLeavesOutWhatHasNoRoom) {
  Intent intent = with_pool(40);
  change(intent, [](Pool& pool) { pool.table_slots = 2039; });
  rest(intent);
  change(intent, [](Pool& pool) { pool.table_slots = kSlots; });
  const HopTable table = table_of(intent.pools["web"]);
  EXPECT_EQ(table.slots, kSlots);
  EXPECT_LE(table.hops, uint32_t{GW_HOPS_MAX});
}

TEST(OneStep, AStoresPlanThatSaysSomethingElseIsRefused) {
  Intent intent = with_pool(4);
  change(intent, [](Pool& pool) { pool.backends.erase(address(2)); });
  const std::string text = write_stored_intent(intent);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string other = text;
    other.replace(other.find(from), from.size(), to);
    return read_stored_intent(other);
  };
  auto stored = with("\"one_step\":true", "\"one_step\":false");
  ASSERT_FALSE(stored);
  EXPECT_EQ(stored.error().field, "pools.web.plan");
  stored = with("\"slots\":251", "\"slots\":257");
  ASSERT_FALSE(stored);
  EXPECT_EQ(stored.error().field, "pools.web.plan.current");
}

}  // namespace
}  // namespace guideway
