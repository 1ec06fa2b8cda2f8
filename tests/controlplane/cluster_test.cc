// SPDX-License-Identifier: Apache-2.0
// Nodes that know of each other through a real etcd.
#include "controlplane/cluster.h"

#include <gtest/gtest.h>

#include <memory>

#include "tests/controlplane/etcd_relay.h"
#include "tests/controlplane/etcd_server.h"
#include "tests/controlplane/etcd_test_client.h"
#include "tests/controlplane/loop_thread.h"

namespace guideway {
namespace {

using namespace std::chrono_literals;

class TestNode {
 public:
  TestNode(const EtcdCluster& etcd, const std::string& name, const std::string& id)
      : TestNode(etcd.urls(), name, id) {}
  TestNode(std::vector<std::string> urls, const std::string& name, const std::string& id) {
    report_.id = id;
    report_.version = "1";
    loop_([&] {
      EtcdClient::Config config;
      config.endpoints = std::move(urls);
      config.request_timeout = 500ms;
      config.check_period = 100ms;
      config.silence_most = 300ms;
      client_ = std::move(*EtcdClient::create(loop_.loop(), config));
      cluster_ = std::make_unique<Cluster>(loop_.loop(), *client_,
                                           Cluster::Config{"/guideway/live/", name, 2s}, [] {});
      cluster_->start();
    });
    runs(1);
  }
  ~TestNode() { die(); }
  // Without a word.
  void die() {
    loop_([&] {
      cluster_.reset();
      client_.reset();
    });
  }
  void runs(uint64_t revision) {
    loop_([&] {
      report_.intent = report_.revision = report_.digest = revision;
      cluster_->report(report_);
    });
  }
  void shares(const std::string& value) {
    loop_([&] { cluster_->share(value); });
  }
  bool until_shared(const std::string& node, const std::string& value) {
    return until([&](Cluster& cluster) {
      const auto shared = cluster.shared().find(node);
      return shared == cluster.shared().end() ? value.empty() : shared->second.value == value;
    });
  }
  void leave() {
    loop_([&] { cluster_->stop(); });
  }
  bool until(std::function<bool(Cluster&)> condition) {
    return loop_.eventually([&] { return condition(*cluster_); });
  }
  bool until_confirmed(uint64_t revision) {
    return until([&](Cluster& cluster) { return cluster.confirmed() == revision; });
  }
  std::string problem() {
    return loop_([&] { return cluster_->problem(); });
  }

