// SPDX-License-Identifier: Apache-2.0
// Nodes that share an intent through a real etcd.
#include "controlplane/store_etcd.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>

#include "tests/controlplane/etcd_relay.h"
#include "tests/controlplane/etcd_server.h"
#include "tests/controlplane/loop_thread.h"

namespace guideway {
namespace {

using namespace std::chrono_literals;
using Membership = EtcdStore::Membership;

constexpr const char* kPrefix = "/guideway/";

Address address(int number) {
  return Address::parse("10.0." + std::to_string(number / 200) + "." +
                        std::to_string(1 + number % 200))
      .value();
}

ServiceKey service(int port) {
  return ServiceKey::parse("203.0.113.10:" + std::to_string(port) + "/tcp").value();
}

Store::Change add_backend(int number) {
  return [number](const Intent& before) { return put_backend(before, "web", address(number), {}); };
}

Store::Change add_pool(const std::string& name) {
  return [name](const Intent& before) {
    WantedPool wanted;
    wanted.forwarding = Forwarding::gue;
    wanted.table_slots = 251;
    return put_pool(before, name, wanted);
  };
}

class TestNode {
 public:
  TestNode(const EtcdCluster& etcd, std::string name, std::string state = "")
      : TestNode(etcd.urls(), std::move(name), std::move(state)) {}
  TestNode(std::vector<std::string> urls, std::string name, std::string state)
      : name_(std::move(name)), state_(state.empty() ? directory_.path : state) {
    loop_.emplace();
    (*loop_)([&] {
      EtcdClient::Config config;
      config.endpoints = std::move(urls);
      config.request_timeout = 500ms;
      config.check_period = 100ms;
      config.silence_most = 300ms;
      client_ = std::move(*EtcdClient::create(loop_->loop(), config));
      auto copy = FileStore::open(state_);
      ASSERT_TRUE(copy) << copy.error().text();
      ASSERT_TRUE((*copy)->load());
      EtcdStore::Pace pace;
      pace.reconnect = 500ms;
      pace.again = 50ms;
      pace.change = 5s;
      pace.unfinished = 500ms;
      auto store = EtcdStore::create(loop_->loop(), *client_, std::move(*copy),
                                     {kPrefix, name_, state_ + "/cluster.json"}, pace);
      ASSERT_TRUE(store) << store.error().text();
      store_ = std::move(*store);
      store_->on_intent([this](const std::shared_ptr<const Intent>& intent) { told(*intent); });
    });
  }
  ~TestNode() { end(); }
  void end() {
    if (!loop_) return;
    (*loop_)([&] {
      store_.reset();
      client_.reset();
    });
    loop_.reset();
  }

  // Starts it, without waiting.
  void order(Store::Change change, Store::Done done) {
    loop_->loop().post([this, change = std::move(change), done = std::move(done)]() mutable {
      store_->change(std::move(change), "test", "a change", std::move(done));
    });
  }
  Store::ChangeOutcome change(Store::Change wanted) {
    auto promise = std::make_shared<std::promise<Store::ChangeOutcome>>();
    auto future = promise->get_future();
    order(std::move(wanted),
          [promise](Store::ChangeOutcome outcome) { promise->set_value(std::move(outcome)); });
    if (future.wait_for(20s) == std::future_status::ready) return future.get();
    ADD_FAILURE() << "no answer";
    return tl::unexpected(RefusedChange{});
  }
  void must(Store::Change wanted) {
    const auto outcome = change(std::move(wanted));
    ASSERT_TRUE(outcome) << outcome.error().error.text();
  }

  // That etcd is away is not known at once.
  void must_when_back(const Store::Change& wanted) {
    for (int i = 0; i < 10; ++i)
      if (until_current() && change(wanted)) return;
    FAIL() << "etcd is not back";
  }

  Intent intent() {
    return (*loop_)([&] { return *store_->intent(); });
  }
  EtcdStore::State state() {
    return (*loop_)([&] { return store_->state(); });
  }
  bool until(std::function<bool(EtcdStore&)> condition) {
    return loop_->eventually([&] { return condition(*store_); });
  }
  bool until_current() {
    return until([](EtcdStore& store) { return store.state().current; });
  }
  bool until_revision(uint64_t revision) {
    return until([&](EtcdStore& store) { return store.intent()->revision >= revision; });
  }
  template <typename Fn>
  void run(Fn fn) {
    (*loop_)([&] { fn(*store_, *client_); });
  }
  // As somebody beside Guideway; again if etcd is busy.
  void write(const std::string& key, const std::string& value) {
    for (int i = 0; i < 10; ++i)
      if (try_to_write(key, value)) return;
    ADD_FAILURE() << key << " is not written";
  }
  const std::string& directory() const { return state_; }

