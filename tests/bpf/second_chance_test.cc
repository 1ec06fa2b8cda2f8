// SPDX-License-Identifier: Apache-2.0
// The second chance as a whole: real connections through three backends, none of which has ever
// talked to another when the first packet is to be sent on.
#include <netinet/tcp.h>

#include <map>

#include "tests/bpf/backends.h"
#include "tests/bpf/redirect_fixture.h"

namespace guideway {
namespace {

using namespace packet;

constexpr uint16_t kPort = 443;

class SecondChance : public PrivateNetwork, public testing::WithParamInterface<GueCrossing> {
 protected:
  void SetUp() override {
    PrivateNetwork::SetUp();
    if (IsSkipped()) return;
    shell("ip link add gwbr type bridge && ip link set gwbr addrgenmode none mtu 1800 up");
    shell("ip addr add 10.0.0.1/24 dev gwbr && ip addr add fd00::1/64 nodad dev gwbr");
    shell("sysctl -qw net/ipv4/conf/all/rp_filter=0 net/ipv4/conf/gwbr/rp_filter=0");
    for (int number = 1; number <= 3; ++number) add_backend(number);
    if (HasFatalFailure()) return;

    node_.emplace();
    shell("ip link set client0 addrgenmode none up");
    shell("ip addr add dev client0 198.51.100.7/32 && ip addr add dev client0 2001:db8:c::7 nodad");
    shell("ip route add 203.0.113.10 dev client0 src 198.51.100.7");
    shell("ip -6 route add 2001:db8::10 dev client0 src 2001:db8:c::7");
    node_->start("gwbr", [this](Bytes& frame, const Address& to) {
      std::fill(frame.begin(), frame.begin() + 6, 0);
      frame[0] = 2;
      frame[5] = static_cast<uint8_t>(to.bytes[15] - base());
    });
  }

  void add_backend(int number) {
    Backend& backend = backends_[number];
    const std::string n = std::to_string(number);
    shell("ip link add port" + n + " type veth peer name gw0 netns " + backend.space.path());
    shell("ip link set port" + n + " mtu 1800 addrgenmode none master gwbr up");
    backend.space.in([&] {
      shell("ip link set lo up");
      shell("ip link set gw0 address 02:00:00:00:00:0" + n + " mtu 1800 addrgenmode none up");
      shell("ip addr add 10.0.0.2" + n + "/24 dev gw0");
      // fe80: without one, the kernel cannot ask for the router on behalf of an address on lo.
      for (const char* prefix : {"fd00::2", "fe80::2"})
        shell("ip addr add " + (prefix + n) + "/64 nodad dev gw0");
      shell("ip addr add 203.0.113.10/32 dev lo; ip addr add 2001:db8::10/128 nodad dev lo");
      shell("ip route add default via 10.0.0.1 && ip -6 route add default via fd00::1");
      shell("sysctl -qw net/ipv4/conf/all/rp_filter=0 net/ipv4/conf/gw0/rp_filter=0");
      Result<std::set<Address>> local = host_addresses();
      Result<Redirect> made = Redirect::attach(
          "gw0", object_path(kRedirectObject),
          std::vector{Prefix::parse("10.0.0.0/24").value(), Prefix::parse("fd00::/64").value()},
          std::vector<Address>(local->begin(), local->end()));
      ASSERT_TRUE(made) << made.error().text();
      ASSERT_EQ(made->mode(), XdpMode::native);
      backend.redirect = std::move(*made);
      backend.listener = tcp_socket(vip());
      ASSERT_TRUE(bind_to(backend.listener, vip(), kPort));
      ASSERT_EQ(listen(backend.listener.get(), 8), 0);
    });
  }

  static bool outer_v4() { return GetParam().outer_v4; }
  static bool inner_v4() { return GetParam().inner_v4; }
  static Address host(int number) {
    return address((outer_v4() ? "10.0.0.2" : "fd00::2") + std::to_string(number));
  }
  static uint8_t base() { return outer_v4() ? 20 : 0x20; }
  static Address client() { return address(inner_v4() ? "198.51.100.7" : "2001:db8:c::7"); }
  static Address vip() { return address(inner_v4() ? "203.0.113.10" : "2001:db8::10"); }

