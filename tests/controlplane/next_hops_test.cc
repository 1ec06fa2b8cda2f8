// SPDX-License-Identifier: Apache-2.0
#include "controlplane/next_hops.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <thread>

#include "tests/controlplane/loop_thread.h"
#include "tests/controlplane/test_network.h"

// libmnl's own, unless a test wants requests for routes to fail on their way.
static std::atomic<bool> g_routes_fail{false};
extern "C" ssize_t mnl_socket_sendto(const mnl_socket* socket, const void* bytes, size_t size) {
  if (g_routes_fail && static_cast<const nlmsghdr*>(bytes)->nlmsg_type == RTM_GETROUTE) {
    errno = ENOBUFS;
    return -1;
  }
  using Send = ssize_t (*)(const mnl_socket*, const void*, size_t);
  static const auto send = reinterpret_cast<Send>(dlsym(RTLD_NEXT, "mnl_socket_sendto"));
  return send(socket, bytes, size);
}

namespace guideway {
namespace {

Address ip(const std::string& text) {
  return *Address::parse(text);
}

// The node has 10.0.0.11 and fd00::11 on eth1; the peer 10.0.0.21, fd00::21, and is the gateway
// 10.0.0.1. Unanswered ARP fails after 3 times 50 ms.
class NextHopsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    network_ = TestNetwork::create();
    if (!network_) GTEST_SKIP() << "needs root and network namespaces";
    for (const char* command :
         {"ip addr add 10.0.0.11/24 dev eth1", "ip addr add fd00::11/64 dev eth1 nodad",
          "sh -c 'echo 50 >/proc/sys/net/ipv4/neigh/eth1/retrans_time_ms; "
          "echo 50 >/proc/sys/net/ipv6/neigh/eth1/retrans_time_ms'"})
      ASSERT_TRUE(network_->run(command)) << command;
    for (const char* command :
         {"ip addr add 10.0.0.21/24 dev peer0", "ip addr add 10.0.0.1/24 dev peer0",
          "ip addr add fd00::21/64 dev peer0 nodad"})
      ASSERT_TRUE(network_->peer(command)) << command;
    loop_ = std::make_unique<LoopThread>();
  }
  void TearDown() override {
    g_routes_fail = false;
    if (loop_ && hops_) (*loop_)([&] { hops_.reset(); });
  }

  void make(NextHops::Config config = {}) {
    (*loop_)([&] {
      auto hops = NextHops::create(loop_->loop(), config, [this](const std::vector<Address>& all) {
        changed_.insert(changed_.end(), all.begin(), all.end());
        if (all.empty()) ++settled_calls_;
        for (const Address& address : all) {
          if (!hops_->get(address).hop) lost_.push_back(address);
        }
      });
      ASSERT_TRUE(hops) << hops.error().text();
      hops_ = std::move(*hops);
    });
  }
  void want(std::initializer_list<const char*> texts) {
    std::set<Address> wanted;
    for (const char* text : texts) wanted.insert(ip(text));
    (*loop_)([&] { hops_->want(wanted); });
  }
  NextHopState get(const char* address) {
    return (*loop_)([&] { return hops_->get(ip(address)); });
  }
  ::testing::AssertionResult resolves(const char* address) {
    if (loop_->eventually([&] { return hops_->get(ip(address)).hop.has_value(); }))
      return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << get(address).reason;
  }
  ::testing::AssertionResult reason_becomes(const char* address, const std::string& reason) {
    if (loop_->eventually([&] { return hops_->get(ip(address)).reason == reason; }))
      return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << "is: " << get(address).reason;
  }
  static std::string neighbour(const char* address) {
    return TestNetwork::output("ip -d neigh show " + std::string(address) + " nud all");
  }

