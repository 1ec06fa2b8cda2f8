// SPDX-License-Identifier: Apache-2.0
// Three real members, of which some are killed, or stopped without a word (SIGSTOP).
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/controlplane/etcd_server.h"
#include "tests/controlplane/etcd_test_client.h"

namespace guideway {
namespace {

class EtcdClusterTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(client.wait_ready()) << client.problem() << cluster.log(0); }

  EtcdConfig config(size_t first = 0) const {
    EtcdConfig out;
    for (size_t i = 0; i < 3; ++i) out.endpoints.push_back(cluster.url((first + i) % 3));
    return out;
  }
  int member_of(const std::string& url) const {
    for (int i = 0; i < 3; ++i)
      if (cluster.url(i) == url) return i;
    return -1;
  }

  EtcdCluster cluster{3};
  Watched watched;
  TestClient client{config()};
};

// Puts new keys, two at a time, and says of each whether it is there for certain.
class Writer {
 public:
  Writer(TestClient& client, std::string prefix) : client_(client), prefix_(std::move(prefix)) {}

  EtcdResult<EtcdTxnResult> put() {
    const std::string key = prefix_ + std::to_string(++count_);
    auto put = client_.txn({{{key, 0}}, {EtcdOp::put(key, "x"), EtcdOp::put(key + "b", "x")}});
    if (put && put->succeeded) there[put->revision] = key;
    if (!put && put.error().kind != EtcdFailure::unknown) not_there.insert(key);
    if (!put && put.error().kind == EtcdFailure::unknown) ++unknown;
    return put;
  }
  // Until one is certain to be there.
  int64_t put_for_certain() {
    const auto until = std::chrono::steady_clock::now() + kTestPatience;
    while (std::chrono::steady_clock::now() < until) {
      const auto done = put();
      if (done && done->succeeded) return done->revision;
    }
    ADD_FAILURE() << "no txn goes through: " << client_.problem();
    return 0;
  }

  std::map<int64_t, std::string> there;  // by revision
  std::set<std::string> not_there;
  int unknown = 0;

 private:
  TestClient& client_;
  const std::string prefix_;
  int count_ = 0;
};

// What the watch has told against what the store holds. No key is written twice or removed.
void expect_all_told(const std::vector<EtcdRevision>& told, const EtcdRange& range,
                     int64_t from_revision) {
  std::map<int64_t, std::set<std::string>> store, watch;
  for (const EtcdKeyValue& kv : range.entries)
    if (kv.mod_revision >= from_revision) store[kv.mod_revision].insert(kv.key);
  int64_t last = 0;
  for (const EtcdRevision& one : told) {
    EXPECT_GT(one.revision, last);
    last = one.revision;
    for (const EtcdEvent& event : one.events)
      EXPECT_TRUE(watch[one.revision].insert(event.kv.key).second);
  }
  EXPECT_EQ(watch, store);
}

TEST_F(EtcdClusterTest, MembersAreKilledInTurn) {
  TestClient writing(config(1));
  Writer writer(writing, "/k/");
  const int64_t start = client.range("/k/")->revision + 1;
  client.watch("/k/", start, watched);
  ASSERT_TRUE(watched.wait_connected());
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 20; ++i) writer.put_for_certain();
    // The one that serves the watch; the leader is among them sooner or later.
    const int victim = member_of(client.endpoint());
    cluster.end(victim);
    int64_t last = 0;
    for (int i = 0; i < 20; ++i) last = writer.put_for_certain();
    ASSERT_TRUE(watched.wait_revision(last));
    cluster.start(victim);
    // It must be back before the next is killed.
    EtcdConfig alone = config();
    alone.endpoints = {cluster.url(victim)};
    ASSERT_TRUE(TestClient(alone).wait_ready());
  }
  const auto range = client.range("/k/");
  ASSERT_TRUE(range) << range.error().text;
  ASSERT_TRUE(watched.wait_revision(range->entries.back().mod_revision));
  ASSERT_TRUE(watched.wait_revision(writer.there.rbegin()->first));
  client.end();
  expect_all_told(watched.revisions, *range, start);
  // One of three is not noticed.
  ASSERT_EQ(watched.states.size(), 1U);
  EXPECT_TRUE(watched.states[0].first);
  std::set<std::string> keys;
  for (const EtcdKeyValue& kv : range->entries) keys.insert(kv.key);
  for (const auto& [revision, key] : writer.there) EXPECT_TRUE(keys.count(key)) << key;
  for (const std::string& key : writer.not_there) EXPECT_FALSE(keys.count(key)) << key;
}