  // Which intents it was told, by their number of services: a half one must not be seen.
  std::set<size_t> services_seen;

 private:
  bool try_to_write(const std::string& key, const std::string& value) {
    std::promise<bool> done;
    run([&](EtcdStore&, EtcdClient& client) {
      EtcdTxn txn;
      txn.ops.push_back(value.empty() ? EtcdOp::remove_prefix(kPrefix + key)
                                      : EtcdOp::put(kPrefix + key, value));
      client.txn(std::move(txn), [&done](const EtcdResult<EtcdTxnResult>& result) {
        done.set_value(result.has_value());
      });
    });
    return done.get_future().get();
  }
  void told(const Intent& intent) { services_seen.insert(intent.services.size()); }

  TemporaryDirectory directory_;
  const std::string name_;
  const std::string state_;
  std::optional<LoopThread> loop_;
  std::unique_ptr<EtcdClient> client_;
  std::unique_ptr<EtcdStore> store_;
};

class EtcdStoreTest : public testing::Test {
 protected:
  EtcdCluster etcd_{1};
};

TEST_F(EtcdStoreTest, TheFirstFoundsAndTheOthersFollow) {
  TestNode one(etcd_, "n1");
  ASSERT_TRUE(one.until_current()) << one.state().problem << etcd_.log(0);
  one.must(add_pool("web"));
  TestNode two(etcd_, "n2");
  ASSERT_TRUE(two.until_current()) << two.state().problem;
  EXPECT_EQ(two.intent(), one.intent());
  two.must(add_backend(1));
  ASSERT_TRUE(one.until_revision(two.intent().revision));
  EXPECT_EQ(one.intent(), two.intent());
  EXPECT_EQ(one.intent().pools.at("web").backends.size(), 1u);
  EXPECT_EQ(one.state().cluster, two.state().cluster);
  // The same again changes nothing.
  const auto again = one.change(add_backend(1));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->before, again->after);
  EXPECT_EQ(one.intent(), two.intent());
  const auto refused = two.change(add_pool("not a name"));
  EXPECT_FALSE(refused);
}

TEST_F(EtcdStoreTest, ManyChangesFromAllNodesAtOnce) {
  constexpr int kEach = 100;
  TestNode one(etcd_, "n1"), two(etcd_, "n2"), three(etcd_, "n3");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  std::atomic<int> done{0}, failed{0};
  int number = 0;
  for (TestNode* node : {&one, &two, &three}) {
    ASSERT_TRUE(node->until_current());
    ASSERT_TRUE(node->until_revision(one.intent().revision));
    for (int i = 0; i < kEach; ++i)
      node->order(add_backend(number++),
                  [&](const Store::ChangeOutcome& outcome) { ++(outcome ? done : failed); });
  }
  ASSERT_TRUE(one.until([&](EtcdStore&) { return done + failed == 3 * kEach; }));
  EXPECT_EQ(failed, 0);
  uint64_t newest = 0;
  for (TestNode* node : {&one, &two, &three}) newest = std::max(newest, node->intent().revision);
  for (TestNode* node : {&one, &two, &three}) ASSERT_TRUE(node->until_revision(newest));
  EXPECT_EQ(one.intent().pools.at("web").backends.size(), size_t{3 * kEach});
  EXPECT_EQ(one.intent(), two.intent());
  EXPECT_EQ(one.intent(), three.intent());
}

// A planner's step counts from the change before it, which is stored together with it: a plan of a
// revision that never comes would wait for ever.
TEST_F(EtcdStoreTest, NoPlanIsOfARevisionToCome) {
  TestNode one(etcd_, "n1");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  std::atomic<int> done{0};
  const auto count = [&](const Store::ChangeOutcome& outcome) { done += outcome ? 1 : 100; };
  one.run([&](EtcdStore& store, EtcdClient&) {
    const Store::Change step = [](const Intent& before) -> ChangeResult {
      Intent after = before;
      after.pools.at("web").plan->revision = before.revision + 1;
      return after;
    };
    // The first goes out at once, the others together after it.
    for (int number = 1; number <= 3; ++number)
      store.change(add_backend(number), "test", "a backend", count);
    store.change(step, "test", "a step", count);
  });
  ASSERT_TRUE(one.until([&](EtcdStore&) { return done == 4; })) << done;
  const Intent intent = one.intent();
  EXPECT_EQ(intent.pools.at("web").plan->revision, intent.revision);
}

TEST_F(EtcdStoreTest, GarbageIsNamedAndTheRestGoesThrough) {
  TestNode one(etcd_, "n1"), two(etcd_, "n2");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  one.must([](const Intent& before) { return put_service(before, service(80), {"web"}); });
  ASSERT_TRUE(two.until_revision(one.intent().revision));
  two.write("intent/services/203.0.113.10:80/tcp", "garbage");
  const std::string key = "/guideway/intent/services/203.0.113.10:80/tcp";
  for (TestNode* node : {&one, &two}) {
    ASSERT_TRUE(
        node->until([&](EtcdStore& store) { return store.state().refused.count(key) == 1; }));
    EXPECT_EQ(node->intent().services.size(), 1u) << "the last good one stays";
  }
  // The next change of a node that has seen it goes through, and mends it.
  two.must(add_backend(5));
  ASSERT_TRUE(one.until_revision(two.intent().revision));
  EXPECT_EQ(one.intent(), two.intent());
  EXPECT_TRUE(one.state().refused.empty());

  two.write("intent/backends/web", "{\"format\":2,\"checksum\":\"\"}\n{}\n");
  ASSERT_TRUE(one.until([&](EtcdStore& store) { return !store.state().refused.empty(); }));
  const auto refused = one.change(add_backend(6));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().refusal, Refusal::conflict);
  EXPECT_EQ(refused.error().error.text(),
            "/guideway/intent/backends/web: was written by a newer version and is not overwritten "
            "(make this change on a node of that version, or upgrade this one)");
  one.must(add_pool("other"));
  ASSERT_TRUE(two.until_revision(one.intent().revision));
  EXPECT_EQ(two.intent().pools.count("other"), 1u);