  std::unique_ptr<TestNetwork> network_;
  std::unique_ptr<LoopThread> loop_;
  std::unique_ptr<NextHops> hops_;
  std::vector<Address> changed_;
  std::vector<Address> lost_;  // changed, and without a hop then
  int settled_calls_ = 0;
  // Whatever the kernel did before is known and judged when this returns. "10.66.0.1" is wanted.
  void catch_up() {
    static int nth = 0;
    const bool odd = ++nth % 2 != 0;
    ASSERT_TRUE(network_->run(std::string("ip route replace ") +
                              (odd ? "prohibit" : "unreachable") + " 10.66.0.1"));
    ASSERT_TRUE(reason_becomes("10.66.0.1", std::string("the route to 10.66.0.1 is ") +
                                                (odd ? "prohibited" : "unreachable")));
    (*loop_)([&] { std::erase(lost_, ip("10.66.0.1")); });
  }
  std::vector<Address> lost() {
    return (*loop_)([&] { return lost_; });
  }
  static bool is_up(const char* link) {
    return TestNetwork::output("ip link show " + std::string(link)).find("state UP") !=
           std::string::npos;
  }
};

TEST_F(NextHopsTest, AFlushDoesNotInterruptTheHops) {
  make();
  want({"10.0.0.21", "fd00::21", "10.66.0.1"});
  ASSERT_TRUE(resolves("10.0.0.21"));
  ASSERT_TRUE(resolves("fd00::21"));
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(network_->run("ip neigh flush dev eth1"));
    ASSERT_TRUE(network_->run("ip -6 neigh flush dev eth1"));
    catch_up();
  }
  EXPECT_EQ(lost(), std::vector<Address>{});
  EXPECT_TRUE(loop_->eventually([&] {
    return neighbour("10.0.0.21").find("managed") != std::string::npos &&
           neighbour("fd00::21").find("managed") != std::string::npos;
  }));

  // What is learned anew replaces what was kept.
  ASSERT_TRUE(network_->peer("ip link set peer0 address 02:00:00:00:00:07"));
  ASSERT_TRUE(network_->run("ip neigh flush dev eth1"));
  EXPECT_TRUE(loop_->eventually(
      [&] { return mac_text(hops_->get(ip("10.0.0.21")).hop->mac) == "02:00:00:00:00:07"; }));
  EXPECT_EQ(lost(), std::vector<Address>{});

  // And a neighbour that is not there any more is given up.
  ASSERT_TRUE(network_->peer("ip addr del 10.0.0.21/24 dev peer0"));
  ASSERT_TRUE(network_->run("ip neigh flush dev eth1"));
  EXPECT_TRUE(reason_becomes("10.0.0.21", "10.0.0.21 does not answer ARP on eth1"));
  EXPECT_EQ(lost(), std::vector<Address>{ip("10.0.0.21")});
}

TEST_F(NextHopsTest, ACarrierThatComesBackDoesNotInterruptTheHops) {
  NextHops::Config config;
  config.link_down = std::chrono::hours(1);
  make(config);
  want({"10.0.0.21", "10.66.0.1"});
  ASSERT_TRUE(resolves("10.0.0.21"));
  ASSERT_TRUE(network_->peer("ip link set peer0 down"));
  ASSERT_TRUE(loop_->eventually([&] { return !is_up("eth1"); }));
  catch_up();
  EXPECT_TRUE(get("10.0.0.21").hop);
  ASSERT_TRUE(network_->peer("ip link set peer0 up"));
  ASSERT_TRUE(loop_->eventually([&] { return is_up("eth1"); }));
  catch_up();
  ASSERT_TRUE(loop_->eventually(
      [&] { return neighbour("10.0.0.21").find("REACHABLE") != std::string::npos; }));
  catch_up();
  EXPECT_EQ(lost(), std::vector<Address>{});
}

TEST_F(NextHopsTest, ALinkThatStaysDownEndsTheHops) {
  NextHops::Config config;
  config.link_down = std::chrono::milliseconds(50);
  make(config);
  want({"10.0.0.21", "10.66.0.1"});
  ASSERT_TRUE(resolves("10.0.0.21"));
  ASSERT_TRUE(network_->peer("ip link set peer0 down"));
  EXPECT_TRUE(reason_becomes("10.0.0.21", "eth1 is down"));
  EXPECT_EQ(lost(), std::vector<Address>{ip("10.0.0.21")});
}

