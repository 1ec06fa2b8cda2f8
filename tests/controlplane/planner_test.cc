// SPDX-License-Identifier: Apache-2.0
#include "controlplane/planner.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "controlplane/pool_plan.h"
#include "tests/controlplane/loop_thread.h"

namespace guideway {
namespace {

using namespace std::chrono_literals;

Address address(int last) {
  return Address::parse("10.0.0." + std::to_string(last)).value();
}

// A store, nodes that confirm when they are let, and agents.
class PlannerTest : public testing::Test {
 protected:
  PlannerTest() {
    Intent first;
    first.revision = 1;
    Pool& pool = first.pools["web"];
    pool.forwarding = Forwarding::gue;
    pool.table_slots = 251;
    for (int i = 1; i <= 5; ++i) pool.backends[address(i)] = {};
    follow_plans(first, first);
    intent_ = std::make_shared<const Intent>(std::move(first));
    start();
  }
  ~PlannerTest() override {
    thread_([&] { planner_.reset(); });
  }

  void start() {
    Planner::World world;
    world.intent = [this] { return intent_; };
    world.confirmed = [this] { return confirms_ ? intent_->revision : confirmed_; };
    world.change = [this](const Store::Change& change, const std::string& what,
                          const Store::Done& done) {
      // As over a network: later.
      thread_.loop().post([=, this] { done(store(change, what)); });
    };
    if (has_agents_)
      world.ask = [this](const std::string&, std::vector<BackendRanges> ask, auto done) {
        ++asked_;
        Planner::Sockets sockets;
        for (const BackendRanges& one : ask)
          if (!silent_.count(one.address)) sockets[one.address] = sockets_[one.address];
        thread_.loop().post([done, sockets] { done(sockets); });
      };
    thread_([&] {
      planner_.reset();
      planner_ =
          std::make_unique<Planner>(thread_.loop(), std::move(world), Planner::Pace{1ms, 2ms, 2ms});
    });
  }

  Store::ChangeOutcome store(const Store::Change& change, const std::string& what) {
    if (refused_ && what != "wanted") {
      ++*refused_;
      return tl::unexpected(RefusedChange{Refusal::not_stored, {"store", "no room", ""}});
    }
    const std::shared_ptr<const Intent> before = intent_;
    ChangeResult after = next_intent(*before, change);
    if (!after) return tl::unexpected(after.error());
    if (after->revision == before->revision) return Store::Changed{before, before};
    intent_ = std::make_shared<const Intent>(std::move(*after));
    did_.push_back(what);
    return Store::Changed{before, intent_};
  }

  template <typename Change>
  Store::ChangeOutcome want_now(Change change) {
    const auto changed = [&](const Intent& before) -> ChangeResult {
      Intent next = before;
      change(next.pools["web"]);
      return next;
    };
    return store(changed, "wanted");
  }
  template <typename Change>
  void want(Change change) {
    thread_([&] {
      ASSERT_TRUE(want_now(change));
      planner_->look();
    });
  }

  const Pool& pool() const { return intent_->pools.at("web"); }
  const ChangePlan& plan() const { return *pool().plan; }

  // Evaluated in the loop's thread, as all that is shared with it.
  void until(const std::function<bool()>& condition) {
    ASSERT_TRUE(thread_.eventually(condition)) << thread_([&] { return planner_->waits("web"); });
  }
  void until_waits(const std::string& what) {
    until([&] { return planner_->waits("web") == what; });
  }