  two.write("intent/head", "garbage");
  ASSERT_TRUE(one.until([](EtcdStore& store) { return !store.state().current; }));
  EXPECT_NE(one.state().problem.find("/guideway/intent/head"), std::string::npos);
  EXPECT_EQ(one.intent().pools.size(), 2u);
}

// It has no good version of what is damaged, or an older one: its changes of other things must not
// make that everybody's.
TEST_F(EtcdStoreTest, WhoKnowsLessTakesNothingBack) {
  TestNode one(etcd_, "n1");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  one.must([](const Intent& before) { return put_service(before, service(80), {"web"}); });
  one.must(add_backend(1));
  const TemporaryDirectory kept;
  const std::string& state = kept.path;
  {
    TestNode away(etcd_, "n2", state);
    ASSERT_TRUE(away.until_revision(one.intent().revision));
  }
  one.must(add_backend(2));
  one.write("intent/backends/web", "garbage");
  ASSERT_TRUE(one.until([](EtcdStore& store) { return !store.state().refused.empty(); }));
  TestNode older(etcd_, "n2", state), fresh(etcd_, "n3");
  for (TestNode* node : {&older, &fresh}) {
    ASSERT_TRUE(node->until_current());
    node->must(add_pool(node == &older ? "two" : "three"));
    ASSERT_TRUE(one.until_revision(node->intent().revision));
    EXPECT_EQ(one.intent().pools.at("web").backends.size(), 2u);
    EXPECT_EQ(one.intent().services.size(), 1u);
  }
  one.must(add_pool("four"));
  for (TestNode* node : {&older, &fresh}) {
    ASSERT_TRUE(node->until_revision(one.intent().revision));
    EXPECT_EQ(node->intent(), one.intent()) << "mended by who has seen it";
  }
}

