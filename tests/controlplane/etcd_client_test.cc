// SPDX-License-Identifier: Apache-2.0
// The client against one real etcd.
#include "controlplane/etcd_client.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>

#include "tests/controlplane/etcd_server.h"
#include "tests/controlplane/etcd_test_client.h"

namespace guideway {
namespace {

class EtcdClientTest : public testing::Test {
 protected:
  // One etcd for all tests: each has a prefix of its own.
  static void SetUpTestSuite() { cluster = new EtcdCluster(1); }
  static void TearDownTestSuite() { delete cluster; }
  void SetUp() override {
    prefix = std::string("/") + testing::UnitTest::GetInstance()->current_test_info()->name() + "/";
    ASSERT_TRUE(client.wait_ready()) << client.problem() << cluster->log(0);
  }

  static EtcdConfig config() {
    EtcdConfig out;
    out.endpoints = cluster->urls();
    return out;
  }
  std::string key(const std::string& name) const { return prefix + name; }

  static EtcdCluster* cluster;
  std::string prefix;
  Watched watched;  // outlives the client
  TestClient client{config()};
};
EtcdCluster* EtcdClientTest::cluster = nullptr;

TEST_F(EtcdClientTest, PutRangeRemove) {
  const std::string value("\0\xff\"\\\n", 5);
  const auto put = client.put(key("a"), value);
  ASSERT_TRUE(put) << put.error().text;
  EXPECT_TRUE(put->succeeded);
  ASSERT_TRUE(client.put(key("b"), ""));
  auto range = client.range(prefix);
  ASSERT_TRUE(range) << range.error().text;
  ASSERT_EQ(range->entries.size(), 2U);
  EXPECT_EQ(range->entries[0], (EtcdKeyValue{key("a"), value, put->revision, put->revision, 0}));
  EXPECT_EQ(range->entries[1].value, "");
  EXPECT_EQ(range->revision, put->revision + 1);
  ASSERT_TRUE(client.txn({{}, {EtcdOp::remove(key("a"))}}));
  range = client.range(prefix);
  ASSERT_EQ(range->entries.size(), 1U);
  ASSERT_TRUE(client.txn({{}, {EtcdOp::remove_prefix(prefix)}}));
  EXPECT_TRUE(client.range(prefix)->entries.empty());
  EXPECT_EQ(client.problem(), "");
  EXPECT_EQ(client.endpoint(), cluster->url(0));
}

TEST_F(EtcdClientTest, ComparesHoldOrNothingTakesPlace) {
  const auto make = client.txn({{{key("a"), 0}}, {EtcdOp::put(key("a"), "1")}});
  ASSERT_TRUE(make && make->succeeded);
  const auto again = client.txn({{{key("a"), 0}}, {EtcdOp::put(key("a"), "2")}});
  ASSERT_TRUE(again) << again.error().text;
  EXPECT_FALSE(again->succeeded);
  EXPECT_EQ(again->revision, make->revision);
  const auto one_of_two = client.txn({{{key("a"), make->revision}, {key("b"), make->revision}},
                                      {EtcdOp::put(key("a"), "3"), EtcdOp::put(key("b"), "3")}});
  EXPECT_FALSE(one_of_two->succeeded);
  const auto both = client.txn({{{key("a"), make->revision}, {key("b"), 0}},
                                {EtcdOp::put(key("a"), "4"), EtcdOp::put(key("b"), "4")}});
  ASSERT_TRUE(both->succeeded);
  const auto range = client.range(prefix);
  ASSERT_EQ(range->entries.size(), 2U);
  for (const EtcdKeyValue& kv : range->entries) {
    EXPECT_EQ(kv.value, "4");
    EXPECT_EQ(kv.mod_revision, both->revision);
  }
}

TEST_F(EtcdClientTest, ATxnThatEtcdRefuses) {
  const auto twice = client.txn({{}, {EtcdOp::put(key("a"), "1"), EtcdOp::put(key("a"), "2")}});
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().kind, EtcdFailure::refused);
  EXPECT_EQ(twice.error().text,
            cluster->url(0) + ": etcdserver: duplicate key given in txn request");
  const auto large = client.put(key("a"), std::string(2 << 20, 'x'));
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().kind, EtcdFailure::refused);
  const auto no_lease = client.put(key("a"), "", 12345);
  ASSERT_FALSE(no_lease);
  EXPECT_EQ(no_lease.error().kind, EtcdFailure::refused);
  EXPECT_TRUE(client.range(prefix)->entries.empty());
  EXPECT_EQ(client.problem(), "");  // it is there
}