  static Gue through(int first, std::initializer_list<int> later = {}) {
    Gue gue{.outer = {.source = address(outer_v4() ? "10.0.0.1" : "fd00::1"),
                      .destination = host(first)}};
    for (int hop : later) gue.hops.push_back(host(hop));
    return gue;
  }
  static size_t tcp_at() { return inner_v4() ? 20 : 40; }
  static bool is_ours(const Bytes& inner) {
    if (inner_v4()) return inner[0] >> 4 == 4 && inner[9] == IPPROTO_TCP;
    return inner[0] >> 4 == 6 && inner[6] == IPPROTO_TCP;
  }
  void route(int first, std::initializer_list<int> later = {}) {
    node_->route([gue = through(first, later)](const Bytes& inner) {
      return is_ours(inner) ? std::optional(gue) : std::nullopt;
    });
  }

  struct Connection {
    UniqueFd client, server;
  };
  Connection connect_through(int first, int accepts) {
    Connection made{tcp_socket(client()), {}};
    if (first != 0) route(first);
    EXPECT_TRUE(connect_to(made.client, vip(), kPort));
    made.server.reset(accept4(backends_[accepts].listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    EXPECT_TRUE(made.server) << "backend " << accepts << ": " << std::strerror(errno);
    be_patient(made.server);
    return made;
  }
  static void expect_carried(const UniqueFd& from, const UniqueFd& to, size_t size) {
    Bytes sent(size), got(size);
    for (size_t i = 0; i < size; ++i) sent[i] = static_cast<uint8_t>(i * 7 + i / 256);
    EXPECT_EQ(send(from.get(), sent.data(), size, 0), static_cast<ssize_t>(size));
    EXPECT_EQ(recv(to.get(), got.data(), size, MSG_WAITALL), static_cast<ssize_t>(size))
        << std::strerror(errno);
    EXPECT_EQ(sent, got);
  }
  static unsigned retransmissions(const UniqueFd& fd) {
    tcp_info info{};
    socklen_t size = sizeof info;
    EXPECT_EQ(getsockopt(fd.get(), IPPROTO_TCP, TCP_INFO, &info, &size), 0);
    return info.tcpi_total_retrans;
  }
  // A TCP segment of the VIP's in a frame with these flags set.
  static bool is_answer(const Bytes& frame, uint8_t flags) {
    Bytes inner(frame.begin() + 14, frame.end());
    return inner.size() >= tcp_at() + 20 && is_ours(inner) && inner[tcp_at()] == kPort >> 8 &&
           inner[tcp_at() + 1] == (kPort & 0xff) && (inner[tcp_at() + 13] & flags) == flags;
  }
  static uint32_t get32(const Bytes& frame, size_t at) {
    return static_cast<uint32_t>(frame[at] << 24 | frame[at + 1] << 16 | frame[at + 2] << 8 |
                                 frame[at + 3]);
  }
  using Counted = std::map<std::string, uint64_t>;

  std::map<int, Backend> backends_;
  std::optional<StandInNode> node_;
};

INSTANTIATE_TEST_SUITE_P(Crossings, SecondChance, testing::ValuesIn(kGueCrossings),
                         [](const auto& info) { return "in_" + std::string(info.param.name); });

TEST_P(SecondChance, AConnectionGoesOnWhenItsPacketsComeToAnotherBackendFirst) {
  Connection made = connect_through(2, 2);
  expect_carried(made.client, made.server, 100);
  // Backend 1 knows nobody's MAC address but the router's at most.
  ASSERT_EQ(
      backends_[1].run("ip neigh flush all; ip -6 neigh flush all; test -z \"$(ip neigh show to " +
                       host(2).text() + ")\""),
      0);

  route(1, {2});
  expect_carried(made.client, made.server, 50000);
  expect_carried(made.server, made.client, 50000);
  EXPECT_EQ(retransmissions(made.client), 0u) << "the first packet was lost while ARP asked";
  EXPECT_GE(backends_[1].count(GW_REDIRECT_forwarded_1), 50000u / 1500);

  // And through two that do not know it.
  uint64_t before = backends_[3].count(GW_REDIRECT_forwarded_2);
  route(1, {3, 2});
  expect_carried(made.client, made.server, 50000);
  EXPECT_GE(backends_[3].count(GW_REDIRECT_forwarded_2) - before, 50000u / 1500);
  EXPECT_EQ(retransmissions(made.client), 0u);

  Counted one = backends_[1].counted(), three = backends_[3].counted(),
          two = backends_[2].counted();
  for (Counted* all : {&one, &two, &three}) all->erase("other"), all->erase("not_local");
  EXPECT_EQ(one.size(), 1u);
  EXPECT_EQ(three.size(), 1u);
  EXPECT_EQ(two.size(), 2u) << "local_new and local_socket";
  EXPECT_EQ(two["local_new"], 1u);
}

TEST_P(SecondChance, AHalfOpenConnectionIsAtHome) {
  // The client's own stack knows nothing of this flow, and must not reset it.
  node_->route([](const Bytes&) { return std::nullopt; });
  RawSocket bridge("gwbr");
  Segment syn{.flags = kSyn, .sequence = 7000};
  node_->send(through(1, {2, 3}), tcp_packet(client(), vip(), syn));
  Bytes answer = bridge.await([](const Bytes& frame) { return is_answer(frame, kSyn | kAck); });
  ASSERT_FALSE(answer.empty());
  uint32_t theirs = get32(answer, 14 + tcp_at() + 4);
  Segment ack{.sequence = 7001, .acknowledged = theirs + 1};
  node_->send(through(1, {2, 3}), tcp_packet(client(), vip(), ack));
  EXPECT_TRUE(UniqueFd(accept(backends_[1].listener.get(), nullptr, nullptr)));
  EXPECT_EQ(backends_[1].count(GW_REDIRECT_local_new), 1u);
  EXPECT_EQ(backends_[1].count(GW_REDIRECT_local_socket), 1u);
}

TEST_P(SecondChance, AnAckWithASynCookieFindsItsBackend) {
  ASSERT_EQ(backends_[1].run("sysctl -qw net/ipv4/tcp_syncookies=2"), 0);
  route(1, {2});
  Connection first = connect_through(0, 1);
  expect_carried(first.client, first.server, 1000);
  EXPECT_EQ(backends_[1].count(GW_REDIRECT_local_new), 1u);
  EXPECT_GE(backends_[1].count(GW_REDIRECT_local_cookie), 1u);
  EXPECT_EQ(backends_[1].count(GW_REDIRECT_forwarded_1), 0u);
}

// The SYN went to backend 2, the ACK comes to 1. One kernel has one secret for the cookies of all
// its namespaces, so backend 1 would take it for its own: cookies are off there.
TEST_P(SecondChance, AnAckWithAnothersSynCookieGoesOn) {
  ASSERT_EQ(backends_[1].run("sysctl -qw net/ipv4/tcp_syncookies=0"), 0);
  ASSERT_EQ(backends_[2].run("sysctl -qw net/ipv4/tcp_syncookies=2"), 0);
  node_->route([](const Bytes& inner) -> std::optional<Gue> {
    if (!is_ours(inner)) return {};
    return inner[tcp_at() + 13] == kSyn ? through(2) : through(1, {2});
  });
  Connection second = connect_through(0, 2);
  expect_carried(second.client, second.server, 1000);
  EXPECT_GE(backends_[2].count(GW_REDIRECT_local_cookie), 1u);
  EXPECT_GE(backends_[1].count(GW_REDIRECT_forwarded_1), 1u);
}

TEST_P(SecondChance, TheLastHopResetsWhatNobodyKnows) {
  Connection made = connect_through(2, 2);
  expect_carried(made.client, made.server, 100);
  route(1, {3});
  char byte = 'x';
  ASSERT_EQ(send(made.client.get(), &byte, 1, 0), 1);
  EXPECT_EQ(recv(made.client.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
  EXPECT_EQ(backends_[1].count(GW_REDIRECT_forwarded_1), 1u);
  EXPECT_EQ(backends_[3].count(GW_REDIRECT_local_last), 1u);
}

TEST_P(SecondChance, AListWithLoopsEnds) {
  node_->route([](const Bytes&) { return std::nullopt; });
  RawSocket bridge("gwbr");
  node_->send(through(1, {1, 2, 1, 2}), tcp_packet(client(), vip(), {}));
  EXPECT_FALSE(bridge.await([](const Bytes& frame) { return is_answer(frame, kRst); }).empty());
  EXPECT_EQ(backends_[1].count(GW_REDIRECT_forwarded_2), 1u) << "past itself";
  EXPECT_EQ(backends_[2].count(GW_REDIRECT_forwarded_3), 1u);
  EXPECT_EQ(backends_[1].count(GW_REDIRECT_forwarded_4), 1u);
  EXPECT_EQ(backends_[2].count(GW_REDIRECT_local_last), 1u);
}

TEST_P(SecondChance, AnIcmpErrorFindsTheBackendOfItsConnection) {
  RawSocket bridge("gwbr");
  Connection made = connect_through(2, 2);
  expect_carried(made.server, made.client, 100);
  Bytes quoted = bridge.await([](const Bytes& frame) {
    return is_answer(frame, kAck) && frame.size() > 14 + tcp_at() + 100;
  });
  ASSERT_FALSE(quoted.empty());
  quoted.erase(quoted.begin(), quoted.begin() + 14);
  expect_carried(made.client, made.server, 100);  // acknowledges, so that nothing is in flight
  // The kernel heeds errors about what is in flight only; the next byte to be sent will do.
  put32(quoted, tcp_at() + 4, get32(quoted, tcp_at() + 4) + 100);

  const uint32_t mtu = 1300;
  Address router = address(inner_v4() ? "192.0.2.1" : "2001:db8:f::1");
  node_->send(through(1, {3, 2}), inner_v4() ? icmp_packet(router, vip(), 3, 4, mtu, quoted)
                                             : icmp_packet(router, vip(), 2, 0, mtu, quoted));
  // Comes after it on the same way.
  route(1, {3, 2});
  expect_carried(made.client, made.server, 100);
  int now = 0;
  socklen_t size = sizeof now;
  ASSERT_EQ(inner_v4() ? getsockopt(made.server.get(), IPPROTO_IP, IP_MTU, &now, &size)
                       : getsockopt(made.server.get(), IPPROTO_IPV6, IPV6_MTU, &now, &size),
            0);
  EXPECT_EQ(now, static_cast<int>(mtu));
}

// Whoever sends frames that look as if redirect had made them does not get them sent on.
TEST_P(SecondChance, APretenderOnTheWireIsNotBelieved) {
  node_->route([](const Bytes&) { return std::nullopt; });
  RawSocket bridge("gwbr");
  Gue pretended = through(2, {3});
  pretended.outer.source = host(1);
  for (uint8_t first : {0, 1, 3, 0x43, 0xff}) {
    Bytes frame = gue_frame(pretended, tcp_packet(client(), vip(), {}));
    frame[5] = 1;
    frame[0] = 2;
    std::fill(frame.begin() + 1, frame.begin() + 5, 0);
    std::fill(frame.begin() + 6, frame.begin() + 12, first);
    bridge.send(frame);
  }
  // Goes the same way after them, and is the only one that comes.
  node_->send(through(1, {2}), tcp_packet(client(), vip(), {}));
  EXPECT_FALSE(bridge.await([](const Bytes& frame) { return is_answer(frame, kRst); }).empty());
  Counted two = backends_[2].counted();
  two.erase("other");
  EXPECT_EQ(two, (Counted{{"local_last", 1}}));
}

}  // namespace
}  // namespace guideway