  LoopThread thread_;
  std::shared_ptr<const Intent> intent_;
  bool confirms_ = true, has_agents_ = true;
  unsigned* refused_ = nullptr;  // counted there: the store is full
  uint64_t confirmed_ = 0;
  unsigned asked_ = 0;
  std::set<Address> silent_;
  std::map<Address, uint64_t> sockets_;
  std::vector<std::string> did_;
  std::unique_ptr<Planner> planner_;
};

TEST_F(PlannerTest, PreparesCommitsAsksRetires) {
  want([](Pool& pool) { pool.backends.erase(address(2)); });
  until([&] { return at_rest(plan()); });
  ASSERT_EQ(did_.size(), 4u);
  EXPECT_EQ(did_[1], "web: prepared epoch 2");
  EXPECT_EQ(did_[2], "web: committed epoch 2");
  EXPECT_EQ(did_[3], "web: retired epoch 1");
  EXPECT_GE(asked_, 1u);
  EXPECT_EQ(plan().revision, intent_->revision);
  EXPECT_EQ(planner_->waits("web"), "");
}

TEST_F(PlannerTest, NoStepBeforeTheLastIsConfirmed) {
  confirms_ = false;
  confirmed_ = 1;
  want([](Pool& pool) { pool.backends.erase(address(2)); });
  until([&] { return did_.size() == 2; });  // prepare: the first revision is confirmed
  until_waits("for revision 3 to be adopted");
  thread_([&] { confirmed_ = 3; });
  until([&] { return did_.size() == 3; });
  until_waits("for revision 4 to be adopted");
  thread_([&] {
    EXPECT_EQ(did_.back(), "web: committed epoch 2");
    EXPECT_EQ(asked_, 0u);
    confirmed_ = 4;
  });
  until([&] { return at_rest(plan()); });
}

TEST_F(PlannerTest, AnEpochStaysWhileSomebodyHoldsConnections) {
  sockets_[address(2)] = 3;
  want([](Pool& pool) { pool.backends.erase(address(2)); });
  until([&] { return asked_ > 3; });
  until_waits("epoch 1 stays: 10.0.0.2 still holds 3 connections");
  thread_([&] {
    EXPECT_EQ(plan().history.earlier.size(), 1u);
    sockets_.clear();
  });
  until([&] { return at_rest(plan()); });
}

TEST_F(PlannerTest, NoAnswerIsNoAnswer) {
  silent_ = {address(2)};
  want([](Pool& pool) { pool.backends.erase(address(2)); });
  until([&] { return asked_ > 3; });
  until_waits("epoch 1 stays: no answer from 10.0.0.2");
  thread_([&] { silent_.clear(); });
  until([&] { return at_rest(plan()); });
}

TEST_F(PlannerTest, WithoutAgentsTheHoldTimeEndsAnEpoch) {
  has_agents_ = false;
  start();
  want([](Pool& pool) {
    pool.backends.erase(address(2));
    pool.hold_s = 1;
  });
  until([&] { return planner_->waits("web").starts_with("no agents are asked"); });
  const auto began = EventLoop::Clock::now();
  until([&] { return at_rest(plan()); });
  EXPECT_GE(EventLoop::Clock::now() - began, 500ms);
}

TEST_F(PlannerTest, ADrainEndsWhenItsAgentSaysSo) {
  sockets_[address(3)] = 1;
  sockets_[address(4)] = 5;  // holds the epoch, but not the drain
  want([](Pool& pool) {
    pool.backends.at(address(3)).mode = BackendMode::draining;
    pool.backends.at(address(4)).weight = 1;
  });
  until([&] { return asked_ > 4; });
  thread_([&] {
    EXPECT_EQ(pool().backends.at(address(3)).mode, BackendMode::draining);
    sockets_[address(3)] = 0;
  });
  until([&] { return pool().backends.at(address(3)).mode == BackendMode::disabled; });
  thread_([&] {
    EXPECT_EQ(did_.back(), "drained web 10.0.0.3");
    EXPECT_EQ(plan().history.earlier.size(), 1u);
    sockets_.clear();
  });
  until([&] { return at_rest(plan()); });
}

// Agents know nothing of datagrams.
TEST_F(PlannerTest, ADrainOfOtherThanTcpEndsByItsDeadlineAlone) {
  thread_([&] {
    const auto udp = [](const Intent& before) {
      return put_service(before, ServiceKey::parse("203.0.113.10:53/udp").value(), {"web"});
    };
    ASSERT_TRUE(store(udp, "wanted"));
  });
  want([](Pool& pool) { pool.backends.at(address(3)).mode = BackendMode::draining; });
  until([&] { return at_rest(plan()); });
  thread_([&] {
    EXPECT_EQ(pool().backends.at(address(3)).mode, BackendMode::draining);
    ASSERT_TRUE(store(
        [](const Intent& before) {
          return remove_service(before, ServiceKey::parse("203.0.113.10:53/udp").value());
        },
        "wanted"));
  });
  until([&] { return pool().backends.at(address(3)).mode == BackendMode::disabled; });
}

TEST_F(PlannerTest, ADrainEndsWhenNoListNamesTheBackend) {
  has_agents_ = false;
  start();
  want([](Pool& pool) {
    pool.backends.at(address(3)).mode = BackendMode::draining;
    pool.hold_s = 1;
  });
  until([&] { return pool().backends.at(address(3)).mode == BackendMode::disabled; });
  until([&] { return at_rest(plan()); });
}

TEST_F(PlannerTest, WithoutAPlanADrainEndsByItsAgentToo) {
  thread_([&] {
    sockets_[address(3)] = 2;
    ASSERT_TRUE(want_now([](Pool& pool) {
      pool.forwarding = Forwarding::l2;
      pool.backends.at(address(3)).mode = BackendMode::draining;
    }));
  });
  until([&] { return asked_ > 2; });
  thread_([&] {
    EXPECT_EQ(pool().backends.at(address(3)).mode, BackendMode::draining);
    sockets_.clear();
  });
  until([&] { return pool().backends.at(address(3)).mode == BackendMode::disabled; });
}

// Killed between any two steps, the next one goes on from what is stored.
TEST_F(PlannerTest, ARestartGoesOn) {
  want([](Pool& pool) { pool.backends.erase(address(2)); });
  for (size_t steps = 2; steps <= 4; ++steps) {
    until([&] { return did_.size() >= steps; });
    start();
  }
  until([&] { return at_rest(plan()); });
  EXPECT_EQ(did_.size(), 4u) << "no step was taken twice";
}

TEST_F(PlannerTest, AStoreThatRefusesIsTriedAgain) {
  unsigned refused = 0;
  want([&](Pool& pool) {
    pool.backends.erase(address(2));
    refused_ = &refused;
  });
  until([&] { return refused > 3; });
  thread_([&] {
    EXPECT_FALSE(plan().history.incoming);
    refused_ = nullptr;
  });
  until([&] { return at_rest(plan()); });
}

// Changes of mind all the time: everything that is wanted in the end comes to be.
TEST_F(PlannerTest, ManyChangesCommitOneAfterAnother) {
  std::mt19937 random(5);
  for (int i = 0; i < 40; ++i) {
    want([&](Pool& pool) {
      const Address one = address(static_cast<int>(1 + random() % 8));
      switch (random() % 4) {
        case 0:
          pool.backends[one].weight = static_cast<uint32_t>(1 + random() % 100);
          break;
        case 1:
          if (pool.backends.size() > 2) pool.backends.erase(one);
          break;
        case 2:
          pool.backends[one].mode = BackendMode::draining;
          break;
        default:
          pool.backends[one].mode = BackendMode::enabled;
      }
    });
    const size_t steps = thread_([&] { return did_.size(); }) + random() % 4;
    unsigned looks = 0;
    until([&] { return did_.size() >= steps || ++looks > 30; });
  }
  until([&] { return at_rest(plan()); });
  EXPECT_EQ(plan().history.current.members, shape_of(pool()).members);
}

TEST_F(PlannerTest, OneStepIsForgottenAfterItsHold) {
  want([](Pool& pool) {
    pool.forwarding = Forwarding::ipip;
    pool.hold_s = 1;
  });
  want([](Pool& pool) { pool.backends.erase(address(2)); });
  thread_([&] {
    ASSERT_TRUE(pool().plan);
    EXPECT_EQ(table_addresses(pool()).size(), 5u);
    EXPECT_EQ(planner_->waits("web"), "");
  });
  until([&] { return !pool().plan; });
  thread_([&] {
    EXPECT_EQ(table_addresses(pool()).size(), 4u);
    EXPECT_EQ(asked_, 0u) << "agents have nothing to say about it";
  });
}

}  // namespace
}  // namespace guideway