// More pages than one, while others write: all of them show the same revision.
TEST_F(EtcdClientTest, PagesOfOneRevision) {
  constexpr int kKeys = 2500;
  std::map<std::string, std::string> expected;
  for (int i = 0; i < kKeys;) {
    EtcdTxn txn;
    for (; i < kKeys && txn.ops.size() < 100; ++i) {
      const std::string name = key(std::to_string(i));
      expected[name] = "before";
      txn.ops.push_back(EtcdOp::put(name, "before"));
    }
    ASSERT_TRUE(client.txn(txn));
  }
  for (int round = 0; round < 5; ++round) {
    // Under way with the pages: keys before, in and behind those that are read.
    std::promise<void> written;
    client.run([&](EtcdClient& etcd) {
      etcd.txn({{}, {EtcdOp::put(key("0"), "after"), EtcdOp::put(key("999"), "after")}},
               [&](auto) { written.set_value(); });
    });
    const auto range = client.range(prefix);
    ASSERT_TRUE(range) << range.error().text;
    ASSERT_EQ(range->entries.size(), expected.size());
    int after = 0;
    for (const EtcdKeyValue& kv : range->entries) {
      EXPECT_TRUE(expected.count(kv.key));
      EXPECT_LE(kv.mod_revision, range->revision);
      after += kv.value == "after";
    }
    EXPECT_TRUE(after == 0 || after == 2) << after;
    written.get_future().wait();
  }
}

// A thousand of these do not fit in a page.
TEST_F(EtcdClientTest, LargeValuesInSmallerPages) {
  EtcdConfig patient = config();
  patient.request_timeout = kTestPatience;  // on a busy machine etcd takes its time for 60 MB
  TestClient client{patient};
  ASSERT_TRUE(client.wait_ready()) << client.problem();
  const std::string value(1 << 20, 'x');
  for (int i = 0; i < 60; ++i) ASSERT_TRUE(client.put(key(std::to_string(i)), value));
  const auto range = client.range(prefix);
  ASSERT_TRUE(range) << range.error().text;
  ASSERT_EQ(range->entries.size(), 60U);
  for (const EtcdKeyValue& kv : range->entries) EXPECT_EQ(kv.value, value);
  ASSERT_TRUE(client.txn({{}, {EtcdOp::remove_prefix(prefix)}}));
}

TEST_F(EtcdClientTest, LeasesTakeTheirKeysWithThem) {
  const auto lease = client.grant(60);
  ASSERT_TRUE(lease) << lease.error().text;
  ASSERT_TRUE(client.put(key("a"), "x", *lease));
  EXPECT_EQ(client.range(prefix)->entries.at(0).lease, *lease);
  const auto left = client.keep_alive(*lease);
  ASSERT_TRUE(left) << left.error().text;
  EXPECT_EQ(*left, 60);
  EXPECT_EQ(client.revoke(*lease), true);
  EXPECT_TRUE(client.range(prefix)->entries.empty());
  EXPECT_EQ(client.revoke(*lease), false);
  EXPECT_EQ(client.keep_alive(*lease), 0);
}

TEST_F(EtcdClientTest, ALeaseThatNobodyKeepsLapses) {
  const auto start = client.range(prefix)->revision + 1;
  client.watch(prefix, start, watched);
  const auto lease = client.grant(1);
  ASSERT_TRUE(lease);
  ASSERT_TRUE(client.put(key("a"), "x", *lease));
  ASSERT_TRUE(watched.wait([&] { return watched.revisions.size() == 2; }));
  client.end();
  EXPECT_EQ(watched.revisions[1].events.at(0).kind, EtcdEvent::Kind::remove);
  EXPECT_EQ(watched.revisions[1].events.at(0).kv.key, key("a"));
}