// A TAP has no carrier while its dataplane is away, however long that is.
TEST_F(NextHopsTest, ALinkThatIsHeldKeepsItsHopsUntilItIsLetGo) {
  NextHops::Config config;
  config.link_down = std::chrono::milliseconds(500);
  make(config);
  want({"10.0.0.21", "10.66.0.1"});
  ASSERT_TRUE(resolves("10.0.0.21"));
  const auto hold = [&](const std::set<std::string>& interfaces) {
    (*loop_)([&] { hops_->set_held(interfaces); });
  };
  for (const bool first_down : {false, true}) {  // the carrier goes before it is held, or after
    if (!first_down) hold({"eth1"});
    ASSERT_TRUE(network_->peer("ip link set peer0 down"));
    ASSERT_TRUE(loop_->eventually([&] { return !is_up("eth1"); }));
    if (first_down) hold({"eth1"});
    std::this_thread::sleep_for(std::chrono::milliseconds(800));  // longer than link_down
    catch_up();
    EXPECT_TRUE(get("10.0.0.21").hop);
    ASSERT_TRUE(network_->peer("ip link set peer0 up"));
    ASSERT_TRUE(loop_->eventually([&] { return is_up("eth1"); }));
    hold({});
    ASSERT_TRUE(resolves("10.0.0.21"));
  }
  EXPECT_EQ(lost(), std::vector<Address>{});

  hold({"eth1"});
  ASSERT_TRUE(network_->peer("ip link set peer0 down"));
  ASSERT_TRUE(loop_->eventually([&] { return !is_up("eth1"); }));
  catch_up();
  EXPECT_EQ(lost(), std::vector<Address>{});
  hold({});
  EXPECT_TRUE(reason_becomes("10.0.0.21", "eth1 is down"));
  EXPECT_EQ(lost(), std::vector<Address>{ip("10.0.0.21")});
}

// The kernel's own packets that way have failed meanwhile: that is not the neighbour's fault.
TEST_F(NextHopsTest, WhoCouldNotAnswerIsAskedAnewWhenTheLinkComesUp) {
  const auto asks_each_ms = [&](int ms) {
    return network_->run("sh -c 'echo " + std::to_string(ms) +
                         " >/proc/sys/net/ipv4/neigh/eth1/retrans_time_ms'");
  };
  make();
  want({"10.0.0.21", "10.66.0.1"});
  ASSERT_TRUE(resolves("10.0.0.21"));
  (*loop_)([&] { hops_->set_held({"eth1"}); });
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(asks_each_ms(100));
    ASSERT_TRUE(network_->peer("ip link set peer0 down"));
    ASSERT_TRUE(loop_->eventually([&] { return !is_up("eth1"); }));
    ASSERT_TRUE(network_->run("bash -c 'echo >/dev/udp/10.0.0.21/9'"));
    ASSERT_TRUE(loop_->eventually(
        [&] { return neighbour("10.0.0.21").find("FAILED") != std::string::npos; }));
    catch_up();
    EXPECT_TRUE(get("10.0.0.21").hop);
    // Whoever takes a while to answer is waited for.
    ASSERT_TRUE(asks_each_ms(1000));
    ASSERT_TRUE(network_->peer("ip link set peer0 arp off"));
    ASSERT_TRUE(network_->peer("ip link set peer0 up"));
    ASSERT_TRUE(loop_->eventually(
        [&] { return neighbour("10.0.0.21").find("INCOMPLETE") != std::string::npos; }));
    (*loop_)([&] { hops_->set_held({}); });
    catch_up();
    EXPECT_EQ(lost(), std::vector<Address>{});
    ASSERT_TRUE(network_->peer("ip link set peer0 arp on"));
    ASSERT_TRUE(loop_->eventually(
        [&] { return neighbour("10.0.0.21").find("REACHABLE") != std::string::npos; }));
    catch_up();
    EXPECT_EQ(lost(), std::vector<Address>{});
    (*loop_)([&] { hops_->set_held({"eth1"}); });
  }

  // Held, it need not answer at all.
  ASSERT_TRUE(asks_each_ms(100));
  ASSERT_TRUE(network_->peer("ip link set peer0 arp off"));
  ASSERT_TRUE(network_->run("ip neigh flush dev eth1"));
  ASSERT_TRUE(loop_->eventually(
      [&] { return neighbour("10.0.0.21").find("FAILED") != std::string::npos; }));
  catch_up();
  EXPECT_EQ(lost(), std::vector<Address>{});
  ASSERT_TRUE(network_->peer("ip link set peer0 arp on"));
  (*loop_)([&] { hops_->set_held({}); });
  EXPECT_TRUE(loop_->eventually(
      [&] { return neighbour("10.0.0.21").find("REACHABLE") != std::string::npos; }));
  catch_up();
  EXPECT_EQ(lost(), std::vector<Address>{});

  // Whoever does not answer then either is given up.
  ASSERT_TRUE(network_->peer("ip link set peer0 down"));
  ASSERT_TRUE(loop_->eventually([&] { return !is_up("eth1"); }));
  ASSERT_TRUE(network_->peer("ip addr del 10.0.0.21/24 dev peer0"));
  ASSERT_TRUE(network_->peer("ip link set peer0 up"));
  EXPECT_TRUE(reason_becomes("10.0.0.21", "10.0.0.21 does not answer ARP on eth1"));
}

