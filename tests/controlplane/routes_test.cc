// SPDX-License-Identifier: Apache-2.0
#include "controlplane/routes.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cstdio>

#include "tests/controlplane/loop_thread.h"
#include "tests/controlplane/test_network.h"

// libmnl's own, unless a test wants a kernel without IPv6: then a family that no kernel has is
// asked for instead, and the kernel answers as it would for IPv6.
static std::atomic<bool> g_no_ipv6{false};
extern "C" ssize_t mnl_socket_sendto(const mnl_socket* socket, const void* bytes, size_t size) {
  const auto* message = static_cast<const nlmsghdr*>(bytes);
  if (g_no_ipv6 && message->nlmsg_type == RTM_GETRULE) {
    auto* header = static_cast<fib_rule_hdr*>(mnl_nlmsg_get_payload(message));
    if (header->family == AF_INET6) header->family = AF_ROSE;
  }
  using Send = ssize_t (*)(const mnl_socket*, const void*, size_t);
  static const auto send = reinterpret_cast<Send>(dlsym(RTLD_NEXT, "mnl_socket_sendto"));
  return send(socket, bytes, size);
}

namespace guideway {
namespace {

std::set<Address> vips(std::initializer_list<const char*> texts) {
  std::set<Address> out;
  for (const char* text : texts) out.insert(*Address::parse(text));
  return out;
}

class RoutesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    network_ = TestNetwork::create();
    if (!network_) GTEST_SKIP() << "needs root and network namespaces";
    loop_ = std::make_unique<LoopThread>();
    make({});
  }
  void TearDown() override {
    g_no_ipv6 = false;
    if (loop_ && routes_) (*loop_)([&] { routes_.reset(); });
  }
  void make(Routes::Config config) {
    (*loop_)([&] {
      auto routes = Routes::create(loop_->loop(), config);
      ASSERT_TRUE(routes) << routes.error().text();
      routes_ = std::move(*routes);
    });
  }
  void set(const std::set<Address>& wanted) {
    (*loop_)([&] {
      const auto ok = routes_->set(wanted);
      EXPECT_TRUE(ok) << ok.error().text();
    });
  }
  static std::string table(const char* family) {
    return TestNetwork::output("ip " + std::string(family) + " route show table 2203 2>/dev/null");
  }
  static std::string rules(const char* family) {
    return TestNetwork::output("ip " + std::string(family) + " rule show priority 203");
  }

  std::unique_ptr<TestNetwork> network_;
  std::unique_ptr<LoopThread> loop_;
  std::unique_ptr<Routes> routes_;
};

constexpr const char* kRule = "203:\tfrom all lookup 2203 proto 203\n";

TEST_F(RoutesTest, MakesRulesAndBlackholes) {
  set(vips({"203.0.113.10", "203.0.113.11", "2001:db8::10"}));
  EXPECT_EQ(rules("-4"), kRule);
  EXPECT_EQ(rules("-6"), kRule);
  EXPECT_EQ(table("-4"), "blackhole 203.0.113.10 proto 203 \nblackhole 203.0.113.11 proto 203 \n");
  EXPECT_EQ(table("-6"), "blackhole 2001:db8::10 dev lo proto 203 metric 1024 pref medium\n");
  EXPECT_FALSE(network_->run("ip route get 203.0.113.10 >/dev/null 2>&1"));
}

TEST_F(RoutesTest, TwiceIsTheSameAsOnceAndLeftOversGo) {
  set(vips({"203.0.113.10", "203.0.113.11", "2001:db8::10"}));
  set(vips({"203.0.113.10", "203.0.113.11", "2001:db8::10"}));
  EXPECT_EQ(rules("-4"), kRule);
  set(vips({"203.0.113.11"}));
  EXPECT_EQ(table("-4"), "blackhole 203.0.113.11 proto 203 \n");
  EXPECT_EQ(table("-6"), "");
}

TEST_F(RoutesTest, TheyStayAndASecondLifeTakesThemOver) {
  set(vips({"203.0.113.10", "203.0.113.11"}));
  (*loop_)([&] { routes_.reset(); });
  EXPECT_EQ(rules("-4"), kRule);
  EXPECT_NE(table("-4"), "");
  make({});
  set(vips({"203.0.113.11", "203.0.113.12"}));
  EXPECT_EQ(table("-4"), "blackhole 203.0.113.11 proto 203 \nblackhole 203.0.113.12 proto 203 \n");
  EXPECT_EQ(rules("-4"), kRule);
}

