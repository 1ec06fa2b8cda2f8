// SPDX-License-Identifier: Apache-2.0
// redirect and sockets: which packets are at home here. The sockets are real ones, in the test's
// own namespace; SYN cookies and half-open connections are in second_chance_test.cc.
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "controlplane/unique_fd.h"
#include "tests/bpf/redirect_fixture.h"
#include "tests/bpf/sockets.h"

namespace guideway {
namespace {

using namespace packet;

class RedirectFlow : public RedirectRun {
 protected:
  void SetUp() override {
    RedirectRun::SetUp();
    if (IsSkipped()) return;
    for (const char* vip : {"203.0.113.10/32", "2001:db8::10/128 nodad"})
      shell(std::string("ip addr add dev lo ") + vip);
    shell("ip route add default dev lo && ip -6 route add default dev lo");
  }

  // The VIP's side of a connection that has no other side.
  UniqueFd established() const {
    UniqueFd fd = tcp_socket(vip());
    int on = 1;
    EXPECT_EQ(setsockopt(fd.get(), IPPROTO_TCP, TCP_REPAIR, &on, sizeof on), 0);
    EXPECT_TRUE(bind_to(fd, vip(), ports_.destination));
    EXPECT_TRUE(connect_to(fd, client(), ports_.source));
    return fd;
  }
  UniqueFd udp_socket(bool connected) const {
    UniqueFd fd(socket(vip().is_v4() ? AF_INET : AF_INET6, SOCK_DGRAM, 0));
    EXPECT_TRUE(bind_to(fd, vip(), ports_.destination));
    if (connected) {
      EXPECT_TRUE(connect_to(fd, client(), ports_.source));
    }
    return fd;
  }