TEST_F(EtcdStoreTest, AStartUnderABadHeadGoesOnWhenItIsMended) {
  TestNode one(etcd_, "n1");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  std::promise<std::string> head;
  one.run([&](EtcdStore&, EtcdClient& client) {
    client.range(std::string(kPrefix) + "intent/head", [&](EtcdResult<EtcdRange> range) {
      head.set_value(range ? range->entries.at(0).value : "");
    });
  });
  const std::string good = head.get_future().get();
  ASSERT_FALSE(good.empty());
  one.write("intent/head", "garbage");
  TestNode two(etcd_, "n2");
  ASSERT_TRUE(two.until([](EtcdStore& store) { return !store.state().problem.empty(); }));
  one.write("intent/head", good);
  ASSERT_TRUE(two.until_current()) << two.state().problem;
  EXPECT_EQ(two.intent().pools.count("web"), 1u);
}

TEST_F(EtcdStoreTest, WithoutEtcdChangesAreRefusedAndTheIntentStays) {
  TestNode one(etcd_, "n1");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  etcd_.end(0);
  ASSERT_TRUE(one.until([](EtcdStore& store) { return !store.state().current; }));
  const auto refused = one.change(add_backend(1));
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().refusal == Refusal::unavailable ||
              refused.error().refusal == Refusal::unsure);
  EXPECT_EQ(one.intent().pools.size(), 1u);
  etcd_.start(0);
  ASSERT_TRUE(one.until_current());
  one.must(add_backend(2));
  EXPECT_EQ(one.intent().pools.at("web").backends.count(address(2)), 1u);
}

TEST_F(EtcdStoreTest, AStartWithoutEtcdGoesOnByTheCopy) {
  TemporaryDirectory state;
  Intent last;
  {
    TestNode one(etcd_, "n1", state.path + "/n1");
    ASSERT_TRUE(one.until_current());
    one.must(add_pool("web"));
    last = one.intent();
  }
  etcd_.end(0);
  {
    TestNode one(etcd_, "n1", state.path + "/n1");
    EXPECT_EQ(one.intent(), last);
    EXPECT_FALSE(one.state().current);
    EXPECT_NE(one.state().last_contact, 0);
    EXPECT_EQ(one.state().membership, Membership::undecided);
  }
  etcd_.start(0);
  TestNode two(etcd_, "n2");
  ASSERT_TRUE(two.until_current());
  two.must(add_backend(1));
  TestNode one(etcd_, "n1", state.path + "/n1");
  ASSERT_TRUE(one.until_revision(two.intent().revision));
  EXPECT_EQ(one.intent(), two.intent()) << "it catches up";
}

TEST_F(EtcdStoreTest, AnIntentOfItsOwnIsNotGivenUpUnasked) {
  TestNode one(etcd_, "n1");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  TemporaryDirectory state;
  {
    auto file = FileStore::open(state.path + "/n2");
    Intent own = (*file)->load().value();
    own.revision = 40;
    own.pools["mine"];
    ASSERT_TRUE((*file)->save(own));
  }
  TestNode two(etcd_, "n2", state.path + "/n2");
  ASSERT_TRUE(
      two.until([](EtcdStore& store) { return store.state().membership == Membership::alone; }));
  EXPECT_EQ(two.intent().pools.count("mine"), 1u);
  two.must(add_pool("more"));  // its own affair
  EXPECT_EQ(one.intent().pools.count("more"), 0u);
  const uint64_t own_revision = two.intent().revision;

  std::promise<Result<void>> joined;
  two.run([&](EtcdStore& store, EtcdClient&) {
    store.join([&](Result<void> done) { joined.set_value(std::move(done)); });
  });
  auto done = joined.get_future().get();
  ASSERT_TRUE(done) << done.error().text();
  EXPECT_EQ(two.intent().pools.count("mine"), 0u);
  EXPECT_EQ(two.intent().pools.count("web"), 1u);
  EXPECT_GT(two.intent().revision, own_revision) << "revisions only grow on a node";
  ASSERT_TRUE(one.until_revision(two.intent().revision));
  EXPECT_EQ(one.intent(), two.intent());

  two.run([&](EtcdStore& store, EtcdClient&) { ASSERT_TRUE(store.leave()); });
  two.must(add_pool("own"));
  one.must(add_pool("theirs"));
  EXPECT_EQ(one.intent().pools.count("own"), 0u);
  two.end();
  TestNode again(etcd_, "n2", state.path + "/n2");
  EXPECT_TRUE(again.state().left);
  EXPECT_EQ(again.intent().pools.count("own"), 1u);
  EXPECT_EQ(again.intent().pools.count("theirs"), 0u);
}