TEST_F(NextHopsTest, SettledWhenAllAreResolvedOrDefinitelyNot) {
  make();
  want({});
  want({"10.0.0.21", "10.0.0.99", "10.77.0.1"});
  EXPECT_FALSE((*loop_)([&] { return hops_->settled(); }));
  ASSERT_TRUE(loop_->eventually([&] { return hops_->settled(); }, std::chrono::seconds(2)));
  EXPECT_TRUE(get("10.0.0.21").hop);
  EXPECT_EQ(get("10.0.0.99").reason, "10.0.0.99 does not answer ARP on eth1");
  // Once is enough.
  want({"10.0.0.98"});
  EXPECT_TRUE((*loop_)([&] { return hops_->settled(); }));
}

TEST_F(NextHopsTest, SettledAtOnceWithoutARoute) {
  make();
  want({"10.77.0.1"});
  EXPECT_TRUE((*loop_)([&] { return hops_->settled(); }));
}

TEST_F(NextHopsTest, PatienceEndsAndIsReported) {
  ASSERT_TRUE(network_->run("sh -c 'echo 100000 >/proc/sys/net/ipv4/neigh/eth1/retrans_time_ms'"));
  NextHops::Config config;
  config.patience = std::chrono::milliseconds(50);
  make(config);
  want({"10.0.0.99"});
  EXPECT_FALSE((*loop_)([&] { return hops_->settled(); }));
  ASSERT_TRUE(loop_->eventually([&] { return settled_calls_ == 1; }));
  EXPECT_TRUE((*loop_)([&] { return hops_->settled(); }));
  EXPECT_EQ(get("10.0.0.99").reason, "10.0.0.99 is being resolved by ARP on eth1");
}