TEST_F(RoutesTest, ForeignRoutesAndRulesAreLeftAlone) {
  ASSERT_TRUE(network_->run("ip addr add 10.0.0.11/24 dev eth1"));
  ASSERT_TRUE(network_->run("ip route add 198.51.100.0/24 via 10.0.0.1 table 2203"));
  ASSERT_TRUE(network_->run("ip route add blackhole 203.0.113.99 proto 203"));  // in main
  ASSERT_TRUE(network_->run("ip rule add from 10.0.0.0/8 lookup 99 priority 204"));
  set(vips({"203.0.113.10"}));
  set({});
  EXPECT_EQ(table("-4"), "198.51.100.0/24 via 10.0.0.1 dev eth1 \n");
  EXPECT_NE(TestNetwork::output("ip route show").find("blackhole 203.0.113.99"), std::string::npos);
  EXPECT_NE(TestNetwork::output("ip rule show").find("lookup 99"), std::string::npos);
}

TEST_F(RoutesTest, OurLeftOversOfAnyKindGo) {
  ASSERT_TRUE(network_->run("ip addr add 10.0.0.11/24 dev eth1"));
  ASSERT_TRUE(network_->run("ip route add 198.51.100.0/24 via 10.0.0.1 table 2203 proto 203"));
  ASSERT_TRUE(network_->run("ip route add 203.0.113.10 dev eth1 scope link table 2203 proto 203"));
  ASSERT_TRUE(network_->run("ip route add blackhole 203.0.113.11 metric 7 table 2203 proto 203"));
  ASSERT_TRUE(network_->run("ip rule add lookup 2204 priority 205 proto 203"));
  set(vips({"203.0.113.10"}));
  EXPECT_EQ(table("-4"), "blackhole 203.0.113.10 proto 203 \n");
  EXPECT_EQ(TestNetwork::output("ip rule show priority 205"), "");
}

TEST_F(RoutesTest, RepairsWhatSomebodyBreaks) {
  set(vips({"203.0.113.10", "2001:db8::10"}));
  ASSERT_TRUE(network_->run("ip route del blackhole 203.0.113.10 table 2203"));
  EXPECT_TRUE(loop_->eventually([&] { return !table("-4").empty(); }));
  ASSERT_TRUE(network_->run("ip -6 route flush table 2203"));
  EXPECT_TRUE(loop_->eventually([&] { return !table("-6").empty(); }));
  ASSERT_TRUE(network_->run("ip rule del priority 203"));
  EXPECT_TRUE(loop_->eventually([&] { return rules("-4") == kRule; }));
  ASSERT_TRUE(network_->run("ip -6 rule del priority 203"));
  EXPECT_TRUE(loop_->eventually([&] { return rules("-6") == kRule; }));
}

TEST_F(RoutesTest, AProblemIsToldAndGoesAway) {
  ASSERT_TRUE(network_->run("ip route add unreachable 203.0.113.10 table 2203"));  // not ours
  (*loop_)([&] {
    const auto ok = routes_->set(vips({"203.0.113.10"}));
    ASSERT_FALSE(ok);
    EXPECT_EQ(ok.error().text(),
              "routes (IPv4): cannot set the blackhole of 203.0.113.10: File exists");
    EXPECT_EQ(routes_->problem(), ok.error().text());
  });
  ASSERT_TRUE(network_->run("ip route del unreachable 203.0.113.10 table 2203"));
  EXPECT_TRUE(loop_->eventually([&] { return routes_->problem().empty(); }));
  EXPECT_EQ(table("-4"), "blackhole 203.0.113.10 proto 203 \n");
}

TEST_F(RoutesTest, AKernelWithoutIpv6IsAProblemOnlyWithIpv6Vips) {
  g_no_ipv6 = true;
  set(vips({"203.0.113.10"}));
  EXPECT_EQ((*loop_)([&] { return routes_->problem(); }), "");
  EXPECT_EQ(rules("-4"), kRule);
  EXPECT_EQ(rules("-6"), "");
  (*loop_)([&] { EXPECT_FALSE(routes_->set(vips({"203.0.113.10", "2001:db8::10"}))); });
  EXPECT_EQ((*loop_)([&] { return routes_->problem(); }),
            "routes (IPv6): cannot read the rules: Address family not supported by protocol");
}

TEST_F(RoutesTest, AThousandVips) {
  std::set<Address> many;
  for (unsigned i = 0; i < 1000; ++i) {
    const uint8_t bytes[4] = {198, 18, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i)};
    many.insert(Address::from_v4(bytes));
  }
  const auto start = EventLoop::Clock::now();
  set(many);
  std::printf("1000 blackholes: %.1f ms\n",
              std::chrono::duration<double, std::milli>(EventLoop::Clock::now() - start).count());
  const std::string all = table("-4");
  EXPECT_EQ(std::count(all.begin(), all.end(), '\n'), 1000);
  set({});
  EXPECT_EQ(table("-4"), "");
}

}  // namespace
}  // namespace guideway