 private:
  LoopThread loop_;
  NodeReport report_;
  std::unique_ptr<EtcdClient> client_;
  std::unique_ptr<Cluster> cluster_;
};

class ClusterTest : public testing::Test {
 protected:
  EtcdCluster etcd_{1};
};

TEST_F(ClusterTest, OneIsElectedAndKnowsWhatAllRun) {
  TestNode one(etcd_, "n1", "a"), two(etcd_, "n2", "b");
  ASSERT_TRUE(one.until([](Cluster& c) { return c.nodes().size() == 2; })) << one.problem();
  ASSERT_TRUE(one.until([](Cluster& c) { return !c.elected().empty(); }));
  const std::string elected = [&] {
    std::string name;
    one.until([&](Cluster& c) { return !(name = c.elected()).empty(); });
    return name;
  }();
  TestNode& leader = elected == "n1" ? one : two;
  TestNode& other = elected == "n1" ? two : one;
  ASSERT_TRUE(leader.until_confirmed(1));
  leader.runs(5);
  other.runs(3);
  ASSERT_TRUE(leader.until_confirmed(3));
  EXPECT_TRUE(other.until([](Cluster& c) { return c.confirmed() == 0 && !c.is_elected(); }));
  other.runs(5);
  ASSERT_TRUE(leader.until_confirmed(5));
  EXPECT_TRUE(other.until([](Cluster& c) {
    const auto nodes = c.nodes();
    return nodes.size() == 2 && nodes.at("n1").report.digest == 5 &&
           nodes.at("n2").report.digest == 5;
  }));
}

TEST_F(ClusterTest, OneThatIsGoneIsWaitedForAMargin) {
  auto one = std::make_unique<TestNode>(etcd_, "n1", "a");
  ASSERT_TRUE(one->until([](Cluster& c) { return c.is_elected(); }));
  TestNode two(etcd_, "n2", "b");
  ASSERT_TRUE(one->until([](Cluster& c) { return c.nodes().size() == 2; }));
  one->runs(9);
  ASSERT_TRUE(one->until_confirmed(1));
  two.die();
  ASSERT_TRUE(one->until([](Cluster& c) { return !c.nodes().at("n2").alive; }));
  EXPECT_TRUE(one->until_confirmed(1)) << "its lease has ended, the margin has not";
  ASSERT_TRUE(one->until_confirmed(9));
  EXPECT_TRUE(one->until([](Cluster& c) { return c.nodes().size() == 1; }));
}

TEST_F(ClusterTest, AnotherIsElectedWhenTheElectedIsGone) {
  auto one = std::make_unique<TestNode>(etcd_, "n1", "a");
  ASSERT_TRUE(one->until([](Cluster& c) { return c.is_elected(); }));
  TestNode two(etcd_, "n2", "b");
  ASSERT_TRUE(two.until([](Cluster& c) { return c.nodes().size() == 2; }));
  one->leave();  // with a word: at once
  ASSERT_TRUE(two.until([](Cluster& c) { return c.is_elected(); }));
  EXPECT_TRUE(two.until_confirmed(1));
}

TEST_F(ClusterTest, ANameBelongsToOneNode) {
  TestNode one(etcd_, "n1", "a");
  ASSERT_TRUE(one.until([](Cluster& c) { return c.nodes().count("n1") == 1; }));
  TestNode stranger(etcd_, "n1", "b");
  ASSERT_TRUE(stranger.until(
      [](Cluster& c) { return c.problem() == "another node of this cluster is called n1"; }));
  // The same node, started again, takes its key over at once.
  TestNode again(etcd_, "n1", "a");
  again.runs(7);
  ASSERT_TRUE(one.until([](Cluster& c) { return c.nodes().at("n1").report.revision == 7; }));
}

TEST_F(ClusterTest, WithoutEtcdTheLeaseLapsesBeforeItEnds) {
  TestNode one(etcd_, "n1", "a");
  ASSERT_TRUE(one.until([](Cluster& c) { return c.is_elected(); }));
  etcd_.end(0);
  ASSERT_TRUE(one.until([](Cluster& c) { return !c.has_lease(); }));
  EXPECT_TRUE(one.until([](Cluster& c) { return !c.is_elected() && c.confirmed() == 0; }));
  etcd_.start(0);
  ASSERT_TRUE(one.until([](Cluster& c) { return c.has_lease(); })) << one.problem();
  ASSERT_TRUE(one.until([](Cluster& c) { return c.is_elected(); }));
}

TEST_F(ClusterTest, WhatSomebodyElseDoesToItsKeysIsMended) {
  TestNode one(etcd_, "n1", "a"), two(etcd_, "n2", "b");
  ASSERT_TRUE(one.until([](Cluster& c) { return c.nodes().size() == 2 && c.is_counted(); }));
  EtcdConfig config;
  config.endpoints = etcd_.urls();
  TestClient stranger(config);
  const auto is_as_before = [](Cluster& c) {
    const auto nodes = c.nodes();
    const auto it = nodes.find("n1");
    return it != nodes.end() && it->second.alive && it->second.problem.empty() &&
           it->second.report.id == "a";
  };
  for (const EtcdOp& op : {EtcdOp::put("/guideway/live/nodes/n1", "garbage"),
                           EtcdOp::remove("/guideway/live/nodes/n1")}) {
    const auto done = stranger.txn({{}, {op}});
    ASSERT_TRUE(done);
    // Not by what was there before: one of a later revision of the store.
    ASSERT_TRUE(one.until([&](Cluster& c) { return c.is_counted(); }));
    EXPECT_TRUE(two.until(is_as_before)) << two.problem();
    ASSERT_TRUE([&] {
      for (int i = 0; i < 10'000; ++i) {
        const auto range = stranger.range("/guideway/live/nodes/n1");
        if (range && range->entries.size() == 1 && range->entries[0].mod_revision > done->revision)
          return true;
      }
      return false;
    }()) << "it is not written anew";
  }
}

// Nobody renews it, and nobody would be elected any more.
TEST_F(ClusterTest, AnElectionWithoutALeaseIsNone) {
  EtcdConfig config;
  config.endpoints = etcd_.urls();
  TestClient stranger(config);
  ASSERT_TRUE(stranger.wait_ready());
  ASSERT_TRUE(stranger.put("/guideway/live/elected", "nobody"));
  TestNode one(etcd_, "n1", "a");
  EXPECT_TRUE(one.until([](Cluster& c) { return c.is_elected(); })) << one.problem();
}

// The stream of the elected node's watch is dead: it sees the other by asking.
TEST_F(ClusterTest, TheElectedReadsTheNodesBeforeItSaysThatAllRunIt) {
  EtcdRelay relay(etcd_.url(0));
  TestNode one({relay.url()}, "n1", "a");
  ASSERT_TRUE(one.until_confirmed(1));
  relay.set_silent(true);
  TestNode two(etcd_, "n2", "b");
  ASSERT_TRUE(two.until([](Cluster& c) { return c.is_counted(); })) << two.problem();
  one.runs(2);
  ASSERT_TRUE(one.until([](Cluster& c) { return c.nodes().size() == 2; }));
  EXPECT_TRUE(one.until([](Cluster& c) { return c.confirmed() == 1; }));
  two.runs(2);
  ASSERT_TRUE(two.until([](Cluster& c) { return c.nodes().at("n2").report.revision == 2; }));
  relay.set_silent(false);
  EXPECT_TRUE(one.until_confirmed(2));
}

TEST_F(ClusterTest, NodesAreKnownAfterABackupWasRestored) {
  TestNode one(etcd_, "n1", "a"), two(etcd_, "n2", "b");
  const auto sees_two = [](Cluster& c) { return c.nodes().size() == 2 && c.is_counted(); };
  ASSERT_TRUE(one.until(sees_two));
  etcd_.end(0);
  etcd_.keep(0);
  etcd_.start(0);
  for (uint64_t i = 2; i < 30; ++i) {
    one.runs(i);
    ASSERT_TRUE(two.until([i](Cluster& c) {
      const auto nodes = c.nodes();
      return nodes.contains("n1") && nodes.at("n1").report.revision == i;
    }));
  }
  etcd_.end(0);
  etcd_.restore(0);
  etcd_.start(0);
  one.runs(50);
  EXPECT_TRUE(two.until([](Cluster& c) {
    const auto nodes = c.nodes();
    return nodes.contains("n1") && nodes.at("n1").report.revision == 50 && c.is_counted();
  })) << two.problem();
}

// Its watch had told it less than its own writes did, so that the backup seems to be no step back.
TEST_F(ClusterTest, ANodeIsKnownAfterABackupThatItsWatchCannotTell) {
  EtcdRelay relay(etcd_.url(0));
  TestNode one({relay.url()}, "n1", "a"), two(etcd_, "n2", "b");
  ASSERT_TRUE(one.until([](Cluster& c) { return c.nodes().size() == 2 && c.is_counted(); }));
  ASSERT_TRUE(two.until([](Cluster& c) { return c.nodes().size() == 2 && c.is_counted(); }));
  relay.set_silent(true);
  etcd_.end(0);
  etcd_.keep(0);
  etcd_.start(0);
  for (uint64_t i = 2; i < 30; ++i) {
    one.runs(i);
    ASSERT_TRUE(one.until([i](Cluster& c) { return c.nodes().at("n1").report.revision == i; }));
  }
  etcd_.end(0);
  etcd_.restore(0);
  etcd_.start(0);
  one.runs(50);
  EXPECT_TRUE(two.until([](Cluster& c) {
    const auto nodes = c.nodes();
    return nodes.contains("n1") && nodes.at("n1").report.revision == 50 && c.is_counted();
  })) << one.problem();
}

// Nobody renews it, and every step would wait for it.
TEST_F(ClusterTest, ANodeWithoutALeaseIsWaitedForByNobody) {
  EtcdConfig config;
  config.endpoints = etcd_.urls();
  TestClient stranger(config);
  ASSERT_TRUE(stranger.wait_ready());
  ASSERT_TRUE(stranger.put("/guideway/live/nodes/ghost", write_report({"x", "1", 1, 1, 1, 1})));
  TestNode one(etcd_, "n1", "a");
  one.runs(7);
  ASSERT_TRUE(one.until_confirmed(7)) << one.problem();
  EXPECT_TRUE(one.until([](Cluster& c) {
    const auto nodes = c.nodes();
    return !nodes.at("ghost").alive &&
           nodes.at("ghost").problem.find("no lease") != std::string::npos;
  }));
}

TEST_F(ClusterTest, WhatANodeSharesIsSeenByTheOthersAndGoesWithIt) {
  TestNode one(etcd_, "n1", "a"), two(etcd_, "n2", "b");
  one.shares("first");
  ASSERT_TRUE(two.until_shared("n1", "first"));
  ASSERT_TRUE(one.until_shared("n1", "first"));
  const auto written = [&](TestNode& node) {
    int64_t revision = 0;
    node.until([&](Cluster& c) {
      revision = c.shared().at("n1").revision;
      return true;
    });
    return revision;
  };
  const int64_t before = written(two);
  for (int i = 0; i < 1000; ++i) one.shares(std::to_string(i));
  ASSERT_TRUE(two.until_shared("n1", "999"));
  // Two nodes' reports and leases are settled by then: what was written since is what was shared.
  EXPECT_LE(written(two) - before, 10) << "a thousand changes are a few writes";
  one.die();
  EXPECT_TRUE(two.until_shared("n1", "")) << "it has no lease any more";
}

TEST_F(ClusterTest, WhatANodeSharesIsMendedWhenSomebodyElseWritesThere) {
  TestNode one(etcd_, "n1", "a");
  one.shares("a view");
  ASSERT_TRUE(one.until_shared("n1", "a view"));
  EtcdConfig config;
  config.endpoints = etcd_.urls();
  TestClient stranger(config);
  const auto put = stranger.put("/guideway/live/views/n1", "garbage");
  ASSERT_TRUE(put);
  EXPECT_TRUE(one.until([&](Cluster& c) {
    const Cluster::Shared& shared = c.shared().at("n1");
    return shared.value == "a view" && shared.revision > put->revision;
  }));
}

TEST_F(ClusterTest, WhatANodeSharesComesBackWithItsLease) {
  TestNode one(etcd_, "n1", "a");
  one.shares("a view");
  ASSERT_TRUE(one.until_shared("n1", "a view"));
  EXPECT_TRUE(one.until([](Cluster& c) { return c.is_current(); }));
  etcd_.end(0);
  ASSERT_TRUE(one.until([](Cluster& c) { return !c.is_current(); }));
  etcd_.start(0);
  ASSERT_TRUE(one.until([](Cluster& c) { return c.is_current(); }));
  EXPECT_TRUE(one.until_shared("n1", "a view"));
}

TEST(NodeReport, IsReadAsWritten) {
  const NodeReport report{"id", "0.1.0", 5, 4, 3, ~uint64_t{0}};
  EXPECT_EQ(read_report(write_report(report)).value(), report);
  for (const char* bad : {"", "x", "{}", "[]", "{\"id\":1}",
                          "{\"id\":\"a\",\"version\":\"1\",\"intent\":-1,\"revision\":0,"
                          "\"generation\":0,\"digest\":0}"})
    EXPECT_FALSE(read_report(bad)) << bad;
}

}  // namespace
}  // namespace guideway