TEST_F(EtcdStoreTest, ABigChangeIsSeenWholeOrNotAtAll) {
  constexpr int kServices = 450;
  TestNode one(etcd_, "n1"), two(etcd_, "n2");
  ASSERT_TRUE(one.until_current());
  ASSERT_TRUE(two.until_current());
  one.must(add_pool("web"));
  one.must([](const Intent& before) -> ChangeResult {
    Intent next = before;
    for (int i = 0; i < kServices; ++i) next.services[service(1000 + i)] = {"web"};
    return next;
  });
  ASSERT_TRUE(two.until_revision(one.intent().revision));
  EXPECT_EQ(one.intent(), two.intent());
  two.end();
  EXPECT_EQ(two.services_seen, (std::set<size_t>{0, kServices}));
}

TEST_F(EtcdStoreTest, AnEmptiedStoreIsNoOrderToDropEverything) {
  TestNode one(etcd_, "n1");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  one.write("intent/", "");
  ASSERT_TRUE(one.until([](EtcdStore& store) { return !store.state().current; }));
  EXPECT_EQ(one.intent().pools.size(), 1u);
  EXPECT_FALSE(one.state().problem.empty());
}

TEST_F(EtcdStoreTest, ReadAnewItIsNotCurrentBefore) {
  TestNode one(etcd_, "n1");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  etcd_.stop(0);
  one.run([](EtcdStore& store, EtcdClient&) {
    store.read_anew();
    EXPECT_FALSE(store.state().current);
  });
  // What the watch says is no reason: it says nothing now, and may have said nothing for long.
  one.run([](EtcdStore& store, EtcdClient&) { EXPECT_FALSE(store.state().current); });
  etcd_.go_on(0);
  EXPECT_TRUE(one.until_current()) << one.state().problem;
}

// Requests go through, the stream of the watch is dead: what the others did is in the read.
TEST_F(EtcdStoreTest, ReadAnewIsWhatADeadWatchDoesNotTell) {
  EtcdRelay relay(etcd_.url(0));
  TestNode one(etcd_, "n1"), cut({relay.url()}, "n2", "");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  ASSERT_TRUE(cut.until_current());
  ASSERT_TRUE(cut.until_revision(one.intent().revision));
  relay.set_silent(true);
  one.must(add_backend(1));
  EXPECT_TRUE(cut.state().current) << "it cannot know";
  cut.run([](EtcdStore& store, EtcdClient&) { store.read_anew(); });
  ASSERT_TRUE(cut.until_current());
  EXPECT_EQ(cut.intent(), one.intent());
}

// What the dead stream did not tell is not kept any more when it is opened anew: it is read.
TEST_F(EtcdStoreTest, WhatWasCompactedIsRead) {
  EtcdRelay relay(etcd_.url(0));
  TestNode one(etcd_, "n1"), cut({relay.url()}, "n2", "");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  ASSERT_TRUE(cut.until_current());
  ASSERT_TRUE(cut.until_revision(one.intent().revision));
  relay.set_silent(true);
  one.must(add_backend(1));
  one.must(add_backend(2));
  std::promise<int64_t> newest;
  one.run([&](EtcdStore&, EtcdClient& client) {
    client.range(kPrefix, [&](const EtcdResult<EtcdRange>& range) {
      newest.set_value(range ? range->revision : 0);
    });
  });
  ASSERT_EQ(std::system(("ETCDCTL_API=3 etcdctl --endpoints " + etcd_.url(0) + " compact " +
                         std::to_string(newest.get_future().get()) + " >/dev/null")
                            .c_str()),
            0);
  relay.set_silent(false);
  ASSERT_TRUE(cut.until_revision(one.intent().revision));
  EXPECT_EQ(cut.intent(), one.intent());
  one.must(add_backend(3));
  ASSERT_TRUE(cut.until_revision(one.intent().revision));
}

// Its writer ended after the first of several transactions: each leaves a valid intent.
TEST_F(EtcdStoreTest, AnUnfinishedChangeIsTakenAsItIsAfterAWhile) {
  TestNode one(etcd_, "n1");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  const Intent before = one.intent();
  Intent after = before;
  after.revision += 1;
  after.services[service(80)] = {"web"};
  const IntentHead head{after.revision, after.flow_seed, one.state().cluster, "gone", true};
  one.write("intent/" + std::string(kHeadKey), write_head(head));
  for (const KeyWrite& write : key_writes(before, after))
    one.write("intent/" + write.key, write.value);
  EXPECT_EQ(one.intent(), before);
  // Under a revision of its own: that of the whole is the whole's.
  ASSERT_TRUE(one.until_revision(after.revision + 1));
  after.revision += 1;
  EXPECT_EQ(one.intent(), after);
  one.must(add_backend(1));
}

