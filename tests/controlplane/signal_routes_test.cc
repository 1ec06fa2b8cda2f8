// SPDX-License-Identifier: Apache-2.0
#include "controlplane/signal_routes.h"

#include <gtest/gtest.h>
#include <linux/rtnetlink.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "controlplane/announce_table.h"
#include "controlplane/kernel_route.h"
#include "tests/controlplane/loop_thread.h"
#include "tests/controlplane/test_network.h"

namespace guideway {
namespace {

SignalRoutes::Metrics metrics(std::initializer_list<std::pair<const char*, uint32_t>> entries) {
  SignalRoutes::Metrics out;
  for (const auto& [vip, metric] : entries) out[*Address::parse(vip)] = metric;
  return out;
}

class SignalRoutesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    network_ = TestNetwork::create();
    if (!network_) GTEST_SKIP() << "needs root and network namespaces";
    loop_ = std::make_unique<LoopThread>();
    make();
  }
  void TearDown() override {
    if (loop_ && routes_) (*loop_)([&] { routes_.reset(); });
  }
  void make() {
    (*loop_)([&] {
      auto routes = SignalRoutes::create(loop_->loop(), {});
      ASSERT_TRUE(routes) << routes.error().text();
      routes_ = std::move(*routes);
    });
  }
  void set(const SignalRoutes::Metrics& wanted) {
    (*loop_)([&] {
      const auto ok = routes_->set(wanted);
      EXPECT_TRUE(ok) << ok.error().text();
    });
  }
  static std::string ours(const char* family) {
    return TestNetwork::output("ip " + std::string(family) + " route show proto 203");
  }

  std::unique_ptr<TestNetwork> network_;
  std::unique_ptr<LoopThread> loop_;
  std::unique_ptr<SignalRoutes> routes_;
};

TEST_F(SignalRoutesTest, OneRoutePerVipWithItsMetric) {
  const auto wanted =
      metrics({{"203.0.113.10", 100}, {"203.0.113.11", 200}, {"2001:db8::10", 100}});
  set(wanted);
  EXPECT_EQ(ours("-4"), "blackhole 203.0.113.10 metric 100 \nblackhole 203.0.113.11 metric 200 \n");
  EXPECT_EQ(ours("-6"), "blackhole 2001:db8::10 dev lo metric 100 pref medium\n");
  EXPECT_EQ((*loop_)([&] { return routes_->read().value(); }), wanted);
  set(metrics({{"203.0.113.11", 200}}));
  EXPECT_EQ(ours("-4"), "blackhole 203.0.113.11 metric 200 \n");
  EXPECT_EQ(ours("-6"), "");
}

TEST_F(SignalRoutesTest, AMetricChangesWithoutAMomentOfNeither) {
  set(metrics({{"203.0.113.10", 100}, {"2001:db8::10", 100}}));
  auto events = NetlinkSocket::open({RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE});
  ASSERT_TRUE(events);
  set(metrics({{"203.0.113.10", 200}, {"2001:db8::10", 200}}));
  std::string seen;
  events->read([&](const nlmsghdr* message) {
    const TableRoute route = table_route(message);
    seen += (message->nlmsg_type == RTM_NEWROUTE ? "+" : "-") + route.destination->text() + " " +
            std::to_string(route.metric) + "\n";
  });
  EXPECT_EQ(seen, "+203.0.113.10 200\n-203.0.113.10 100\n+2001:db8::10 200\n-2001:db8::10 100\n");
}

TEST_F(SignalRoutesTest, ASecondLifeReadsThemAndLeftOversGo) {
  set(metrics({{"203.0.113.10", 100}, {"203.0.113.11", 100}}));
  (*loop_)([&] { routes_.reset(); });
  EXPECT_NE(ours("-4"), "");
  ASSERT_TRUE(network_->run("ip route add blackhole 203.0.113.10 proto 203 metric 200"));
  ASSERT_TRUE(network_->run("ip addr add 10.0.0.11/24 dev eth1"));
  ASSERT_TRUE(network_->run("ip route add 198.51.100.0/24 via 10.0.0.1 proto 203"));
  make();
  EXPECT_EQ((*loop_)([&] { return routes_->read().value(); }),
            metrics({{"203.0.113.10", 100}, {"203.0.113.11", 100}}));
  set(metrics({{"203.0.113.11", 100}}));
  EXPECT_EQ(ours("-4"), "blackhole 203.0.113.11 metric 100 \n");
}