TEST_F(NextHopsTest, EventsFromBeforeAnOverflowAreNotNews) {
  const std::string set = "neigh replace 10.0.0.50 dev eth1 nud permanent lladdr 02:00:00:00:00:";
  ASSERT_TRUE(network_->run("ip " + set + "50"));
  make();
  want({"10.0.0.50", "10.66.0.1"});
  ASSERT_TRUE(get("10.0.0.50").hop);
  // A short queue for the events.
  for (int fd = 3; fd < 256; ++fd) {
    sockaddr_nl address{};
    socklen_t bytes = sizeof address;
    const int least = 1;
    const bool subscribed = getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes) == 0 &&
                            address.nl_family == AF_NETLINK && address.nl_groups != 0;
    if (!subscribed) continue;
    ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof least), 0);
  }
  (*loop_)([&] {
    for (const char* mac : {"51", "52", "53", "54", "55", "56", "57", "58", "59"})
      ASSERT_TRUE(network_->run("ip " + set + mac));
  });
  ASSERT_TRUE(loop_->eventually(
      [&] { return mac_text(hops_->get(ip("10.0.0.50")).hop->mac) == "02:00:00:00:00:59"; }));
  catch_up();
  EXPECT_EQ(mac_text(get("10.0.0.50").hop->mac), "02:00:00:00:00:59");
}

TEST_F(NextHopsTest, ALookupThatGotNoAnswerIsNoNews) {
  NextHops::Config config;
  config.retry = std::chrono::milliseconds(10);
  make(config);
  want({"10.0.0.21"});
  ASSERT_TRUE(resolves("10.0.0.21"));
  g_routes_fail = true;
  want({"10.0.0.21", "10.0.0.1"});
  EXPECT_EQ(get("10.0.0.1").reason, "not looked up yet");
  EXPECT_FALSE((*loop_)([&] { return hops_->get(ip("10.0.0.1")).hop.has_value(); }));
  ASSERT_TRUE(network_->run("ip route add blackhole 10.9.0.0/16"));  // all are looked up again
  ASSERT_TRUE(network_->run("ip link set eth1 mtu 1300"));
  ASSERT_TRUE(loop_->eventually([&] { return hops_->get(ip("10.0.0.21")).hop->mtu == 1300; }));
  EXPECT_EQ(lost(), std::vector<Address>{});
  // It looks again by itself.
  g_routes_fail = false;
  EXPECT_TRUE(resolves("10.0.0.1"));
}

TEST_F(NextHopsTest, ResolvesOnTheLinkInBothFamilies) {
  make();
  want({"10.0.0.21", "fd00::21"});
  for (const char* address : {"10.0.0.21", "fd00::21"}) {
    ASSERT_TRUE(resolves(address)) << address;
    const NextHop hop = *get(address).hop;
    EXPECT_EQ(hop.interface, "eth1");
    EXPECT_EQ(hop.gateway, std::nullopt);
    EXPECT_EQ(mac_text(hop.source_mac), "02:00:00:00:00:01");
    EXPECT_EQ(mac_text(hop.mac), "02:00:00:00:00:02");
    EXPECT_EQ(hop.mtu, 1500u);
    EXPECT_EQ(hop.source, ip(address == std::string("fd00::21") ? "fd00::11" : "10.0.0.11"));
    EXPECT_NE(neighbour(address).find("managed"), std::string::npos) << neighbour(address);
  }
}

// While it is tentative (RFC 4862 section 5.4) the kernel chooses another, or none.
TEST_F(NextHopsTest, AnAddressIsTheSourceOnceDuplicateDetectionIsDone) {
  ASSERT_TRUE(network_->run("ip addr del fd00::11/64 dev eth1"));
  ASSERT_TRUE(network_->run("ip addr add fd00::12/64 dev eth1"));
  make();
  want({"fd00::21"});
  EXPECT_TRUE(loop_->eventually([&] {
    const auto& hop = hops_->get(ip("fd00::21")).hop;
    return hop && hop->source == ip("fd00::12");
  }));
}

TEST_F(NextHopsTest, ConfiguredTunnelSources) {
  make({.source4 = ip("192.0.2.1"), .source6 = ip("2001:db8::1")});
  want({"10.0.0.21", "fd00::21"});
  ASSERT_TRUE(resolves("10.0.0.21"));
  ASSERT_TRUE(resolves("fd00::21"));
  EXPECT_EQ(get("10.0.0.21").hop->source, ip("192.0.2.1"));
  EXPECT_EQ(get("fd00::21").hop->source, ip("2001:db8::1"));
}