  static uint8_t unreachable() { return inner_v4() ? 3 : 1; }
  Bytes error_about(const Bytes& quoted) const {
    return icmp_packet(packet::address(inner_v4() ? "192.0.2.1" : "2001:db8:f::1"), vip(),
                       unreachable(), 1, 0, quoted);
  }
  // What this host sent to the client.
  Bytes answer(uint8_t flags = kAck) const {
    return tcp_packet(vip(), client(),
                      {.ports = {ports_.destination, ports_.source}, .flags = flags}, payload_);
  }
};

INSTANTIATE_TEST_SUITE_P(Crossings, RedirectFlow, testing::ValuesIn(kGueCrossings),
                         [](const auto& info) { return "in_" + std::string(info.param.name); });

TEST_P(RedirectFlow, AnEstablishedConnectionIsAtHome) {
  expect_forwarded(to_us(four_hops()), tcp(), 0);
  UniqueFd fd = established();
  for (unsigned next = 0; next <= 4; ++next) {
    for (int flags : {+kAck, +kFin, +kRst, kSyn | kAck, 0})
      expect_local(to_us(four_hops(), next), tcp(static_cast<uint8_t>(flags)),
                   GW_REDIRECT_local_socket);
    expect_local(to_us(four_hops(), next), tcp(kSyn), GW_REDIRECT_local_new);
  }
  // Another flow is not.
  ++ports_.source;
  expect_forwarded(to_us(four_hops()), tcp(), 0);
}

TEST_P(RedirectFlow, AListenerAloneIsNoHome) {
  UniqueFd fd = tcp_socket(vip());
  ASSERT_TRUE(bind_to(fd, vip(), ports_.destination));
  ASSERT_EQ(listen(fd.get(), 8), 0);
  expect_forwarded(to_us(four_hops()), tcp(), 0);
  expect_forwarded(to_us(four_hops()), tcp(kRst | kAck), 0);
  expect_local(to_us(four_hops()), tcp(kSyn), GW_REDIRECT_local_new);
  expect_local(to_us(four_hops(), 4), tcp(), GW_REDIRECT_local_last);
}

TEST_P(RedirectFlow, ATimeWaitSocketIsAHome) {
  shell("ip addr add dev lo " + client().text() + (inner_v4() ? "/32" : "/128 nodad"));
  UniqueFd listener = tcp_socket(vip());
  ASSERT_TRUE(bind_to(listener, vip(), ports_.destination));
  ASSERT_EQ(listen(listener.get(), 8), 0);
  UniqueFd client_end = tcp_socket(client());
  ASSERT_TRUE(bind_to(client_end, client(), ports_.source));
  ASSERT_TRUE(connect_to(client_end, vip(), ports_.destination));
  UniqueFd server_end(accept(listener.get(), nullptr, nullptr));
  // The side that closes first waits.
  server_end.reset();
  char byte;
  ASSERT_EQ(read(client_end.get(), &byte, 1), 0);
  client_end.reset();
  expect_local(to_us(four_hops()), tcp(), GW_REDIRECT_local_socket);
}

TEST_P(RedirectFlow, DatagramsHaveAHomeWhereTheirSocketIsConnected) {
  {
    UniqueFd fd = udp_socket(false);
    expect_forwarded(to_us(four_hops(), 1), udp(), 1);
  }
  UniqueFd fd = udp_socket(true);
  expect_local(to_us(four_hops()), udp(), GW_REDIRECT_local_first);
  expect_local(to_us(four_hops(), 1), udp(), GW_REDIRECT_local_socket);
  expect_local(to_us(four_hops(), 4), udp(), GW_REDIRECT_local_socket);
}

TEST_P(RedirectFlow, AnIcmpErrorGoesWhereItsConnectionIs) {
  expect_forwarded(to_us(four_hops()), error_about(answer()), 0);
  expect_local(to_us(four_hops(), 4), error_about(answer()), GW_REDIRECT_local_last);
  UniqueFd fd = established();
  expect_local(to_us(four_hops()), error_about(answer()), GW_REDIRECT_local_socket);
  expect_local(to_us(four_hops(), 4), error_about(answer()), GW_REDIRECT_local_socket);
  // About a SYN: it is not that SYN.
  ++ports_.source;
  expect_forwarded(to_us(four_hops()), error_about(answer(kSyn)), 0);
  --ports_.source;
  // Not turned round, it would be about a packet of the client's.
  expect_forwarded(to_us(four_hops()), error_about(tcp()), 0);
}

TEST_P(RedirectFlow, WhichIcmpTypesAreErrors) {
  UniqueFd fd = established();
  for (int type = 0; type < 256; ++type) {
    SCOPED_TRACE(type);
    bool error = inner_v4() ? type == 3 || type == 4 || type == 11 || type == 12 : type < 128;
    Bytes icmp = icmp_packet(client(), vip(), static_cast<uint8_t>(type), 0, 0, answer());
    expect_local(to_us(four_hops()), icmp,
                 error ? GW_REDIRECT_local_socket : GW_REDIRECT_local_first);
  }
}

TEST_P(RedirectFlow, AnIcmpErrorAboutADatagram) {
  Bytes sent =
      udp_packet(vip(), client(), {ports_.destination, ports_.source}, {'h', 'e', 'l', 'l', 'o'});
  expect_local(to_us(four_hops()), error_about(sent), GW_REDIRECT_local_first);
  expect_forwarded(to_us(four_hops(), 1), error_about(sent), 1);
  UniqueFd fd = udp_socket(true);
  expect_local(to_us(four_hops(), 1), error_about(sent), GW_REDIRECT_local_socket);
}

// Routers quote as much as they like: 8 bytes of TCP are enough, less is of no use to anybody.
TEST_P(RedirectFlow, QuotesCutAtEveryByte) {
  UniqueFd fd = established();
  Bytes whole = answer();
  const size_t needed = (inner_v4() ? 20u : 40u) + 8;
  for (size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    Bytes cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    if (size < needed)
      expect_dropped(gue_frame(to_us(four_hops()), error_about(cut)), GW_REDIRECT_malformed);
    else
      expect_local(to_us(four_hops()), error_about(cut), GW_REDIRECT_local_socket);
  }
  for (uint8_t version : {0, 5, 15}) {
    Bytes wrong = whole;
    wrong[0] = static_cast<uint8_t>(version << 4 | (wrong[0] & 0xf));
    expect_dropped(gue_frame(to_us(four_hops()), error_about(wrong)), GW_REDIRECT_malformed);
  }
}

}  // namespace
}  // namespace guideway