TEST_F(EtcdClientTest, AWatchTellsWhatWasAndWhatComes) {
  const auto first = client.put(key("a"), "1");
  ASSERT_TRUE(client.put("/elsewhere", "1"));
  const auto second = client.txn({{}, {EtcdOp::put(key("a"), "2"), EtcdOp::put(key("b"), "2")}});
  client.watch(prefix, first->revision, watched);
  ASSERT_TRUE(watched.wait_revision(second->revision));
  const auto third = client.txn({{}, {EtcdOp::remove_prefix(prefix)}});
  ASSERT_TRUE(watched.wait_revision(third->revision));
  client.end();
  ASSERT_EQ(watched.revisions.size(), 3U);
  EXPECT_EQ(watched.revisions[0].revision, first->revision);
  EXPECT_EQ(watched.revisions[1].events.size(), 2U);
  EXPECT_EQ(watched.revisions[1].events[1].kv,
            (EtcdKeyValue{key("b"), "2", second->revision, second->revision, 0}));
  EXPECT_EQ(watched.revisions[2].events.size(), 2U);
  EXPECT_EQ(watched.revisions[2].events[0].kind, EtcdEvent::Kind::remove);
  ASSERT_EQ(watched.states.size(), 1U);
  EXPECT_TRUE(watched.states[0].first);
}

// One revision that is larger than etcd's messages.
TEST_F(EtcdClientTest, ALargeRevisionIsToldWhole) {
  EtcdTxn txn;
  for (int i = 0; i < 120; ++i)
    txn.ops.push_back(EtcdOp::put(key(std::to_string(i)), std::string(9000, 'x')));
  const auto many = client.txn(txn);
  ASSERT_TRUE(many) << many.error().text;
  std::vector<int64_t> revisions{many->revision};
  for (int i = 0; i < 5; ++i)
    revisions.push_back(client.put(key("large"), std::string(1400 << 10, 'y'))->revision);
  const auto removed = client.txn({{}, {EtcdOp::remove_prefix(prefix)}});
  revisions.push_back(removed->revision);
  client.watch(prefix, many->revision, watched);
  ASSERT_TRUE(watched.wait_revision(removed->revision));
  client.end();
  std::vector<int64_t> seen;
  for (const EtcdRevision& one : watched.revisions) seen.push_back(one.revision);
  EXPECT_EQ(seen, revisions);
  EXPECT_EQ(watched.revisions.front().events.size(), 120U);
  EXPECT_EQ(watched.revisions.back().events.size(), 121U);
}

TEST_F(EtcdClientTest, NothingIsToldAfterUnwatch) {
  Watched other;
  const uint64_t id = client.watch(prefix, client.range(prefix)->revision + 1, watched);
  client.watch(prefix, client.range(prefix)->revision + 1, other);
  ASSERT_TRUE(client.put(key("a"), "1"));
  ASSERT_TRUE(watched.wait([&] { return watched.revisions.size() == 1; }));
  client.run([&](EtcdClient& etcd) { etcd.unwatch(id); });
  const auto put = client.put(key("a"), "2");
  ASSERT_TRUE(other.wait_revision(put->revision));
  client.end();
  EXPECT_EQ(watched.revisions.size(), 1U);
}

TEST_F(EtcdClientTest, UnwatchWithinACallback) {
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(client.put(key("a"), "x"));
  const auto first = client.range(prefix)->revision - 2;
  std::atomic<uint64_t> id = 0;
  std::atomic<int> told = 0;
  Watched other;
  client.run([&](EtcdClient& etcd) {
    EtcdClient::WatchCallbacks callbacks;
    callbacks.on_events = [&](int64_t, std::vector<EtcdEvent>) {
      ++told;
      etcd.unwatch(id);
    };
    id = etcd.watch(prefix, first, std::move(callbacks));
  });
  client.watch(prefix, first, other);
  ASSERT_TRUE(other.wait([&] { return other.revisions.size() == 3; }));
  ASSERT_TRUE(client.range(prefix));
  client.end();
  EXPECT_EQ(told, 1);
}

// The loop does not take events for a while: they wait, in etcd most of them, and all come.
TEST_F(EtcdClientTest, ALoopThatIsBehindGetsEverything) {
  const auto start = client.range(prefix)->revision + 1;
  constexpr int kPuts = 90;
  TestClient writer(config());
  std::promise<void> held, go_on;
  client.watch(prefix, start, watched);
  ASSERT_TRUE(watched.wait_connected());
  client.loop().post([&] {
    held.set_value();
    go_on.get_future().wait();
  });
  held.get_future().wait();
  int64_t last = 0;
  for (int i = 0; i < kPuts; ++i)
    last = writer.put(key(std::to_string(i)), std::string(1 << 20, 'x'))->revision;
  go_on.set_value();
  ASSERT_TRUE(watched.wait_revision(last));
  client.end();
  EXPECT_EQ(watched.revisions.size(), static_cast<size_t>(kPuts));
  EXPECT_FALSE(watched.compacted);
  ASSERT_TRUE(writer.txn({{}, {EtcdOp::remove_prefix(prefix)}}));
}