TEST_F(NextHopsTest, ThroughAGatewayWithTheRoutesMtu) {
  ASSERT_TRUE(network_->run("ip route add 10.9.0.0/16 via 10.0.0.1 mtu 1400"));
  ASSERT_TRUE(network_->run("ip route add 10.8.0.0/16 via inet6 fd00::21"));
  make();
  want({"10.9.0.7", "10.8.0.7"});
  ASSERT_TRUE(resolves("10.9.0.7"));
  EXPECT_EQ(get("10.9.0.7").hop->gateway, ip("10.0.0.1"));
  EXPECT_EQ(get("10.9.0.7").hop->mtu, 1400u);
  EXPECT_EQ(mac_text(get("10.9.0.7").hop->mac), "02:00:00:00:00:02");
  ASSERT_TRUE(resolves("10.8.0.7"));
  EXPECT_EQ(get("10.8.0.7").hop->gateway, ip("fd00::21"));
}

TEST_F(NextHopsTest, ReasonsWhyThereIsNoWay) {
  for (const char* command :
       {"ip route add blackhole 10.1.0.0/16", "ip route add unreachable 10.2.0.0/16",
        "ip route add prohibit 10.3.0.0/16", "ip -6 route add blackhole fd01::/64",
        "ip -6 route add unreachable fd02::/64", "ip -6 route add prohibit fd03::/64"})
    ASSERT_TRUE(network_->run(command)) << command;
  make();
  want({"10.0.0.99", "fd00::99", "10.1.0.1", "10.2.0.1", "10.3.0.1", "fd01::1", "fd02::1",
        "fd03::1", "10.77.0.1", "fd77::1", "10.0.0.11", "fd00::11", "10.0.0.255"});
  EXPECT_EQ(get("10.77.0.1").reason, "no route to 10.77.0.1");
  EXPECT_EQ(get("fd77::1").reason, "no route to fd77::1");
  EXPECT_EQ(get("10.1.0.1").reason, "the route to 10.1.0.1 is a blackhole");
  EXPECT_EQ(get("fd01::1").reason, "the route to fd01::1 is a blackhole");
  EXPECT_EQ(get("10.2.0.1").reason, "the route to 10.2.0.1 is unreachable");
  EXPECT_EQ(get("fd02::1").reason, "the route to fd02::1 is unreachable");
  EXPECT_EQ(get("10.3.0.1").reason, "the route to 10.3.0.1 is prohibited");
  EXPECT_EQ(get("fd03::1").reason, "the route to fd03::1 is prohibited");
  EXPECT_EQ(get("10.0.0.11").reason, "10.0.0.11 is an address of this node");
  EXPECT_EQ(get("fd00::11").reason, "fd00::11 is an address of this node");
  EXPECT_EQ(get("10.0.0.255").reason, "10.0.0.255 is not a unicast address");
  EXPECT_EQ(get("10.0.0.22").reason, "not looked up yet");
  EXPECT_TRUE(reason_becomes("10.0.0.99", "10.0.0.99 does not answer ARP on eth1"));
  EXPECT_TRUE(reason_becomes("fd00::99", "fd00::99 does not answer neighbour discovery on eth1"));
}

TEST_F(NextHopsTest, OnlyPortsOfTheDataplaneCount) {
  make();
  want({"10.0.0.21"});
  (*loop_)([&] { hops_->set_ports({"eth7"}); });
  EXPECT_EQ(get("10.0.0.21").reason, "route leaves by eth1, which is no port of the dataplane");
  (*loop_)([&] { hops_->set_ports({"eth1", "eth7"}); });
  EXPECT_TRUE(resolves("10.0.0.21"));
}

