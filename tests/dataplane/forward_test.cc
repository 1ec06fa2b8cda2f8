// SPDX-License-Identifier: Apache-2.0
#include "dataplane/forward.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

#include "dataplane/parse.h"
#include "tests/support/images.h"

namespace guideway {
namespace {

using namespace test;

// A frame in a buffer with headroom, as an mbuf has it.
struct Buffer {
  explicit Buffer(const Bytes& bytes, uint16_t headroom = 128) : storage(headroom + bytes.size()) {
    std::copy(bytes.begin(), bytes.end(), storage.begin() + headroom);
    frame.data = storage.data() + headroom;
    frame.bytes = static_cast<uint16_t>(bytes.size());
    frame.headroom = headroom;
  }
  Bytes out() const { return {frame.data, frame.data + frame.bytes}; }

  Bytes storage;
  Frame frame;
};

// The port's own MAC address: the one that test frames are sent to.
Ingress at(PortKind kind) {
  return {kind, {0x02, 0, 0, 0, 0, 0x11}};
}

Buffer forward(const Image* image, const Bytes& bytes, PortKind kind = PortKind::shared,
               uint16_t headroom = 128) {
  Buffer buffer(bytes, headroom);
  Forwarder forwarder;
  forwarder.flows = std::move(*FlowTable::make(16));
  forwarder.forward(image, at(kind), 1'000'000'000, {&buffer.frame, 1});
  return buffer;
}

std::string verdict(const Image* image, const Bytes& bytes, PortKind kind = PortKind::shared) {
  return std::string(verdict_name(forward(image, bytes, kind).frame.verdict));
}

std::unique_ptr<Image> image_with(const std::function<void(RootSpec&)>& change = {},
                                  uint8_t outer_bytes = 34) {
  const Bytes table = round_robin_table(7, 3);
  RootSpec spec = three_backends(outer_bytes, digest_of(table));
  if (change) change(spec);
  return image_of(spec, {table});
}

uint32_t slot_of(const Family& family, const RootSpec& spec) {
  FlowKey key;
  key.client = address(family.client);
  key.vip = address(family.vip);
  key.client_port = be16(40000);
  key.vip_port = be16(443);
  key.protocol = 6;
  return flow_slot(flow_hash(key, spec.flow_seed), 7);
}

class ForwardTest : public testing::TestWithParam<Family> {};

// The whole expected frame, written field by field.
TEST_P(ForwardTest, L2ChangesAddressesAndHopLimitOnly) {
  const auto image = image_with({}, 14);
  const Bytes in = frame_of(spec_for(GetParam()));
  const Buffer out = forward(image.get(), in);
  ASSERT_EQ(verdict_name(out.frame.verdict), "forwarded");
  const auto number = static_cast<uint8_t>(slot_of(GetParam(), RootSpec{}) % 3 + 1);
  EXPECT_EQ(out.frame.backend, number);
  Bytes expected = in;
  const Bytes macs = {0x02, 0, 0, 0, 1, number, 0x02, 0, 0, 0, 0, 0x11};
  std::copy(macs.begin(), macs.end(), expected.begin());
  const bool v4 = GetParam().ip_header == 20;
  expected[14 + (v4 ? 8 : 7)] = 63;
  if (v4) fix_v4_checksum(expected);
  EXPECT_EQ(out.out(), expected);
}

TEST_P(ForwardTest, IpipInEveryCrossing) {
  for (const uint8_t outer_bytes : {34, 54}) {
    const auto image = image_with({}, outer_bytes);
    PacketSpec spec = spec_for(GetParam());
    spec.tos = 0xb9;  // EF, ECT(1)
    Bytes in = frame_of(spec);
    const bool v4 = GetParam().ip_header == 20;
    const Bytes padded = [&] {
      Bytes b = in;
      b.resize(b.size() + 9);
      return b;
    }();
    const Buffer out = forward(image.get(), padded);
    ASSERT_EQ(verdict_name(out.frame.verdict), "forwarded");

    const auto number = static_cast<uint8_t>(slot_of(GetParam(), RootSpec{}) % 3 + 1);
    const auto inner_bytes = static_cast<unsigned>(in.size() - 14);
    const gw_backend b = backend(outer_bytes, number);
    Bytes expected(b.outer, b.outer + outer_bytes);
    if (outer_bytes == 34) {
      expected[15] = 0xb9;
      put16(expected, 16, 20 + inner_bytes);
      expected[23] = v4 ? 4 : 41;
      fix_v4_checksum(expected);
    } else {
      put16(expected, 14, 0x6000 | 0xb9 << 4 | (out.out()[15] & 0xf));
      put16(expected, 16, get16(out.out(), 16));  // flow label: from the hash
      put16(expected, 18, inner_bytes);
      expected[20] = v4 ? 4 : 41;
    }
    Bytes inner(in.begin() + 14, in.end());
    inner[v4 ? 8 : 7] = 63;
    if (v4) fix_v4_checksum(inner, 0);
    append(expected, inner);
    EXPECT_EQ(out.out(), expected) << int{outer_bytes};
  }
}

TEST_P(ForwardTest, VerdictOfEachKindOfPacket) {
  const auto image = image_with();
  const Family& f = GetParam();
  PacketSpec spec = spec_for(f);
  EXPECT_EQ(verdict(image.get(), frame_of(spec)), "forwarded");
  EXPECT_EQ(verdict(nullptr, frame_of(spec)), "no_image");
  spec.destination_port = 80;
  EXPECT_EQ(verdict(image.get(), frame_of(spec)), "no_service");
  spec.destination = f.other;
  EXPECT_EQ(verdict(image.get(), frame_of(spec)), "not_vip");
  EXPECT_EQ(verdict(image.get(), frame_of(spec), PortKind::owned), "to_kernel");
  spec = spec_for(f);
  spec.ttl = 1;
  EXPECT_EQ(verdict(image.get(), frame_of(spec)), "ttl_expired");
  spec = spec_for(f);
  spec.protocol = 47;
  EXPECT_EQ(verdict(image.get(), ethernet(ip_packet(spec, Bytes(40, 0)))), "bad_protocol");
  spec.destination = f.other;
  EXPECT_EQ(verdict(image.get(), ethernet(ip_packet(spec, Bytes(40, 0))), PortKind::owned),
            "to_kernel");
  EXPECT_EQ(verdict(image.get(), arp_frame()), "not_vip");
  EXPECT_EQ(verdict(image.get(), arp_frame(), PortKind::owned), "to_kernel");
  EXPECT_EQ(verdict(image.get(), Bytes(9, 0)), "truncated");
  const auto with_headroom = [&](uint16_t headroom) {
    return verdict_name(
        forward(image.get(), frame_of(spec_for(f)), PortKind::shared, headroom).frame.verdict);
  };
  EXPECT_EQ(with_headroom(19), "no_headroom");
  EXPECT_EQ(with_headroom(20), "forwarded");
}

TEST_P(ForwardTest, FramesForAnotherStationAreDropped) {
  Bytes frame = frame_of(spec_for(GetParam()));
  frame[5] = 0x12;
  EXPECT_EQ(verdict(image_with().get(), frame), "other_mac");
  EXPECT_EQ(verdict(image_with().get(), frame, PortKind::owned), "other_mac");
  frame[0] = 0x01;  // multicast
  EXPECT_EQ(verdict(image_with().get(), frame), "other_mac");
}

TEST_P(ForwardTest, HealthOnlyReordersTheHops) {
  const uint32_t slot = slot_of(GetParam(), RootSpec{});
  const uint32_t owner = slot % 3;
  const uint32_t stand_in = (slot + 1) % 3;
  PacketSpec packet = spec_for(GetParam());
  packet.tcp_flags = 0x02;  // SYN
  const Bytes in = frame_of(packet);
  const auto backend_of = [&](const std::function<void(RootSpec&)>& change) {
    return forward(image_with(change).get(), in).frame.backend;
  };
  EXPECT_EQ(backend_of({}), owner + 1);
  EXPECT_EQ(backend_of([&](RootSpec& s) { s.backends[owner].share = 0; }), stand_in + 1);
  EXPECT_EQ(backend_of([&](RootSpec& s) { s.backends[owner].outer_bytes = 0; }), stand_in + 1);
  const uint32_t at = (slot * 0x9E3779B1u) >> 16;
  EXPECT_EQ(backend_of([&](RootSpec& s) { s.backends[owner].share = at + 1; }), owner + 1);
  EXPECT_EQ(backend_of([&](RootSpec& s) { s.backends[owner].share = at; }), stand_in + 1);

  const auto none = [&](uint32_t share, uint8_t outer) {
    return verdict(image_with([&](RootSpec& s) {
                     for (gw_backend& b : s.backends) b.share = share, b.outer_bytes = outer;
                   }).get(),
                   in);
  };
  EXPECT_EQ(none(0, 34), "no_backend");
  EXPECT_EQ(none(GW_SHARE_ALL, 0), "no_next_hop");
}

TEST_P(ForwardTest, EmptyPool) {
  RootSpec spec = three_backends(34, 0);
  spec.backends.clear();
  spec.pools[0].backends = 0;
  const auto image = image_of(spec, {Bytes{}});
  EXPECT_EQ(verdict(image.get(), frame_of(spec_for(GetParam()))), "no_backend");
}

// The Internet checksum of a transport message over its pseudo-header must come out as 0.
unsigned icmp_checksum(const Bytes& frame, const Family& family) {
  const size_t at = 14 + family.ip_header;
  uint32_t pseudo = 0;
  if (family.ip_header == 40) {
    for (size_t i = 22; i < 54; i += 2) pseudo += get16(frame, i);
    pseudo += static_cast<uint32_t>(frame.size() - at) + 58;
  }
  return plain_checksum(frame, at, frame.size(), pseudo);
}

TEST_P(ForwardTest, EchoRequestIsAnswered) {
  const bool v4 = GetParam().ip_header == 20;
  const Bytes in =
      icmp_frame(spec_for(GetParam()), v4 ? 8 : 128, 0, {0x12, 0x34, 0, 1, 'd', 'a', 't', 'a'});
  const Buffer out = forward(image_with().get(), in);
  EXPECT_EQ(verdict_name(out.frame.verdict), "echo_replied");
  EXPECT_EQ(out.frame.egress, Egress::back);
  PacketSpec reply = spec_for(GetParam());
  std::swap(reply.source, reply.destination);
  Bytes expected = icmp_frame(reply, v4 ? 0 : 129, 0, {0x12, 0x34, 0, 1, 'd', 'a', 't', 'a'});
  std::swap_ranges(expected.begin(), expected.begin() + 6, expected.begin() + 6);
  EXPECT_EQ(out.out(), expected);
}

TEST_P(ForwardTest, EchoAnswersAreLimited) {
  const auto image = image_with();
  const Bytes in =
      icmp_frame(spec_for(GetParam()), GetParam().ip_header == 20 ? 8 : 128, 0, Bytes(8, 1));
  Forwarder forwarder;
  std::array<unsigned, kVerdictCount> counts{};
  for (int i = 0; i < 1500; ++i) {
    Buffer buffer(in);
    forwarder.forward(image.get(), at(PortKind::shared), 1'000'000'000, {&buffer.frame, 1});
    ++counts[static_cast<unsigned>(buffer.frame.verdict)];
  }
  EXPECT_EQ(counts[static_cast<unsigned>(Verdict::echo_replied)], 1000u);
  EXPECT_EQ(counts[static_cast<unsigned>(Verdict::echo_limited)], 500u);
}

TEST_P(ForwardTest, TooBigIsAnsweredFromTheVip) {
  const Family& f = GetParam();
  const bool v4 = f.ip_header == 20;
  PacketSpec spec = spec_for(f);
  spec.payload = Bytes(1500 - f.ip_header - 20, 'y');
  const Bytes in = frame_of(spec);
  const Buffer out = forward(image_with().get(), in);
  ASSERT_EQ(verdict_name(out.frame.verdict), "too_big_replied");
  const Bytes reply = out.out();
  const size_t at = 14 + f.ip_header;
  const size_t quoted = v4 ? 548 : 1232;
  ASSERT_EQ(reply.size(), at + 8 + quoted);
  EXPECT_EQ(Bytes(reply.begin(), reply.begin() + 6), Bytes(in.begin() + 6, in.begin() + 12));
  EXPECT_EQ(reply[at], v4 ? 3 : 2);
  EXPECT_EQ(reply[at + 1], v4 ? 4 : 0);
  EXPECT_EQ(get16(reply, at + 6), 1480u);
  EXPECT_EQ(get16(reply, at + 4), 0u);
  EXPECT_EQ(icmp_checksum(reply, f), 0u);
  if (v4) {
    EXPECT_EQ(plain_checksum(reply, 14, 34), 0u);
  }
  EXPECT_TRUE(std::equal(reply.begin() + static_cast<long>(at) + 8, reply.end(), in.begin() + 14));
  const Packet parsed = parse(reply.data(), reply.size());
  EXPECT_EQ(parsed.key.client, address(f.vip));
  EXPECT_EQ(parsed.key.vip, address(f.client));
}

TEST_P(ForwardTest, TooBigIsNeverSaidAboutAnIcmpErrorAndLimited) {
  const Family& f = GetParam();
  const bool v4 = f.ip_header == 20;
  PacketSpec reply;
  reply.source = f.vip;
  reply.destination = f.client;
  reply.source_port = 443;
  reply.destination_port = 40000;
  reply.payload = Bytes(1400, 0);
  Bytes rest(4, 0);
  append(rest, ip_packet(reply, transport(reply)));
  const Bytes error = icmp_frame(spec_for(f), v4 ? 3 : 2, v4 ? 4 : 0, rest);
  EXPECT_EQ(verdict(image_with().get(), error), v4 ? "forwarded" : "too_big");
  const auto narrow = image_with([](RootSpec& s) {
    for (gw_backend& b : s.backends) b.inner_bytes_max = 1300;
  });
  EXPECT_EQ(verdict(narrow.get(), error), "too_big");

  PacketSpec spec = spec_for(f);
  spec.payload = Bytes(1500 - f.ip_header - 20, 0);
  const auto image = image_with();
  Forwarder forwarder;
  unsigned said = 0;
  for (int i = 0; i < 300; ++i) {
    Buffer buffer(frame_of(spec));
    forwarder.forward(image.get(), at(PortKind::shared), 1'000'000'000, {&buffer.frame, 1});
    said += buffer.frame.verdict == Verdict::too_big_replied;
    if (i >= 100) {
      EXPECT_EQ(verdict_name(buffer.frame.verdict), "too_big_unsaid");
    }
  }
  EXPECT_EQ(said, 100u);
}

TEST_P(ForwardTest, IcmpErrorGoesToTheFlowsBackend) {
  const Family& f = GetParam();
  const auto image = image_with();
  PacketSpec reply;
  reply.source = f.vip;
  reply.destination = f.client;
  reply.source_port = 443;
  reply.destination_port = 40000;
  Bytes rest(4, 0);
  append(rest, ip_packet(reply, transport(reply)));
  const bool v4 = f.ip_header == 20;
  const Bytes error = icmp_frame(spec_for(f), v4 ? 11 : 3, 0, rest);
  const Buffer out = forward(image.get(), error);
  EXPECT_EQ(verdict_name(out.frame.verdict), "forwarded");
  EXPECT_EQ(out.frame.backend, forward(image.get(), frame_of(spec_for(f))).frame.backend);

  reply.source_port = 99;
  rest.resize(4);
  append(rest, ip_packet(reply, transport(reply)));
  EXPECT_EQ(verdict(image.get(), icmp_frame(spec_for(f), v4 ? 11 : 3, 0, rest)), "icmp_unrelated");
}

INSTANTIATE_TEST_SUITE_P(Families, ForwardTest, testing::ValuesIn(kFamilies),
                         [](const auto& info) { return info.param.name; });

TEST(Forward, TooBigWithoutDfIsAVerdictOfItsOwn) {
  PacketSpec spec;
  spec.v4_fragment = 0;
  spec.payload = Bytes(1460, 0);
  EXPECT_EQ(verdict(image_with().get(), frame_of(spec)), "too_big");
}

// An IPv6 sender that is told less than 1280 stays at 1280 (RFC 8201 section 4).
TEST(Forward, TooBigBelowTheLeastIpv6MtuIsNotSaid) {
  PacketSpec spec = spec_for(kFamilies[1]);
  spec.payload = Bytes(1280 - 40 - 20, 0);
  const auto narrow = image_with([](RootSpec& s) {
    for (gw_backend& b : s.backends) b.inner_bytes_max = 1279;
  });
  EXPECT_EQ(verdict(narrow.get(), frame_of(spec)), "too_big");
}

TEST(Forward, AServiceOnAllPorts) {
  const auto image = image_with();
  PacketSpec spec;
  spec.protocol = 17;
  for (const uint16_t port : {1, 53, 443, 65535}) {
    spec.destination_port = port;
    EXPECT_EQ(verdict(image.get(), frame_of(spec)), "forwarded") << port;
  }
}

// Random frames, many of them damaged.
std::vector<Bytes> random_frames(unsigned seed, size_t count) {
  std::mt19937 random(seed);
  std::vector<Bytes> frames;
  while (frames.size() < count) {
    PacketSpec spec = spec_for(kFamilies[random() % 2]);
    spec.protocol = random() % 2 ? 6 : 17;
    spec.source_port = static_cast<uint16_t>(random());
    spec.ttl = static_cast<uint8_t>(random() % 8);
    spec.payload = Bytes(random() % 1500, 'z');
    Bytes frame = frame_of(spec);
    if (random() % 4 == 0) frame[random() % 60 % frame.size()] = static_cast<uint8_t>(random());
    if (random() % 8 == 0) frame.resize(random() % frame.size());
    frames.push_back(std::move(frame));
  }
  return frames;
}

TEST(Forward, ABurstEqualsItsFramesOneByOne) {
  const auto image = image_with();
  for (unsigned seed = 0; seed < 50; ++seed) {
    const auto inputs = random_frames(seed, kBurstMax);
    std::vector<Buffer> single;
    std::vector<Buffer> burst;
    Forwarder a;
    Forwarder b;
    for (const Bytes& in : inputs) {
      single.emplace_back(in);
      burst.emplace_back(in);
      a.forward(image.get(), at(PortKind::owned), 5, {&single.back().frame, 1});
    }
    std::vector<Frame> frames;
    for (const Buffer& buffer : burst) frames.push_back(buffer.frame);
    b.forward(image.get(), at(PortKind::owned), 5, frames);
    for (size_t i = 0; i < frames.size(); ++i) {
      ASSERT_EQ(verdict_name(frames[i].verdict), verdict_name(single[i].frame.verdict)) << i;
      ASSERT_EQ(frames[i].backend, single[i].frame.backend);
      ASSERT_EQ(Bytes(frames[i].data, frames[i].data + frames[i].bytes), single[i].out());
    }
  }
}

}  // namespace
}  // namespace guideway