TEST_F(EtcdClientTest, CompactedEndsAWatch) {
  const auto first = client.put(key("a"), "1");
  const auto second = client.put(key("a"), "2");
  ASSERT_EQ(std::system(("ETCDCTL_API=3 etcdctl --endpoints " + cluster->url(0) + " compact " +
                         std::to_string(second->revision) + " >/dev/null 2>&1")
                            .c_str()),
            0);
  client.watch(prefix, first->revision, watched);
  ASSERT_TRUE(watched.wait([&] { return watched.compacted.has_value(); }));
  EXPECT_EQ(*watched.compacted, second->revision);
  EXPECT_TRUE(watched.revisions.empty());
  // And anew.
  Watched anew;
  client.watch(prefix, client.range(prefix)->revision + 1, anew);
  const auto third = client.put(key("a"), "3");
  EXPECT_TRUE(anew.wait_revision(third->revision));
  client.end();
}

TEST_F(EtcdClientTest, NothingComesAfterItsEnd) {
  std::atomic<int> answers = 0;
  std::atomic<bool> there = true, late = false;
  for (int round = 0; round < 20; ++round) {
    there = true;
    TestClient other(config());
    other.run([&](EtcdClient& etcd) {
      for (int i = 0; i < 20; ++i)
        etcd.range(prefix, [&](auto) {
          ++answers;
          late = late || !there;
        });
      EtcdClient::WatchCallbacks callbacks;
      callbacks.on_state = [&](bool, const std::string&) { late = late || !there; };
      etcd.watch(prefix, 1, std::move(callbacks));
    });
    if (round % 2 == 0) {
      EXPECT_TRUE(other.wait_ready());
    }
    other.loop().call([&] {
      other.client().reset();
      there = false;
    });
    other.loop().call([] {});
  }
  EXPECT_FALSE(late);
  EXPECT_GT(answers, 0);
}

TEST_F(EtcdClientTest, ItMayEndInACallback) {
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(client.put(key("a"), "x"));
  const auto first = client.range(prefix)->revision - 2;
  std::promise<void> ended;
  TestClient other(config());
  other.run([&](EtcdClient& etcd) {
    EtcdClient::WatchCallbacks callbacks;
    callbacks.on_events = [&](int64_t, std::vector<EtcdEvent>) {
      other.client().reset();
      ended.set_value();  // throws if it comes twice
    };
    etcd.watch(prefix, first, std::move(callbacks));
  });
  EXPECT_EQ(ended.get_future().wait_for(kTestPatience), std::future_status::ready);
}

// A watch and requests go on when etcd has been killed and is started again.
TEST_F(EtcdClientTest, EtcdStartsAgain) {
  const auto before = client.put(key("a"), "1");
  client.watch(prefix, before->revision, watched);
  ASSERT_TRUE(watched.wait_revision(before->revision));
  cluster->end(0);
  const auto refused = client.put(key("a"), "no");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, EtcdFailure::unreachable);
  EXPECT_EQ(refused.error().text, cluster->url(0) + ": Connection refused");
  EXPECT_EQ(client.problem(), refused.error().text);
  ASSERT_TRUE(watched.wait_down());
  cluster->start(0);
  ASSERT_TRUE(client.wait_ready());
  ASSERT_TRUE(watched.wait_connected());
  const auto after = client.put(key("a"), "2");
  ASSERT_TRUE(after) << after.error().text;
  ASSERT_TRUE(watched.wait_revision(after->revision));
  client.end();
  EXPECT_EQ(watched.revisions.size(), 2U);
}

// Its data are gone: the store is another one.
TEST_F(EtcdClientTest, AnotherStoreEndsAWatch) {
  const auto before = client.put(key("a"), "1");
  client.watch(prefix, before->revision + 1, watched);
  ASSERT_TRUE(watched.wait_connected());
  cluster->end(0);
  cluster->forget(0);
  cluster->start(0);
  ASSERT_TRUE(watched.wait([&] { return watched.compacted.has_value(); }));
  EXPECT_EQ(*watched.compacted, 0);
  client.end();
}

}  // namespace
}  // namespace guideway