// Its writer was only slow: the rest of the change goes upon what the others made of its half.
TEST_F(EtcdStoreTest, ASlowWritersHalfIsNeverTakenForTheWhole) {
  constexpr int kServices = 450;
  EtcdRelay relay(etcd_.url(0));
  TestNode slow({relay.url()}, "n1", ""), two(etcd_, "n2");
  ASSERT_TRUE(slow.until_current());
  ASSERT_TRUE(two.until_current());
  slow.must(add_pool("web"));
  std::atomic<bool> done{false};
  relay.let_pass(2);
  slow.order(
      [](const Intent& before) -> ChangeResult {
        Intent next = before;
        for (int i = 0; i < kServices; ++i) next.services[service(1000 + i)] = {"web"};
        return next;
      },
      [&](const Store::ChangeOutcome&) { done = true; });
  ASSERT_TRUE(two.until([](EtcdStore& store) { return store.intent()->services.size() == 200; }));
  const Intent half = two.intent();
  relay.let_pass(1000);
  ASSERT_TRUE(slow.until([&](EtcdStore&) { return done.load(); }));
  ASSERT_TRUE(slow.until_current());
  slow.must(add_backend(1));
  ASSERT_TRUE(two.until_revision(slow.intent().revision));
  EXPECT_EQ(two.intent(), slow.intent());
  EXPECT_GT(two.intent().revision, half.revision);
  EXPECT_EQ(two.intent().services.size(), size_t{kServices});
}

// etcd has carried it out, and the answer is lost.
TEST_F(EtcdStoreTest, AChangeWhoseAnswerIsLostIsMadeOnce) {
  EtcdRelay relay(etcd_.url(0));
  TestNode cut({relay.url()}, "n1", "");
  ASSERT_TRUE(cut.until_current());
  cut.must(add_pool("web"));
  cut.must(add_backend(1));
  const Store::Change heavier = [](const Intent& before) -> ChangeResult {
    Intent next = before;
    next.pools.at("web").backends.at(address(1)).weight += 1;
    return next;
  };
  const uint32_t before = cut.intent().pools.at("web").backends.at(address(1)).weight;
  for (uint32_t i = 1; i <= 3; ++i) {
    relay.lose_answers(1);
    cut.must(heavier);
    EXPECT_EQ(cut.intent().pools.at("web").backends.at(address(1)).weight, before + i);
  }
}

// Batched with one that etcd carries out, and does not answer for.
TEST_F(EtcdStoreTest, ARefusedChangeStaysRefusedWhenTheAnswerIsLost) {
  EtcdRelay relay(etcd_.url(0));
  TestNode cut({relay.url()}, "n1", "");
  ASSERT_TRUE(cut.until_current());
  cut.must(add_pool("web"));
  std::vector<bool> outcomes;
  relay.lose_answers(1000);
  cut.run([&](EtcdStore& store, EtcdClient&) {
    const auto note = [&](const Store::ChangeOutcome& outcome) {
      outcomes.push_back(outcome.has_value());
    };
    const Store::Change wrong = [](const Intent& intent) {
      return remove_backend(intent, "web", address(99));
    };
    store.change(add_backend(1), "test", "first", note);
    store.change(add_backend(2), "test", "second", note);
    store.change(wrong, "test", "nothing there", note);
  });
  relay.lose_answers(2);
  ASSERT_TRUE(cut.until([&](EtcdStore&) { return outcomes.size() == 3; }));
  EXPECT_EQ(std::count(outcomes.begin(), outcomes.end(), true), 2);
  EXPECT_EQ(cut.intent().pools.at("web").backends.size(), 2u);
}

