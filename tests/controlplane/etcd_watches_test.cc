// SPDX-License-Identifier: Apache-2.0
// Watches at servers that fail.
#include "controlplane/etcd_watches.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/controlplane/etcd_test_client.h"
#include "tests/controlplane/fake_etcd.h"

namespace guideway {
namespace {

using std::chrono::milliseconds;
using Peer = FakeEtcd::Peer;
using Request = FakeEtcd::Request;

constexpr const char* kRange = "/v3/kv/range";
constexpr const char* kWatch = "/v3/watch";

const std::string kGood = R"({"header":{"revision":"7","cluster_id":"1"},"succeeded":true})";

bool silent(const Request&, const Peer& peer) {
  peer.wait_for_end();
  return false;
}

EtcdConfig config_of(std::vector<std::string> endpoints) {
  EtcdConfig config;
  config.endpoints = std::move(endpoints);
  config.request_timeout = milliseconds(300);
  return config;
}

// A server for watches: its range says this revision, its stream is what the test says.
FakeEtcd::Serve watch_server(std::function<bool(const Request&, const Peer&)> stream) {
  return [stream = std::move(stream)](const Request& request, const Peer& peer) {
    return request.path == kWatch ? stream(request, peer) : peer.answer(kGood);
  };
}
std::string created() {
  return R"({"result":{"created":true}})"
         "\n";
}
std::string put_event(int revision) {
  return R"({"result":{"events":[{"kv":{"key":"YQ==","mod_revision":")" + std::to_string(revision) +
         R"("}}]}})" + "\n";
}

TEST(EtcdWatches, GoesOnWhereItStopped) {
  std::atomic<int> streams = 0;
  FakeEtcd only(watch_server([&](const Request&, const Peer& peer) {
    peer.begin();
    const int stream = ++streams;
    if (stream <= 3) {
      // Ends with half a message, and in the midst of a revision.
      peer.send(created() + put_event(stream + 1));
      peer.send(R"({"result":{"fragment":true,"events":[{"kv":{"key":"YQ==","mod_revision":")" +
                std::to_string(stream + 2) + R"("}}]}})" + "\n" + R"({"result":{"ev)");
      return false;
    }
    peer.send(created() + put_event(5));
    peer.wait_for_end();
    return false;
  }));
  Watched watched;
  TestClient client(config_of({only.url}));
  client.watch("a", 2, watched);
  ASSERT_TRUE(watched.wait_revision(5));
  client.end();
  std::vector<int64_t> revisions;
  for (const EtcdRevision& one : watched.revisions) revisions.push_back(one.revision);
  EXPECT_EQ(revisions, (std::vector<int64_t>{2, 3, 4, 5}));
  int start = 2;
  for (const Request& request : only.requests()) {
    if (request.path != kWatch) continue;
    EXPECT_NE(request.body.find("\"start_revision\":\"" + std::to_string(start++) + "\""),
              std::string::npos)
        << request.body;
  }
  EXPECT_EQ(start, 6);
}

// A member that answers no linearizable read serves no watch, however well the stream stands.
TEST(EtcdWatches, LeavesAMemberThatHasLostItsQuorum) {
  std::atomic<bool> lost = false;
  FakeEtcd first([&](const Request& request, const Peer& peer) {
    if (request.path == kRange) return lost ? silent(request, peer) : peer.answer(kGood);
    peer.begin();
    peer.send(created());
    peer.wait_for_end();
    return false;
  });
  FakeEtcd second(watch_server([](const Request&, const Peer& peer) {
    peer.begin();
    peer.send(created() + put_event(2));
    peer.wait_for_end();
    return false;
  }));
  EtcdConfig config = config_of({first.url, second.url});
  config.check_period = milliseconds(50);
  Watched watched;
  TestClient client(config);
  client.watch("a", 2, watched);
  ASSERT_TRUE(watched.wait_connected());
  EXPECT_EQ(second.count(kWatch), 0U);
  lost = true;
  ASSERT_TRUE(watched.wait_revision(2));
  client.end();
  EXPECT_EQ(watched.states.size(), 1U);  // a move is not told
}

TEST(EtcdWatches, AStreamThatIsNotEtcds) {
  for (const std::string& body : {std::string("<html>"), std::string(17 << 20, ' '),
                                  std::string(R"({"result":{"events":3}})")}) {
    FakeEtcd only(watch_server([&](const Request&, const Peer& peer) {
      peer.begin();
      peer.send(body);
      return false;
    }));
    Watched watched;
    TestClient client(config_of({only.url}));
    client.watch("a", 2, watched);
    ASSERT_TRUE(watched.wait_down());
    client.end();
    EXPECT_TRUE(watched.revisions.empty());
    EXPECT_TRUE(watched.states[0].second.starts_with(only.url + ": a watch message"))
        << watched.states[0].second;
  }
}

TEST(EtcdWatches, AStreamThatDoesNotBegin) {
  FakeEtcd first(watch_server(silent));
  Watched watched;
  TestClient client(config_of({first.url}));
  client.watch("a", 2, watched);
  ASSERT_TRUE(watched.wait_down());
  client.end();
  EXPECT_EQ(watched.states[0].second, first.url + ": does not begin the watch");
}

TEST(EtcdWatches, AStoreThatWentBackIsAnother) {
  std::atomic<bool> back = false;
  FakeEtcd only([&](const Request& request, const Peer& peer) {
    if (request.path == kRange)
      return peer.answer(back ? R"({"header":{"revision":"3","cluster_id":"1"}})" : kGood);
    peer.begin();
    peer.send(created() + put_event(6));
    peer.wait_for_end();
    return false;
  });
  EtcdConfig config = config_of({only.url});
  config.check_period = milliseconds(50);
  Watched watched;
  TestClient client(config);
  client.watch("a", 2, watched);
  ASSERT_TRUE(watched.wait_revision(6));
  back = true;
  ASSERT_TRUE(watched.wait([&] { return watched.compacted.has_value(); }));
  EXPECT_EQ(*watched.compacted, 0);
}

// The member answers, and something in between has forgotten the stream's connection.
TEST(EtcdWatches, ASilentStreamIsOpenedAnewWhenTheStoreGoesOn) {
  std::atomic<int> streams = 0;
  FakeEtcd only(watch_server([&](const Request&, const Peer& peer) {
    peer.begin();
    peer.send(created());
    if (++streams == 3) peer.send(put_event(7));
    peer.wait_for_end();
    return false;
  }));
  EtcdConfig config = config_of({only.url});
  config.check_period = config.silence_most = milliseconds(20);
  Watched watched;
  TestClient client(config);
  client.watch("a", 7, watched);
  ASSERT_TRUE(watched.wait_revision(7));
  EXPECT_EQ(streams, 3);
  // Now it has told all that there is.
  const size_t checks = only.count(kRange);
  ASSERT_TRUE(only.wait([&](const std::vector<Request>& requests) {
    return static_cast<size_t>(
               std::count_if(requests.begin(), requests.end(),
                             [](const Request& one) { return one.path == kRange; })) > checks + 10;
  }));
  client.end();
  EXPECT_EQ(streams, 3);
  EXPECT_EQ(watched.states.size(), 1U);  // nobody hears of it
}

}  // namespace
}  // namespace guideway
