// SPDX-License-Identifier: Apache-2.0
// The bytes of probes, against ones written from the descriptions (tests/bpf/probe_packet.h), and
// with every checksum verified.
#include "controlplane/probe_packet.h"

#include <gtest/gtest.h>

#include "controlplane/outer_header.h"
#include "dataplane/abi.h"
#include "tests/bpf/probe_packet.h"

namespace guideway {
namespace {

using packet::Bytes;
using packet::operator+;
using packet::SentProbe;

constexpr gw_probe_secret kSecret = {{0x0123456789abcdef, 0xfedcba9876543210}};

Address ip(const char* text) {
  return *Address::parse(text);
}

ProbeTarget target_of(ProbeKind kind, const char* source, const char* destination) {
  ProbeTarget target;
  target.id = 1234;
  target.probe.kind = kind;
  target.probe.port = kind == ProbeKind::icmp ? 0 : 443;
  target.source = ip(source);
  target.destination = ip(destination);
  return target;
}

std::vector<uint8_t> outer_of(Forwarding forwarding, const char* backend, const char* source) {
  NextHop hop;
  hop.mac = {2, 0, 0, 0, 0, 2};
  hop.source_mac = {2, 0, 0, 0, 0, 1};
  hop.source = ip(source);
  std::vector<uint8_t> outer(GW_OUTER_MAX);
  outer.resize(write_outer_header(outer.data(), forwarding, ip(backend), hop));
  return outer;
}

Bytes bytes_of(std::span<const uint8_t> frame) {
  return {frame.begin(), frame.end()};
}
Bytes from(const Bytes& bytes, size_t at) {
  return {bytes.begin() + static_cast<ptrdiff_t>(at), bytes.end()};
}

SentProbe expected(const ProbeTarget& target, uint32_t attempt) {
  SentProbe probe;
  probe.secret = kSecret;
  probe.node = target.source;
  probe.peer = target.destination;
  probe.port = target.probe.port;
  probe.protocol = target.probe.kind == ProbeKind::tcp    ? IPPROTO_TCP
                   : target.probe.kind == ProbeKind::icmp ? IPPROTO_ICMP
                                                          : IPPROTO_UDP;
  probe.name = {target.id, attempt % GW_PROBE_ATTEMPTS};
  return probe;
}

// 0 when the checksums over header and pseudo-header are right.
uint16_t ipv4_sum(const Bytes& packet) {
  return packet::internet_checksum(packet.data(), 20);
}

void expect_good_checksum(const Bytes& packet) {
  EXPECT_EQ(packet::with_checksums(packet), packet);
  EXPECT_TRUE(packet[0] >> 4 == 6 || ipv4_sum(packet) == 0);
}

struct Family {
  const char* name;
  const char* node;
  const char* peer;
};

class ProbePacketTest : public testing::TestWithParam<Family> {
 protected:
  bool v4() const { return ip(GetParam().node).is_v4(); }
  size_t header() const { return v4() ? 20 : 40; }
  ProbeTarget target(ProbeKind kind) const {
    ProbeTarget out = target_of(kind, GetParam().node, GetParam().peer);
    out.outer = outer_of(Forwarding::l2, GetParam().peer, GetParam().node);
    return out;
  }
  void expect_inner_header(const Bytes& inner, uint8_t protocol) const {
    const size_t l4_bytes = inner.size() - header();
    if (v4()) {
      EXPECT_EQ(inner[0], 0x45);
      EXPECT_EQ(inner[2] << 8 | inner[3], static_cast<int>(inner.size()));
      EXPECT_EQ(inner[6], 0x40) << "DF";
      EXPECT_EQ(inner[8], 64) << "TTL";
      EXPECT_EQ(inner[9], protocol);
    } else {
      EXPECT_EQ(inner[0] >> 4, 6);
      EXPECT_EQ(inner[4] << 8 | inner[5], static_cast<int>(l4_bytes));
      EXPECT_EQ(inner[6], protocol);
      EXPECT_EQ(inner[7], 64);
    }
    const Address source = ip(GetParam().node), destination = ip(GetParam().peer);
    const size_t at = v4() ? 12 : 8, size = v4() ? 4 : 16;
    EXPECT_EQ(std::memcmp(&inner[at], v4() ? source.v4() : source.v6(), size), 0);
    EXPECT_EQ(std::memcmp(&inner[at + size], v4() ? destination.v4() : destination.v6(), size), 0);
  }
};

TEST_P(ProbePacketTest, Tcp) {
  const ProbeTarget tcp = target(ProbeKind::tcp);
  auto made = ProbePacket::make(tcp, kSecret);
  ASSERT_TRUE(made);
  for (uint32_t attempt : {0u, 1u, 99999u, 131071u, 131072u, 4000000000u}) {
    const SentProbe want = expected(tcp, attempt);
    const Bytes syn = bytes_of(made->probe(attempt));
    EXPECT_EQ(Bytes(syn.begin(), syn.begin() + 12),
              Bytes(tcp.outer.begin(), tcp.outer.begin() + 12));
    EXPECT_EQ(syn[12] << 8 | syn[13], v4() ? 0x0800 : 0x86dd);
    const Bytes inner = from(syn, 14);
    expect_inner_header(inner, IPPROTO_TCP);
    expect_good_checksum(inner);
    Bytes header = packet::tcp(want.own_port(), 443, want.sequence(), 0, packet::kSyn);
    header[12] = 6 << 4;
    packet::put16(header, 14, 64240);
    header = header + Bytes{2, 4, 5, static_cast<uint8_t>(v4() ? 0xb4 : 0xa0)};
    Bytes got = from(inner, this->header());
    got[16] = got[17] = 0;
    EXPECT_EQ(got, header);

    const Bytes reset = from(bytes_of(made->reset(attempt)), 14);
    expect_inner_header(reset, IPPROTO_TCP);
    expect_good_checksum(reset);
    header = packet::tcp(want.own_port(), 443, want.sequence() + 1, 0, packet::kRst);
    packet::put16(header, 14, 0);
    got = from(reset, this->header());
    got[16] = got[17] = 0;
    EXPECT_EQ(got, header);
  }
}

TEST_P(ProbePacketTest, Icmp) {
  const ProbeTarget icmp = target(ProbeKind::icmp);
  auto made = ProbePacket::make(icmp, kSecret);
  ASSERT_TRUE(made);
  for (uint32_t attempt : {0u, 7u, 131071u, 131073u}) {
    const Bytes inner = from(bytes_of(made->probe(attempt)), 14);
    expect_inner_header(inner, v4() ? 1 : 58);
    expect_good_checksum(inner);
    const Bytes message = from(inner, header());
    EXPECT_TRUE(!v4() || packet::internet_checksum(message.data(), message.size()) == 0);
    EXPECT_EQ(message[0], v4() ? 8 : 128);
    EXPECT_EQ(message[1], 0);
    EXPECT_EQ(from(message, 8), expected(icmp, attempt).mark());
  }
}

TEST_P(ProbePacketTest, UdpEcho) {
  ProbeTarget udp = target(ProbeKind::udp);
  udp.probe.query = UdpQuery::echo;
  auto made = ProbePacket::make(udp, kSecret);
  ASSERT_TRUE(made);
  for (uint32_t attempt = 0; attempt < 2000; ++attempt) {
    const SentProbe want = expected(udp, attempt);
    const Bytes inner = from(bytes_of(made->probe(attempt)), 14);
    expect_inner_header(inner, IPPROTO_UDP);
    expect_good_checksum(inner);
    Bytes got = from(inner, header());
    got[6] = got[7] = 0;
    EXPECT_EQ(got, packet::udp(want.own_port(), 443, want.text()));
  }
}

TEST_P(ProbePacketTest, UdpDns) {
  ProbeTarget udp = target(ProbeKind::udp);
  udp.probe.query = UdpQuery::dns;
  auto made = ProbePacket::make(udp, kSecret);
  ASSERT_TRUE(made);
  const SentProbe want = expected(udp, 5);
  const Bytes inner = from(bytes_of(made->probe(5)), 14);
  expect_good_checksum(inner);
  Bytes got = from(inner, header());
  got[6] = got[7] = 0;
  got[8] = got[9] = 0;  // the query's id
  Bytes query = {0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 32};
  query = query + want.text();
  for (const std::string& label : {std::string("guideway"), std::string("invalid")}) {
    query.push_back(static_cast<uint8_t>(label.size()));
    query.insert(query.end(), label.begin(), label.end());
  }
  query = query + Bytes{0, 0, 16, 0, 1};
  EXPECT_EQ(got, packet::udp(want.own_port(), 443, query));
}

TEST_P(ProbePacketTest, ThroughATunnel) {
  for (const Family& tunnel :
       {Family{"v4", "10.0.0.11", "10.0.0.21"}, {"v6", "fd00::11", "fd00::21"}}) {
    SCOPED_TRACE(tunnel.name);
    const bool outer_v4 = ip(tunnel.node).is_v4();
    const size_t outer_bytes = outer_v4 ? 20 : 40;
    ProbeTarget tcp = target(ProbeKind::tcp);
    const Bytes plain = from(bytes_of(ProbePacket::make(tcp, kSecret)->probe(9)), 14);
    const Bytes plain_reset = from(bytes_of(ProbePacket::make(tcp, kSecret)->reset(9)), 14);
    tcp.outer = outer_of(Forwarding::ipip, tunnel.peer, tunnel.node);
    auto made = ProbePacket::make(tcp, kSecret);
    ASSERT_TRUE(made);
    for (const bool reset : {false, true}) {
      const Bytes frame = bytes_of(reset ? made->reset(9) : made->probe(9));
      EXPECT_EQ(frame[12] << 8 | frame[13], outer_v4 ? 0x0800 : 0x86dd);
      const Bytes outer = from(frame, 14);
      EXPECT_EQ(from(outer, outer_bytes), reset ? plain_reset : plain);
      const int inner_protocol = v4() ? 4 : 41;
      if (outer_v4) {
        EXPECT_EQ(ipv4_sum(outer), 0);
        EXPECT_EQ(outer[2] << 8 | outer[3], static_cast<int>(outer.size()));
        EXPECT_EQ(outer[9], inner_protocol);
        EXPECT_EQ(std::memcmp(&outer[16], ip(tunnel.peer).v4(), 4), 0);
      } else {
        EXPECT_EQ(outer[4] << 8 | outer[5], static_cast<int>(outer.size() - 40));
        EXPECT_EQ(outer[6], inner_protocol);
        EXPECT_EQ(std::memcmp(&outer[24], ip(tunnel.peer).v6(), 16), 0);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ProbePacketTest,
                         testing::Values(Family{"v4", "192.0.2.1", "203.0.113.10"},
                                         Family{"v6", "2001:db8::1", "2001:db8::10"}),
                         [](const auto& info) { return info.param.name; });

TEST(ProbePacket, RefusesWhatItCannotSend) {
  ProbeTarget target = target_of(ProbeKind::tcp, "192.0.2.1", "203.0.113.10");
  for (size_t bytes : {0u, 13u, 15u, 33u, 53u, 55u, 64u}) {
    target.outer.assign(bytes, 0);
    EXPECT_FALSE(ProbePacket::make(target, kSecret)) << bytes;
  }
  target.outer.assign(14, 0);
  EXPECT_TRUE(ProbePacket::make(target, kSecret));
  target.destination = ip("2001:db8::10");
  EXPECT_EQ(ProbePacket::make(target, kSecret).error().text(),
            "probe: from 192.0.2.1 to 2001:db8::10, which is of another family");
  target.destination = ip("203.0.113.10");
  for (ProbeKind kind : {ProbeKind::none, ProbeKind::http}) {
    target.probe.kind = kind;
    EXPECT_FALSE(ProbePacket::make(target, kSecret));
  }
}

}  // namespace
}  // namespace guideway