TEST_F(EtcdStoreTest, LeavingInTheMidstOfAWriteDoesNotDenyIt) {
  EtcdRelay relay(etcd_.url(0));
  TestNode one(etcd_, "n1"), cut({relay.url()}, "n2", "");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  ASSERT_TRUE(cut.until_revision(one.intent().revision));
  relay.hold_answers(true);
  std::optional<Store::ChangeOutcome> outcome;
  cut.order(add_backend(1), [&](Store::ChangeOutcome its) { outcome = std::move(its); });
  ASSERT_TRUE(one.until([](EtcdStore& store) {
    return store.intent()->pools.at("web").backends.size() == 1;
  })) << "it has taken place";
  cut.run([&](EtcdStore& store, EtcdClient&) {
    ASSERT_FALSE(outcome);
    ASSERT_TRUE(store.leave());
  });
  ASSERT_TRUE(outcome && !*outcome);
  EXPECT_EQ(outcome->error().refusal, Refusal::unsure);
  relay.hold_answers(false);
}

// Its own intent is larger than one transaction, and it is cut off after the first.
TEST_F(EtcdStoreTest, AFoundingThatWasCutInTwoIsGoneOnWith) {
  constexpr int kServices = 250;
  TemporaryDirectory state;
  Intent own;
  {
    auto file = FileStore::open(state.path);
    own = (*file)->load().value();
    own.revision = 40;
    own.pools["mine"];
    for (int i = 0; i < kServices; ++i) own.services[service(1000 + i)] = {"mine"};
    ASSERT_TRUE((*file)->save(own));
  }
  EtcdRelay relay(etcd_.url(0));
  relay.let_pass(1);
  std::optional<TestNode> one(std::in_place, std::vector{relay.url()}, "n1", state.path);
  ASSERT_TRUE(one->until([&](EtcdStore&) { return relay.txns() >= 2; })) << "the other is refused";
  TestNode two(etcd_, "n2");
  ASSERT_TRUE(two.until([](EtcdStore& store) {
    return store.state().problem.find("being written by n1") != std::string::npos;
  })) << two.state().problem;
  EXPECT_TRUE(two.intent().services.empty());
  one.reset();
  relay.let_pass(1000);
  one.emplace(std::vector{relay.url()}, "n1", state.path);
  ASSERT_TRUE(one->until_current()) << one->state().problem;
  ASSERT_TRUE(two.until_current()) << two.state().problem;
  EXPECT_EQ(one->intent().services.size(), size_t{kServices});
  EXPECT_EQ(two.intent(), one->intent());
}

TEST_F(EtcdStoreTest, AHeadThatIsFarAheadIsNotTaken) {
  TestNode one(etcd_, "n1");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  const Intent before = one.intent();
  const IntentHead good{before.revision, before.flow_seed, one.state().cluster, "n1", false};
  for (const uint64_t revision : {kRevisionMost, uint64_t{1} << 63}) {
    IntentHead bad = good;
    bad.revision = revision;
    one.write("intent/head", write_head(bad));
    ASSERT_TRUE(one.until([](EtcdStore& store) { return !store.state().current; }));
    EXPECT_EQ(one.intent(), before);
    one.write("intent/head", write_head(good));
    ASSERT_TRUE(one.until_current()) << one.state().problem;
  }
  one.must(add_backend(1));
  EXPECT_EQ(one.intent().revision, before.revision + 1);
}

// What the disk did not take is written when it does, and its age is not hidden meanwhile.
TEST_F(EtcdStoreTest, TheCopyIsWrittenWhenTheDiskTakesItAgain) {
  TestNode one(etcd_, "n1");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  const std::string in_the_way = one.directory() + "/intent.json.new";
  std::filesystem::create_directory(in_the_way);
  one.must(add_backend(1));
  EXPECT_NE(one.state().problem, "");
  std::filesystem::remove(in_the_way);
  ASSERT_TRUE(one.until([](EtcdStore& store) { return store.state().problem.empty(); }));
  const Intent newest = one.intent();
  one.end();
  auto copy = FileStore::open(one.directory());
  ASSERT_TRUE(copy) << copy.error().text();
  EXPECT_EQ((*copy)->load().value(), newest);
}

// etcd answers all else.
TEST_F(EtcdStoreTest, WithoutAWatchItIsNotCurrent) {
  EtcdRelay relay(etcd_.url(0));
  TestNode cut({relay.url()}, "n1", "");
  ASSERT_TRUE(cut.until_current());
  relay.refuse_watches(true);
  etcd_.end(0);
  ASSERT_TRUE(cut.until([](EtcdStore& store) { return !store.state().current; }));
  etcd_.start(0);
  const size_t reads = relay.reads();
  ASSERT_TRUE(cut.until([&](EtcdStore& store) {
    store.read_anew();
    return relay.reads() > reads + 20;
  }));
  EXPECT_FALSE(cut.state().current);
  relay.refuse_watches(false);
  EXPECT_TRUE(cut.until_current()) << cut.state().problem;
}

