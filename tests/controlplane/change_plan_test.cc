// SPDX-License-Identifier: Apache-2.0
// Single steps and their words. That no flow is lost by any sequence of them: tests/sim.
#include "controlplane/change_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace guideway {
namespace {

Address address_of(unsigned i) {
  const uint8_t bytes[4] = {10, 0, 0, static_cast<uint8_t>(i)};
  return Address::from_v4(bytes);
}

PoolShape shape_of(const std::vector<unsigned>& members, uint32_t slots = 251) {
  PoolShape shape{slots, {}};
  for (const unsigned i : members) shape.members.push_back({address_of(i), 100});
  return shape;
}

// A control plane with a store, whose nodes confirm at once.
struct Pool {
  ChangePlan plan;
  std::string did;
  std::string waits;

  explicit Pool(const PoolShape& shape) : plan(first_plan(shape, 1)) {}

  bool take(const PlanEvent& event) {
    const PlanStep result = step(plan, event, plan.revision + 1);
    EXPECT_TRUE(result.changed || result.plan == plan);
    plan = result.plan;
    did = result.did;
    waits = result.waits;
    return result.changed;
  }
  bool confirm() { return take(Confirmed{plan.revision}); }
  // Every agent that is asked says that it holds so many sockets.
  bool answer(uint64_t epoch, uint64_t sockets, EpochPart part = EpochPart::all) {
    Answer answer{epoch, part, {}, {}};
    for (const BackendRanges& asked : ranges_only_in(hops_of(plan.history), epoch, part)) {
      answer.asked.push_back(asked.address);
      answer.sockets[asked.address] = sockets;
    }
    return take(Answers{plan.revision, {answer}});
  }
  void change(const PoolShape& shape) {
    take(Want{shape});
    EXPECT_TRUE(confirm());
    EXPECT_TRUE(confirm());
  }
  void settle() {
    for (int i = 0; i < 30 && !at_rest(plan); ++i) {
      if (confirm()) continue;
      answer(plan.history.earlier.back().number, 0);
    }
    EXPECT_TRUE(at_rest(plan));
  }
};

TEST(ChangePlan, PrepareCommitRetire) {
  Pool pool(shape_of({1, 2, 3}));
  EXPECT_TRUE(at_rest(pool.plan));
  EXPECT_FALSE(pool.confirm());
  EXPECT_EQ(pool.waits, "");

  EXPECT_TRUE(pool.take(Want{shape_of({1, 2, 3, 4})}));
  EXPECT_EQ(pool.plan.revision, 1u) << "the tables are still the same";
  EXPECT_TRUE(pool.confirm());
  EXPECT_EQ(pool.did, "prepared epoch 2");
  EXPECT_EQ(pool.plan.revision, 2u);
  EXPECT_EQ(pool.plan.history.current.number, 1u);
  ASSERT_TRUE(pool.plan.history.incoming);

  EXPECT_TRUE(pool.confirm());
  EXPECT_EQ(pool.did, "committed epoch 2");
  EXPECT_EQ(pool.plan.history.current.members, shape_of({1, 2, 3, 4}).members);
  ASSERT_EQ(pool.plan.history.earlier.size(), 1u);
  EXPECT_FALSE(at_rest(pool.plan));

  EXPECT_TRUE(pool.answer(1, 0));
  EXPECT_EQ(pool.did, "retired epoch 1");
  EXPECT_TRUE(at_rest(pool.plan));
  EXPECT_EQ(pool.plan.revision, 4u);
}

TEST(ChangePlan, NoStepBeforeAllNodesHaveConfirmed) {
  Pool pool(shape_of({1, 2, 3}));
  pool.take(Want{shape_of({1, 2})});
  EXPECT_FALSE(pool.take(Confirmed{0}));
  EXPECT_EQ(pool.waits, "not all live nodes have confirmed revision 1");
  pool.confirm();
  EXPECT_FALSE(pool.take(Confirmed{1}));
  EXPECT_EQ(pool.waits, "not all live nodes have confirmed revision 2");
  pool.confirm();
  EXPECT_TRUE(retire_questions(pool.plan, 2).empty());
  EXPECT_EQ(retire_questions(pool.plan, 3).size(), 1u);
  EXPECT_FALSE(pool.take(Deadline{2, 1}));
  EXPECT_EQ(pool.waits, "not all live nodes have confirmed revision 3");
  // Other pools' changes make later revisions: they will do.
  EXPECT_TRUE(pool.take(Deadline{9, 1}));
}

TEST(ChangePlan, AnEpochInUseStays) {
  Pool pool(shape_of({1, 2, 3, 4}));
  pool.change(shape_of({1, 2, 3}));
  EXPECT_FALSE(pool.answer(1, 2));
  EXPECT_NE(pool.waits.find("still holds 2 connections"), std::string::npos) << pool.waits;
  const RetireQuestion question = retire_questions(pool.plan, pool.plan.revision).at(0);
  EXPECT_FALSE(pool.take(Answers{pool.plan.revision, {unanswered(question)}}));
  EXPECT_NE(pool.waits.find("epoch 1 stays: no answer from 10.0.0."), std::string::npos);
  const Answer empty{1, EpochPart::all, {}, {}};
  EXPECT_FALSE(pool.take(Answers{pool.plan.revision - 1, {empty}})) << "out of date";
  const Answer other{77, EpochPart::all, {}, {}};
  EXPECT_FALSE(pool.take(Answers{pool.plan.revision, {other}})) << "no such epoch";
  EXPECT_TRUE(pool.take(Deadline{pool.plan.revision, 1}));
}

// One round of answers, of which the first that allows a step is taken: many epochs go in one step.
TEST(ChangePlan, OldEpochsGoTogether) {
  Pool pool(shape_of({1, 2, 3}));
  for (uint32_t weight : {110, 120, 130, 140}) {
    PoolShape shape = shape_of({1, 2, 3});
    shape.members[0].weight = weight;
    pool.change(shape);
  }
  ASSERT_EQ(pool.plan.history.earlier.size(), 4u);
  const auto answers = [&](uint64_t held_since) {
    Answers out{pool.plan.revision, {}};
    for (const RetireQuestion& question : retire_questions(pool.plan, pool.plan.revision)) {
      Answer answer = unanswered(question);
      for (const Address& asked : answer.asked)
        answer.sockets[asked] = question.epoch >= held_since ? 1 : 0;
      out.each.push_back(std::move(answer));
    }
    return out;
  };
  EXPECT_TRUE(pool.take(answers(3)));
  EXPECT_EQ(pool.did, "retired epoch 2 and all before it") << "the older half";
  ASSERT_EQ(pool.plan.history.earlier.size(), 2u);
  EXPECT_TRUE(pool.take(answers(5)));
  EXPECT_EQ(pool.did, "retired epoch 4 and all before it");
  EXPECT_TRUE(at_rest(pool.plan));
}

// Changes for which there is no room: each takes the pool's slots to other backends altogether.
TEST(ChangePlan, WaitsForAnEarlierOwnerAndIsReleased) {
  Pool pool(shape_of({1, 2}));
  pool.change(shape_of({3, 4}));
  EXPECT_TRUE(pool.take(Want{shape_of({5, 6})}));
  EXPECT_EQ(pool.waits,
            "slot 0 would need 6 hops, and 4 is the most: 10.0.0.1 may still hold connections from "
            "epoch 1");
  EXPECT_FALSE(pool.confirm());
  EXPECT_NE(pool.waits, "");

  // Healthy owners: nobody is on the stand-ins. But one owner has a connection of an hour's age.
  EXPECT_EQ(retire_questions(pool.plan, pool.plan.revision).size(), 2u);
  EXPECT_TRUE(pool.answer(1, 0, EpochPart::stand_ins));
  EXPECT_EQ(pool.did, "retired the stand-ins of epoch 1");
  EXPECT_EQ(retire_questions(pool.plan, pool.plan.revision).size(), 1u);
  EXPECT_FALSE(pool.confirm());
  EXPECT_FALSE(pool.answer(1, 3));
  EXPECT_NE(pool.waits.find("would need 5 hops, and 4 is the most: 10.0.0."), std::string::npos);
  EXPECT_NE(pool.waits.find("still holds 3 connections from epoch 1"), std::string::npos)
      << pool.waits;

  EXPECT_TRUE(pool.answer(1, 0));
  EXPECT_TRUE(pool.confirm());
  EXPECT_TRUE(pool.confirm());
  EXPECT_EQ(pool.plan.history.current.members, shape_of({5, 6}).members);
}

TEST(ChangePlan, ASecondChangeHasRoomByKeptStandIns) {
  std::vector<unsigned> members;
  for (unsigned i = 1; i <= 30; ++i) members.push_back(i);
  Pool pool(shape_of(members, 8191));
  members.pop_back();
  pool.change(shape_of(members, 8191));
  EXPECT_FALSE(pool.answer(1, 1)) << "connections of an hour's age";
  members.erase(members.begin());
  pool.take(Want{shape_of(members, 8191)});
  if (!pool.confirm()) {
    EXPECT_TRUE(pool.answer(1, 0, EpochPart::stand_ins));
    EXPECT_TRUE(pool.confirm());
  }
  EXPECT_EQ(pool.did, "prepared epoch 3");
  EXPECT_FALSE(pool.plan.history.incoming->kept_stand_ins.empty());
  pool.settle();
}

TEST(ChangePlan, ForceGivesUpTheOldestEpoch) {
  Pool pool(shape_of({1, 2}));
  EXPECT_FALSE(pool.take(Force{})) << "nothing waits";
  pool.change(shape_of({3, 4}));
  pool.take(Want{shape_of({5, 6})});
  EXPECT_FALSE(pool.confirm());
  EXPECT_TRUE(pool.take(Force{}));
  EXPECT_FALSE(pool.take(Force{})) << "twice is once";
  EXPECT_FALSE(pool.take(Confirmed{pool.plan.revision - 1})) << "the nodes come first all the same";
  EXPECT_TRUE(pool.confirm());
  EXPECT_EQ(pool.did, "prepared epoch 3, gave up epoch 1");
  EXPECT_TRUE(pool.plan.history.earlier.empty());
  EXPECT_TRUE(pool.confirm());
  EXPECT_FALSE(pool.plan.forced) << "the next change is asked for anew";
}

TEST(ChangePlan, ForceIsForOneChange) {
  Pool pool(shape_of({1, 2}));
  pool.change(shape_of({3, 4}));
  pool.take(Want{shape_of({5, 6}), true});
  EXPECT_TRUE(pool.plan.forced);
  pool.take(Want{shape_of({7, 8})});
  EXPECT_FALSE(pool.plan.forced);
  EXPECT_FALSE(pool.confirm());
}

TEST(ChangePlan, ChangesCoalesce) {
  Pool pool(shape_of({1, 2, 3}));
  pool.take(Want{shape_of({1, 2})});
  pool.confirm();
  pool.take(Want{shape_of({1, 2, 4})});
  pool.take(Want{shape_of({1, 2, 4, 5})});
  pool.confirm();
  EXPECT_EQ(pool.did, "committed epoch 2") << "what is prepared comes to its end";
  pool.settle();
  EXPECT_EQ(pool.plan.history.current.number, 3u) << "one change for both";
  EXPECT_EQ(pool.plan.history.current.members, shape_of({1, 2, 4, 5}).members);
}

TEST(ChangePlan, TakenBackBeforePrepareIsNoChange) {
  Pool pool(shape_of({1, 2, 3}));
  pool.take(Want{shape_of({1, 2})});
  pool.take(Want{shape_of({3, 1, 2})});  // in another order
  EXPECT_FALSE(pool.confirm());
  EXPECT_TRUE(at_rest(pool.plan));
}

// ---- Resizes

// What a resize in one step would need: tables of two sizes have nothing in common.
TEST(ChangePlan, AResizeInOneStepHasNoRoom) {
  PoolHistory history = first_plan(shape_of({1, 2, 3, 4, 5, 6}, 251), 1).history;
  history.incoming = history.current;
  history.incoming->slots = history.incoming->fill_slots = 509;
  EXPECT_FALSE(build_hop_table(history));
}

TEST(ChangePlan, ResizesAndMembersAtOnce) {
  for (const auto& [from, to] : {std::pair{251u, 509u},
                                 {509u, 251u},
                                 {251u, 257u},
                                 {257u, 251u},
                                 {251u, 8191u},
                                 {8191u, 251u}}) {
    Pool pool(shape_of({1, 2, 3, 4, 5, 6, 7}, from));
    const PoolShape wanted = shape_of({2, 3, 4, 5, 6, 7, 8, 9}, to);
    pool.take(Want{wanted});
    for (int i = 0; i < 30 && !at_rest(pool.plan); ++i) {
      if (pool.confirm()) {
        const std::optional<HopTable> table = build_hop_table(pool.plan.history);
        ASSERT_TRUE(table) << from << " to " << to << ": " << pool.did;
        continue;
      }
      ASSERT_FALSE(pool.plan.history.earlier.empty()) << pool.waits;
      pool.answer(pool.plan.history.earlier.back().number, 0);
    }
    EXPECT_TRUE(at_rest(pool.plan)) << from << " to " << to;
    EXPECT_EQ(pool.plan.history.current.slots, to);
    EXPECT_EQ(pool.plan.history.current.fill_slots, to);
    EXPECT_EQ(pool.plan.history.current.members, wanted.members);
  }
}

TEST(ChangePlan, AResizeThatChangesItsMind) {
  for (unsigned steps = 0; steps < 6; ++steps) {
    for (const uint32_t last : {251u, 257u, 509u}) {
      Pool pool(shape_of({1, 2, 3, 4, 5, 6}, 257));
      pool.take(Want{shape_of({1, 2, 3, 4, 5, 7}, steps % 2 == 0 ? 509 : 251)});
      for (unsigned i = 0; i < steps; ++i) pool.confirm();
      const PoolShape wanted = shape_of({2, 3, 4, 5, 7}, last);
      pool.take(Want{wanted});
      pool.settle();
      EXPECT_EQ(pool.plan.history.current.slots, last);
      EXPECT_EQ(pool.plan.history.current.members, wanted.members);
    }
  }
}

// ---- Restarts

// Killed before the store has a step, or after: the same end by the same steps.
TEST(ChangePlan, GoesOnFromTheStoreAlone) {
  std::mt19937 random(8);
  for (int run = 0; run < 20; ++run) {
    Pool steady(shape_of({1, 2, 3, 4}));
    Pool killed = steady;
    steady.take(Want{shape_of({1, 2, 5, 6}, 509)});
    killed.take(Want{shape_of({1, 2, 5, 6}, 509)});
    steady.settle();
    for (int i = 0; i < 200 && !at_rest(killed.plan); ++i) {
      const ChangePlan stored = killed.plan;
      if (!killed.confirm()) killed.answer(killed.plan.history.earlier.back().number, 0);
      if (random() % 2 == 0) killed.plan = stored;
    }
    EXPECT_EQ(killed.plan, steady.plan);
  }
}

}  // namespace
}  // namespace guideway