TEST_F(SignalRoutesTest, ForeignRoutesAreLeftAlone) {
  ASSERT_TRUE(network_->run("ip route add blackhole 203.0.113.99 metric 100"));
  ASSERT_TRUE(network_->run("ip route add blackhole 203.0.113.98 proto 203 table 2203"));
  set(metrics({{"203.0.113.10", 100}}));
  set({});
  EXPECT_EQ(TestNetwork::output("ip route show"), "blackhole 203.0.113.99 metric 100 \n");
  EXPECT_NE(TestNetwork::output("ip route show table 2203"), "");
}

TEST_F(SignalRoutesTest, RepairsWhatSomebodyBreaks) {
  set(metrics({{"203.0.113.10", 100}, {"2001:db8::10", 200}}));
  const std::string four = ours("-4"), six = ours("-6");
  ASSERT_TRUE(network_->run("ip route del blackhole 203.0.113.10"));
  EXPECT_TRUE(loop_->eventually([&] { return ours("-4") == four; }));
  ASSERT_TRUE(network_->run("ip -6 route flush proto 203"));
  EXPECT_TRUE(loop_->eventually([&] { return ours("-6") == six; }));
  ASSERT_TRUE(network_->run("ip route add blackhole 203.0.113.10 proto 203 metric 50"));
  EXPECT_TRUE(loop_->eventually([&] { return ours("-4") == four; }));
}

TEST_F(SignalRoutesTest, PausedItRepairsNothing) {
  set(metrics({{"203.0.113.10", 100}}));
  (*loop_)([&] { routes_->pause(); });
  ASSERT_TRUE(network_->run("ip route del blackhole 203.0.113.10"));
  // Some times longer than a repair takes.
  const auto until = EventLoop::Clock::now() + std::chrono::milliseconds(150);
  EXPECT_TRUE(loop_->eventually([&] { return EventLoop::Clock::now() > until; }));
  EXPECT_EQ(ours("-4"), "");
  set(metrics({{"203.0.113.10", 100}}));
  EXPECT_NE(ours("-4"), "");
}

TEST_F(SignalRoutesTest, AProblemIsToldAndGoesAway) {
  ASSERT_TRUE(network_->run("ip route add unreachable 203.0.113.10 metric 100"));  // not ours
  (*loop_)([&] {
    const auto ok = routes_->set(metrics({{"203.0.113.10", 100}}));
    ASSERT_FALSE(ok);
    EXPECT_EQ(ok.error().text(),
              "announcements (IPv4): cannot set the route of 203.0.113.10: File exists");
    EXPECT_EQ(routes_->problem(), ok.error().text());
  });
  ASSERT_TRUE(network_->run("ip route del unreachable 203.0.113.10 metric 100"));
  EXPECT_TRUE(loop_->eventually([&] { return routes_->problem().empty(); }));
  EXPECT_EQ(ours("-4"), "blackhole 203.0.113.10 metric 100 \n");
}

TEST_F(SignalRoutesTest, WithdrawDeletesOursAndNothingElse) {
  set(metrics({{"203.0.113.10", 100}, {"203.0.113.11", 200}, {"2001:db8::10", 100}}));
  (*loop_)([&] { routes_.reset(); });
  ASSERT_TRUE(network_->run("ip route add blackhole 203.0.113.99"));
  EXPECT_EQ(withdraw_signal_routes(254).value(), 3u);
  EXPECT_EQ(ours("-4") + ours("-6"), "");
  EXPECT_EQ(TestNetwork::output("ip route show"), "blackhole 203.0.113.99 \n");
  EXPECT_EQ(withdraw_signal_routes(254).value(), 0u);
}

// node.toml names another table than at the last start, or nobody can read it any more.
TEST_F(SignalRoutesTest, TheTableOfBeforeIsRememberedAndLeftEmpty) {
  const std::string dir =
      std::filesystem::temp_directory_path() / ("guideway-announce-" + std::to_string(getpid()));
  std::filesystem::create_directory(dir);
  EXPECT_EQ(remembered_announce_table(dir), std::nullopt);
  ASSERT_TRUE(remember_announce_table(dir, 100));
  ASSERT_TRUE(network_->run("ip route add blackhole 203.0.113.10 proto 203 metric 100 table 100"));
  ASSERT_TRUE(remember_announce_table(dir, 100));
  EXPECT_NE(TestNetwork::output("ip route show table 100"), "");
  ASSERT_TRUE(remember_announce_table(dir, 254));
  EXPECT_EQ(TestNetwork::output("ip route show table 100"), "");
  EXPECT_EQ(remembered_announce_table(dir), 254u);
  for (const char* nonsense : {"", "none\n", "0\n", "99999999999999\n", "254"}) {
    std::ofstream(dir + "/announce-table") << nonsense;
    EXPECT_EQ(remembered_announce_table(dir), std::nullopt) << nonsense;
  }
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace guideway