// What nobody knows, and what is far too large.
TEST_F(EtcdStoreTest, StrangeKeysAreOfNoConcern) {
  TestNode one(etcd_, "n1");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  for (const char* key : {"intent/", "intent/pools", "intent/tomorrow/web", "intent/services/",
                          "intent/services/not a service", "intent/pools/a/b", "other"})
    one.write(key, std::string(300'000, 'x'));
  one.write("intent/services/203.0.113.10:80/tcp", std::string(300'000, '{'));
  one.must(add_backend(1));
  TestNode two(etcd_, "n2");
  ASSERT_TRUE(two.until_revision(one.intent().revision)) << two.state().problem;
  EXPECT_EQ(one.intent(), two.intent());
  EXPECT_EQ(two.intent().services.size(), 0u);
}

// A change that etcd does not take is its caller's affair; the next one goes through.
TEST_F(EtcdStoreTest, AChangeThatIsTooLargeForEtcdIsRefused) {
  TestNode one(etcd_, "n1");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  const Intent before = one.intent();
  const auto refused = one.change([](const Intent& intent) -> ChangeResult {
    Intent next = intent;
    for (int i = 0; i < 40'000; ++i) {
      const uint8_t v4[4] = {10, 1, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i)};
      next.pools.at("web").backends[Address::from_v4(v4)].weight =
          1 + static_cast<uint32_t>(i) % 100;
    }
    return next;
  });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().refusal, Refusal::not_stored) << refused.error().error.text();
  EXPECT_EQ(one.intent(), before);
  one.must(add_backend(1));
}

// It finds out by the transaction that fails, and does not wait for the watch for ever.
TEST_F(EtcdStoreTest, AChangeGoesThroughWithADeadWatch) {
  EtcdRelay relay(etcd_.url(0));
  TestNode one(etcd_, "n1"), cut({relay.url()}, "n2", "");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  ASSERT_TRUE(cut.until_current());
  relay.set_silent(true);
  one.must(add_backend(1));
  cut.must(add_backend(2));
  EXPECT_EQ(cut.intent().pools.at("web").backends.size(), 2u);
  ASSERT_TRUE(one.until_revision(cut.intent().revision));
  EXPECT_EQ(cut.intent(), one.intent());
}

// etcd's revisions begin again where they were; what the nodes had is newer, and goes.
TEST_F(EtcdStoreTest, ABackupThatWasRestoredIsTaken) {
  TestNode one(etcd_, "n1"), two(etcd_, "n2");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  ASSERT_TRUE(two.until_revision(one.intent().revision));
  etcd_.end(0);
  etcd_.keep(0);
  etcd_.start(0);
  one.must_when_back(add_backend(0));
  for (int i = 1; i < 30; ++i) one.must(add_backend(i));
  ASSERT_TRUE(two.until_revision(one.intent().revision));
  const uint64_t newest = one.intent().revision;
  etcd_.end(0);
  etcd_.restore(0);
  etcd_.start(0);
  for (TestNode* node : {&one, &two}) {
    ASSERT_TRUE(node->until([&](EtcdStore& store) {
      return store.state().current && store.intent()->revision > newest;
    })) << node->state().problem;
    EXPECT_TRUE(node->intent().pools.at("web").backends.empty());
  }
  two.must_when_back(add_backend(7));
  ASSERT_TRUE(one.until_revision(two.intent().revision));
  EXPECT_EQ(one.intent(), two.intent());
}

TEST_F(EtcdStoreTest, TheRevisionStaysWhenNothingChanged) {
  TestNode one(etcd_, "n1");
  ASSERT_TRUE(one.until_current());
  one.must(add_pool("web"));
  one.must(add_backend(1));
  const uint64_t revision = one.intent().revision;
  etcd_.end(0);
  ASSERT_TRUE(one.until([](EtcdStore& store) { return !store.state().current; }));
  etcd_.start(0);
  ASSERT_TRUE(one.until_current());
  EXPECT_EQ(one.intent().revision, revision);
}

}  // namespace
}  // namespace guideway