// A member that is stopped keeps its connections, and the kernel answers for it.
TEST_F(EtcdClusterTest, TheMemberOfTheWatchIsStopped) {
  TestClient writing(config(1));
  Writer writer(writing, "/k/");
  const int64_t start = client.range("/k/")->revision + 1;
  client.watch("/k/", start, watched);
  ASSERT_TRUE(watched.wait_connected());
  const int64_t before = writer.put_for_certain();
  ASSERT_TRUE(watched.wait_revision(before));
  const int home = member_of(client.endpoint());
  cluster.stop(home);
  const int64_t last = writer.put_for_certain();
  ASSERT_TRUE(watched.wait_revision(last));
  EXPECT_NE(member_of(client.endpoint()), home);
  cluster.go_on(home);
  for (int i = 0; i < 20; ++i) writer.put_for_certain();
  const auto range = client.range("/k/");
  ASSERT_TRUE(range) << range.error().text;
  ASSERT_TRUE(watched.wait_revision(writer.there.rbegin()->first));
  client.end();
  expect_all_told(watched.revisions, *range, start);
  EXPECT_EQ(watched.states.size(), 1U);
}

// The member of the watch runs, and is alone: it must not hold the watch, nor say that all is well.
TEST_F(EtcdClusterTest, WithoutAQuorumItIsToldAndNothingIsWritten) {
  TestClient writing(config());
  Writer writer(writing, "/k/");
  const int64_t start = client.range("/k/")->revision + 1;
  client.watch("/k/", start, watched);
  ASSERT_TRUE(watched.wait_connected());
  writer.put_for_certain();
  const int home = member_of(client.endpoint());
  for (int i = 0; i < 3; ++i)
    if (i != home) cluster.stop(i);
  ASSERT_TRUE(watched.wait_down());
  EXPECT_NE(client.problem(), "");
  const auto put = writer.put();
  ASSERT_FALSE(put);
  EXPECT_NE(put.error().kind, EtcdFailure::refused) << put.error().text;
  EXPECT_FALSE(client.range("/k/"));
  for (int i = 0; i < 3; ++i)
    if (i != home) cluster.go_on(i);
  ASSERT_TRUE(watched.wait_connected());
  const int64_t last = writer.put_for_certain();
  ASSERT_TRUE(watched.wait_revision(last));
  const auto range = client.range("/k/");
  ASSERT_TRUE(range) << range.error().text;
  client.end();
  expect_all_told(watched.revisions, *range, start);
  ASSERT_EQ(watched.states.size(), 3U);
  EXPECT_FALSE(watched.states[1].first);
  EXPECT_NE(watched.states[1].second.find(cluster.url(home)), std::string::npos)
      << watched.states[1].second;
}

TEST_F(EtcdClusterTest, AllAreDownForAWhile) {
  TestClient writing(config());
  Writer writer(writing, "/k/");
  const int64_t start = client.range("/k/")->revision + 1;
  client.watch("/k/", start, watched);
  ASSERT_TRUE(watched.wait_connected());
  writer.put_for_certain();
  for (int i = 0; i < 3; ++i) cluster.end(i);
  EXPECT_EQ(writer.put().error().kind, EtcdFailure::unreachable);
  ASSERT_TRUE(watched.wait_down());
  for (int i = 0; i < 3; ++i) cluster.start(i);
  ASSERT_TRUE(watched.wait_connected());
  const int64_t last = writer.put_for_certain();
  ASSERT_TRUE(watched.wait_revision(last));
  const auto range = client.range("/k/");
  ASSERT_TRUE(range) << range.error().text;
  client.end();
  expect_all_told(watched.revisions, *range, start);
}

}  // namespace
}  // namespace guideway