TEST_F(NextHopsTest, FollowsChanges) {
  make();
  want({"10.0.0.21"});
  ASSERT_TRUE(resolves("10.0.0.21"));
  (*loop_)([&] { changed_.clear(); });

  // Another machine takes the address over, and says so.
  ASSERT_TRUE(network_->run("ip neigh replace 10.0.0.21 lladdr 02:00:00:00:00:99 dev eth1"));
  ASSERT_TRUE(loop_->eventually([&] {
    const auto& hop = hops_->get(ip("10.0.0.21")).hop;
    return hop && mac_text(hop->mac) == "02:00:00:00:00:99";
  }));
  EXPECT_EQ((*loop_)([&] { return changed_; }), std::vector<Address>{ip("10.0.0.21")});

  // The route goes, and comes by a gateway.
  ASSERT_TRUE(network_->run("ip route add blackhole 10.0.0.21"));
  EXPECT_TRUE(reason_becomes("10.0.0.21", "the route to 10.0.0.21 is a blackhole"));
  ASSERT_TRUE(network_->run("ip route replace 10.0.0.21 via 10.0.0.1"));
  ASSERT_TRUE(loop_->eventually([&] {
    const auto& hop = hops_->get(ip("10.0.0.21")).hop;
    return hop && hop->gateway == ip("10.0.0.1");
  }));

  // The node's own MAC and MTU.
  ASSERT_TRUE(network_->run("ip link set eth1 mtu 1300"));
  ASSERT_TRUE(loop_->eventually([&] {
    const auto& hop = hops_->get(ip("10.0.0.21")).hop;
    return hop && hop->mtu == 1300;
  }));

  // The cable.
  ASSERT_TRUE(network_->peer("ip link set peer0 down"));
  ASSERT_TRUE(loop_->eventually([&] { return !hops_->get(ip("10.0.0.21")).hop; }));
  ASSERT_TRUE(network_->peer("ip link set peer0 up"));
  EXPECT_TRUE(resolves("10.0.0.21"));
}

TEST_F(NextHopsTest, FollowsAPolicyRule) {
  ASSERT_TRUE(network_->run("ip route add 10.5.0.0/16 via 10.0.0.1 table 77"));
  make();
  want({"10.5.0.1"});
  EXPECT_EQ(get("10.5.0.1").reason, "no route to 10.5.0.1");
  ASSERT_TRUE(network_->run("ip rule add lookup 77"));
  EXPECT_TRUE(resolves("10.5.0.1"));
  ASSERT_TRUE(network_->run("ip rule del lookup 77"));
  EXPECT_TRUE(reason_becomes("10.5.0.1", "no route to 10.5.0.1"));
}

TEST_F(NextHopsTest, ABackendThatComesLateIsFound) {
  ASSERT_TRUE(
      network_->run("sh -c 'echo 100 >/proc/sys/net/ipv4/neigh/eth1/interval_probe_time_ms'"));
  make();
  want({"10.0.0.30"});
  ASSERT_TRUE(reason_becomes("10.0.0.30", "10.0.0.30 does not answer ARP on eth1"));
  ASSERT_TRUE(network_->peer("ip addr add 10.0.0.30/24 dev peer0"));
  EXPECT_TRUE(resolves("10.0.0.30"));
}

TEST_F(NextHopsTest, AFlushedNeighbourIsAskedForAgain) {
  make();
  want({"10.0.0.21"});
  ASSERT_TRUE(resolves("10.0.0.21"));
  ASSERT_TRUE(network_->run("ip neigh del 10.0.0.21 dev eth1"));
  EXPECT_TRUE(loop_->eventually(
      [&] { return neighbour("10.0.0.21").find("managed") != std::string::npos; }));
  EXPECT_TRUE(resolves("10.0.0.21"));
}

TEST_F(NextHopsTest, PermanentNeighboursAreLeftAlone) {
  ASSERT_TRUE(
      network_->run("ip neigh add 10.0.0.50 lladdr 02:00:00:00:00:50 dev eth1 nud permanent"));
  make();
  want({"10.0.0.50"});
  ASSERT_TRUE(get("10.0.0.50").hop);
  EXPECT_EQ(mac_text(get("10.0.0.50").hop->mac), "02:00:00:00:00:50");
  EXPECT_NE(neighbour("10.0.0.50").find("PERMANENT"), std::string::npos);
  want({});
  EXPECT_NE(neighbour("10.0.0.50").find("PERMANENT"), std::string::npos);
}

