// SPDX-License-Identifier: Apache-2.0
#include "dataplane/parse.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/packets.h"

namespace guideway {
namespace {

using namespace test;

Packet parse(const Bytes& frame) {
  // An exact copy, so that a read past the end is seen by the address sanitizer.
  const std::unique_ptr<uint8_t[]> exact(new uint8_t[frame.size()]);
  std::copy(frame.begin(), frame.end(), exact.get());
  return guideway::parse(exact.get(), frame.size());
}

class ParseTest : public testing::TestWithParam<Family> {};

TEST_P(ParseTest, FlowOfBothProtocols) {
  for (const uint8_t protocol : {6, 17}) {
    PacketSpec spec = spec_for(GetParam());
    spec.protocol = protocol;
    const Packet packet = parse(frame_of(spec));
    EXPECT_EQ(packet.kind, PacketKind::flow);
    EXPECT_EQ(packet.key.client, address(GetParam().client));
    EXPECT_EQ(packet.key.vip, address(GetParam().vip));
    EXPECT_EQ(packet.key.client_port.host(), 40000);
    EXPECT_EQ(packet.key.vip_port.host(), 443);
    EXPECT_EQ(packet.key.protocol, protocol);
    EXPECT_EQ(packet.ip_bytes, GetParam().ip_header + (protocol == 6 ? 20 : 8) + 32);
    EXPECT_EQ(packet.l4_offset, 14 + GetParam().ip_header);
  }
}

TEST_P(ParseTest, FlagsAreTcpsAlone) {
  PacketSpec spec = spec_for(GetParam());
  spec.tcp_flags = 0xa5;
  EXPECT_EQ(parse(frame_of(spec)).tcp_flags, 0xa5);
  spec.protocol = 17;
  EXPECT_EQ(parse(frame_of(spec)).tcp_flags, 0);
}

TEST_P(ParseTest, EthernetPaddingIsNotThePacket) {
  Bytes frame = frame_of(spec_for(GetParam()));
  const Packet plain = parse(frame);
  frame.resize(frame.size() + 17);
  EXPECT_EQ(parse(frame).ip_bytes, plain.ip_bytes);
  EXPECT_EQ(parse(frame).kind, PacketKind::flow);
}

TEST_P(ParseTest, CutAtEveryByteIsTruncated) {
  PacketSpec spec = spec_for(GetParam());
  spec.payload.clear();
  const Bytes whole = frame_of(spec);
  for (size_t n = 0; n < whole.size(); ++n) {
    const Packet packet = parse(Bytes(whole.begin(), whole.begin() + static_cast<long>(n)));
    ASSERT_EQ(packet.kind, PacketKind::other) << n;
    ASSERT_EQ(packet.problem, Verdict::truncated) << n;
    ASSERT_EQ(packet.has_destination, n >= 14 + GetParam().ip_header) << n;
  }
}

TEST_P(ParseTest, HeaderThatContradictsItself) {
  Bytes frame = frame_of(spec_for(GetParam()));
  frame[14] = static_cast<uint8_t>((frame[14] & 0x0f) | 0x70);
  EXPECT_EQ(parse(frame).problem, Verdict::bad_header);
  EXPECT_TRUE(parse(frame).has_destination);
}

TEST_P(ParseTest, OtherProtocolsAreNotHandled) {
  for (const uint8_t protocol : {4, 41, 47, 50, 132}) {
    PacketSpec spec = spec_for(GetParam());
    spec.protocol = protocol;
    const Packet packet = parse(ethernet(ip_packet(spec, Bytes(40, 0))));
    EXPECT_EQ(packet.kind, PacketKind::other);
    EXPECT_EQ(packet.problem, Verdict::bad_protocol) << int{protocol};
  }
}

TEST_P(ParseTest, EchoRequest) {
  const Bytes frame =
      icmp_frame(spec_for(GetParam()), GetParam().ip_header == 20 ? 8 : 128, 0, Bytes(16, 1));
  EXPECT_EQ(parse(frame).kind, PacketKind::echo_request);
}

// What a router on the way to the client says about a reply of ours.
Bytes error_about(const Family& family, PacketSpec embedded, size_t quoted = SIZE_MAX) {
  Bytes quote = ip_packet(embedded, transport(embedded));
  quote.resize(std::min(quote.size(), quoted));
  Bytes rest(4, 0);
  append(rest, quote);
  const bool v4 = family.ip_header == 20;
  return icmp_frame(spec_for(family), v4 ? 3 : 2, v4 ? 4 : 0, rest);
}

PacketSpec reply_of(const Family& family) {
  PacketSpec reply;
  reply.source = family.vip;
  reply.destination = family.client;
  reply.source_port = 443;
  reply.destination_port = 40000;
  return reply;
}

TEST_P(ParseTest, IcmpErrorHasTheFlowOfThePacketItIsAbout) {
  const Packet flow = parse(frame_of(spec_for(GetParam())));
  const Packet error = parse(error_about(GetParam(), reply_of(GetParam())));
  EXPECT_EQ(error.kind, PacketKind::icmp_error);
  EXPECT_EQ(error.key, flow.key);
}

TEST_P(ParseTest, IcmpErrorNeedsEightBytesOfTransport) {
  const size_t header = GetParam().ip_header;
  for (size_t quoted = 0; quoted < header + 4; ++quoted) {
    const Packet packet = parse(error_about(GetParam(), reply_of(GetParam()), quoted));
    ASSERT_EQ(packet.kind, PacketKind::other) << quoted;
  }
  EXPECT_EQ(parse(error_about(GetParam(), reply_of(GetParam()), header + 8)).kind,
            PacketKind::icmp_error);
}

TEST_P(ParseTest, IcmpErrorAboutSomebodyElsesPacket) {
  PacketSpec reply = reply_of(GetParam());
  reply.source = GetParam().other;
  EXPECT_EQ(parse(error_about(GetParam(), reply)).problem, Verdict::icmp_unrelated);
}

// Frames that are right but for a byte or two, or their length.
TEST_P(ParseTest, TheShortCutSaysWhatTheLongWaySays) {
  std::mt19937 random(1);
  size_t flows = 0;
  const int rounds = 200000;
  for (int round = 0; round < rounds; ++round) {
    PacketSpec spec = spec_for(GetParam());
    spec.protocol = random() % 2 ? 6 : 17;
    spec.payload.resize(random() % 3);
    Bytes frame = frame_of(spec);
    for (unsigned i = random() % 3; i > 0; --i) {
      const size_t at = random() % 4 ? 12 + random() % 26 : random() % frame.size();
      frame[at] = static_cast<uint8_t>(random() % 2 ? random() : frame[at] ^ 1u << random() % 8);
    }
    const bool v4 = GetParam().ip_header == 20;
    if (v4 && random() % 4 && (frame[14] & 0xf) <= 5) fix_v4_checksum(frame);
    if (random() % 4 == 0) frame.resize(random() % (frame.size() + 8));
    const std::unique_ptr<uint8_t[]> exact(new uint8_t[frame.size()]);
    std::copy(frame.begin(), frame.end(), exact.get());
    const Packet one = guideway::parse(exact.get(), frame.size());
    const Packet other = parse_step_by_step(exact.get(), frame.size());
    ASSERT_EQ(one.kind, other.kind);
    ASSERT_EQ(one.key, other.key);
    ASSERT_EQ(one.has_destination, other.has_destination);
    ASSERT_EQ(one.v4, other.v4);
    ASSERT_EQ(one.tcp_flags, other.tcp_flags);
    ASSERT_EQ(one.ip_bytes, other.ip_bytes);
    ASSERT_EQ(one.l4_offset, other.l4_offset);
    if (one.kind == PacketKind::flow) {
      ++flows;
    } else {
      ASSERT_EQ(one.problem, other.problem);
    }
  }
  EXPECT_GT(flows, rounds / 4u);
  EXPECT_LT(flows, rounds * 3u / 4);
}

INSTANTIATE_TEST_SUITE_P(Families, ParseTest, testing::ValuesIn(kFamilies),
                         [](const auto& info) { return info.param.name; });

struct Case {
  const char* name;
  Bytes frame;
  PacketKind kind;
  Verdict problem;
};

Bytes v4(void (*change)(PacketSpec&)) {
  PacketSpec spec;
  change(spec);
  return frame_of(spec);
}
Bytes v6(void (*change)(PacketSpec&)) {
  PacketSpec spec = spec_for(kFamilies[1]);
  change(spec);
  return frame_of(spec);
}
Bytes patched(Bytes frame, size_t at, uint8_t value, bool fix = true) {
  frame[at] = value;
  if (fix) fix_v4_checksum(frame);
  return frame;
}
Bytes chain(unsigned headers) {
  Bytes out;
  for (unsigned i = 0; i < headers; ++i)
    append(out, {static_cast<uint8_t>(i + 1 < headers ? 60 : 6), 0, 1, 4, 0, 0, 0, 0});
  return out;
}

const Case kCases[] = {
    {"arp", arp_frame(), PacketKind::other, Verdict::not_vip},
    {"v4_options", v4([](PacketSpec& s) { s.v4_options = Bytes(8, 1); }), PacketKind::flow, {}},
    {"v4_short_ihl", patched(frame_of({}), 14, 0x44, false), PacketKind::other,
     Verdict::bad_header},
    {"v4_total_below_header", patched(frame_of({}), 17, 19, true), PacketKind::other,
     Verdict::bad_header},
    {"v4_total_past_end", patched(frame_of({}), 16, 9, true), PacketKind::other,
     Verdict::truncated},
    {"v4_checksum", patched(frame_of({}), 22, 63, false), PacketKind::other, Verdict::bad_checksum},
    {"v4_first_fragment", v4([](PacketSpec& s) { s.v4_fragment = 0x2000; }), PacketKind::other,
     Verdict::fragment},
    {"v4_later_fragment", v4([](PacketSpec& s) { s.v4_fragment = 7; }), PacketKind::other,
     Verdict::fragment},
    {"v4_multicast_source", v4([](PacketSpec& s) { s.source = "224.0.0.1"; }), PacketKind::other,
     Verdict::bad_source},
    {"v4_loopback_source", v4([](PacketSpec& s) { s.source = "127.0.0.1"; }), PacketKind::other,
     Verdict::bad_source},
    {"v6_multicast_source", v6([](PacketSpec& s) { s.source = "ff02::1"; }), PacketKind::other,
     Verdict::bad_source},
    {"v6_unspecified_source", v6([](PacketSpec& s) { s.source = "::"; }), PacketKind::other,
     Verdict::bad_source},
    {"v6_options",
     v6([](PacketSpec& s) { s.v6_extensions = chain(1), s.first_extension = 60; }),
     PacketKind::flow,
     {}},
    {"v6_eight_headers",
     v6([](PacketSpec& s) { s.v6_extensions = chain(8), s.first_extension = 60; }),
     PacketKind::flow,
     {}},
    {"v6_too_many_headers",
     v6([](PacketSpec& s) { s.v6_extensions = chain(10), s.first_extension = 60; }),
     PacketKind::other, Verdict::extension_headers},
    {"v6_routing_with_segments_left",
     v6([](PacketSpec& s) { s.v6_extensions = {6, 0, 0, 1, 0, 0, 0, 0}, s.first_extension = 43; }),
     PacketKind::other, Verdict::extension_headers},
    {"v6_routing_done",
     v6([](PacketSpec& s) { s.v6_extensions = {6, 0, 0, 0, 0, 0, 0, 0}, s.first_extension = 43; }),
     PacketKind::flow,
     {}},
    {"v6_authentication",
     v6([](PacketSpec& s) { s.v6_extensions = chain(2), s.first_extension = 51; }),
     PacketKind::other, Verdict::extension_headers},
    {"v6_fragment",
     v6([](PacketSpec& s) { s.v6_extensions = {6, 0, 0, 1, 0, 0, 0, 9}, s.first_extension = 44; }),
     PacketKind::other, Verdict::fragment},
    {"v6_atomic_fragment",
     v6([](PacketSpec& s) { s.v6_extensions = {6, 0, 0, 0, 0, 0, 0, 9}, s.first_extension = 44; }),
     PacketKind::flow,
     {}},
    {"v6_extension_past_end", v6([](PacketSpec& s) {
       s.v6_extensions = {6, 255, 1, 4, 0, 0, 0, 0}, s.first_extension = 60;
     }),
     PacketKind::other, Verdict::truncated},
};

TEST(Parse, Cases) {
  for (const Case& c : kCases) {
    const Packet packet = parse(c.frame);
    EXPECT_EQ(packet.kind, c.kind) << c.name;
    if (c.kind == PacketKind::other) {
      EXPECT_EQ(verdict_name(packet.problem), verdict_name(c.problem)) << c.name;
    }
  }
}

TEST(Parse, MappedDestinationInAnIpv6PacketIsNoVip) {
  Bytes frame = frame_of(spec_for(kFamilies[1]));
  const Bytes mapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 10};
  std::copy(mapped.begin(), mapped.end(), frame.begin() + 14 + 24);
  EXPECT_FALSE(parse(frame).has_destination);
  EXPECT_EQ(parse(frame).problem, Verdict::not_vip);
}

// What the NIC has added up is not added up again; all else is looked at as ever.
TEST(Parse, HeaderChecksumThatTheNicHasChecked) {
  Bytes frame = frame_of(spec_for(kFamilies[0]));
  frame[14 + 10] ^= 1;
  EXPECT_EQ(parse(frame).problem, Verdict::bad_checksum);
  EXPECT_EQ(guideway::parse(frame.data(), frame.size(), true).kind, PacketKind::flow);
  frame[14 + 12] = 127;
  EXPECT_EQ(guideway::parse(frame.data(), frame.size(), true).kind, PacketKind::other);
}

}  // namespace
}  // namespace guideway