TEST_F(NextHopsTest, UnwantedNeighboursAreGivenBack) {
  ASSERT_TRUE(network_->run("ip neigh add 10.0.0.1 dev eth1 managed"));  // somebody else's
  make();
  want({"10.0.0.21", "10.0.0.1"});
  ASSERT_TRUE(resolves("10.0.0.21"));
  EXPECT_NE(neighbour("10.0.0.21").find("managed"), std::string::npos);
  want({"fd00::21"});
  EXPECT_EQ(neighbour("10.0.0.21").find("managed"), std::string::npos) << neighbour("10.0.0.21");
  EXPECT_NE(neighbour("10.0.0.1").find("managed"), std::string::npos);
  EXPECT_EQ(get("10.0.0.21").reason, "not looked up yet");

  // They stay when it ends, and the next one knows its own.
  ASSERT_TRUE(resolves("fd00::21"));
  (*loop_)([&] { hops_.reset(); });
  EXPECT_NE(neighbour("fd00::21").find("managed"), std::string::npos);
  make();
  want({"10.0.0.21"});
  EXPECT_EQ(neighbour("fd00::21").find("managed"), std::string::npos) << neighbour("fd00::21");
}

TEST_F(NextHopsTest, WithoutManagedNeighboursItPokes) {
  NextHops::Config config;
  config.poke = std::chrono::milliseconds(50);
  config.managed = false;
  make(config);
  want({"10.0.0.21", "10.0.0.30"});
  EXPECT_TRUE(resolves("10.0.0.21"));
  EXPECT_EQ(neighbour("10.0.0.21").find("managed"), std::string::npos);
  ASSERT_TRUE(reason_becomes("10.0.0.30", "10.0.0.30 does not answer ARP on eth1"));
  ASSERT_TRUE(network_->peer("ip addr add 10.0.0.30/24 dev peer0"));
  EXPECT_TRUE(resolves("10.0.0.30"));
}

TEST_F(NextHopsTest, TenThousandBackends) {
  ASSERT_TRUE(network_->run("ip addr add 172.16.0.1/16 dev eth1"));
  std::set<Address> wanted;
  for (unsigned i = 0; i < 10000; ++i) {
    const uint8_t bytes[4] = {172, 16, static_cast<uint8_t>(1 + i / 250),
                              static_cast<uint8_t>(1 + i % 250)};
    wanted.insert(Address::from_v4(bytes));
  }
  std::string batch =
      "for c in $(seq 1 40); do for d in $(seq 1 250); do echo \"neigh replace "
      "172.16.$c.$d lladdr 02:00:00:00:$c:$(( d % 99 )) dev eth1 nud permanent\"; "
      "done; done | ip -batch -";
  ASSERT_TRUE(network_->run("sh -c '" + batch + "'"));
  make();
  const auto start = EventLoop::Clock::now();
  (*loop_)([&] { hops_->want(wanted); });
  const auto took = EventLoop::Clock::now() - start;
  std::printf("10000 backends looked up in %.1f ms\n",
              std::chrono::duration<double, std::milli>(took).count());
  EXPECT_TRUE((*loop_)([&] {
    return std::all_of(wanted.begin(), wanted.end(),
                       [&](const Address& a) { return hops_->get(a).hop.has_value(); });
  }));
  ASSERT_TRUE(network_->run("ip route add blackhole 172.16.40.0/24"));
  EXPECT_TRUE(reason_becomes("172.16.40.7", "the route to 172.16.40.7 is a blackhole"));
  EXPECT_EQ((*loop_)([&] { return changed_.size(); }), 250u);
}

}  // namespace
}  // namespace guideway
