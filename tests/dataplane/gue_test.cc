// SPDX-License-Identifier: Apache-2.0
// What packets of a gue pool carry, and which of its flows are learned: whole packets through
// Forwarder, read back by a parser of a few lines.
#include <gtest/gtest.h>

#include <algorithm>

#include "dataplane/forward.h"
#include "dataplane/validate.h"
#include "tests/support/images.h"

namespace guideway {
namespace {

using namespace test;

constexpr uint8_t kFin = 1, kSyn = 2, kAck = 16;
constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint32_t kSlots = 11;
constexpr Ingress kIngress{PortKind::shared, {0x02, 0, 0, 0, 0, 0x11}};

using List = std::vector<int>;

// A frame in a buffer with the headroom that DPDK gives.
struct Buffer {
  explicit Buffer(const Bytes& bytes, uint16_t headroom = 128) : storage(headroom) {
    append(storage, bytes);
    frame.data = storage.data() + headroom;
    frame.bytes = static_cast<uint16_t>(bytes.size());
    frame.headroom = headroom;
  }
  Bytes out() const { return {frame.data, frame.data + frame.bytes}; }
  std::string verdict() const { return std::string(verdict_name(frame.verdict)); }

  Bytes storage;
  Frame frame;
};

struct Gue {
  List hops;  // by the last byte of their addresses
  Bytes inner;
  unsigned udp_checksum;
};

Gue parse_gue(const Bytes& frame) {
  Gue gue{};
  const bool v4 = get16(frame, 12) == 0x0800;
  const size_t udp = v4 ? 34 : 54;
  const size_t bytes = v4 ? 4 : 16;
  EXPECT_EQ(frame[v4 ? 23 : 20], 17);
  EXPECT_EQ(v4 ? get16(frame, 16) + 14 : get16(frame, 18) + 54, frame.size());
  EXPECT_EQ(get16(frame, udp + 4), frame.size() - udp);
  EXPECT_EQ(get16(frame, udp + 2), 6080u);
  EXPECT_GE(get16(frame, udp), 32768u);
  gue.udp_checksum = get16(frame, udp + 6);
  const uint8_t* head = &frame[udp + 8];
  const size_t count = head[6];
  EXPECT_EQ(head[0], (4 + count * bytes) / 4);
  EXPECT_EQ(Bytes(head + 2, head + 6), (Bytes{0, 0, 1, 0}));
  EXPECT_EQ(head[7], v4 ? 4 : 6);
  gue.hops.push_back(frame[udp - 1]);
  for (size_t i = 1; i <= count; ++i) gue.hops.push_back(head[7 + i * bytes]);
  gue.inner.assign(frame.begin() + static_cast<long>(udp + 16 + count * bytes), frame.end());
  EXPECT_EQ(head[1], gue.inner[0] >> 4 == 4 ? 4 : 41);
  return gue;
}

// One node; backends 0 to 5. The slots' lists: three hops of an owner, an earlier and a stand-in,
// each the backend after the one before; or, while the pool is quiet, without the earlier one.
class GueTest : public testing::TestWithParam<std::tuple<Family, int>> {
 protected:
  static constexpr int kBackends = 6;

  GueTest() {
    forwarder_.flows = std::move(*FlowTable::make(1024));
    spec_ = three_backends(outer_bytes(), 1);
    spec_.backends.clear();
    for (uint8_t i = 0; i < kBackends; ++i) spec_.backends.push_back(backend(outer_bytes(), i));
    publish({0, 1});
  }

  static const Family& family() { return std::get<0>(GetParam()); }
  static uint8_t outer_bytes() { return static_cast<uint8_t>(std::get<1>(GetParam())); }

  // `steps`: of each slot's list, what to add to the owner; with roles.
  void publish(const std::vector<uint16_t>& steps, uint32_t flags = 3) {
    table_ = table_bytes(
        kSlots, static_cast<uint32_t>(steps.size()), kBackends,
        [&](uint32_t slot, uint32_t hop) {
          if (steps[hop] == GW_NO_HOP) return uint16_t{GW_NO_HOP};
          const uint16_t index = (slot + (steps[hop] & GW_HOP_INDEX)) % kBackends;
          return static_cast<uint16_t>(index | (steps[hop] & ~GW_HOP_INDEX));
        },
        flags);
    spec_.pools[0] = pool_of(digest_of(table_), 0, kBackends, outer_bytes());
    publish();
  }
  void publish() {
    EXPECT_TRUE(validate_table(table_));
    EXPECT_TRUE(validate_root(root_bytes(spec_)));
    image_ = image_of(spec_, {table_});
  }
  void down(int b) { set_down(spec_.backends[static_cast<size_t>(b)]), publish(); }
  void linger(int b) { set_draining(spec_.backends[static_cast<size_t>(b)]), publish(); }
  void up(int b) { set_up(spec_.backends[static_cast<size_t>(b)]), publish(); }

  Buffer forward(const Bytes& bytes, uint16_t headroom = 128) {
    Buffer buffer(bytes, headroom);
    forwarder_.forward(image_.get(), kIngress, now_ns_, {&buffer.frame, 1});
    return buffer;
  }
  static PacketSpec packet_of(uint16_t client_port, uint8_t tcp_flags, uint8_t protocol = 6) {
    PacketSpec packet = spec_for(family());
    packet.source_port = client_port;
    packet.tcp_flags = tcp_flags;
    packet.protocol = protocol;
    return packet;
  }
  // The hops that a packet is sent with; none: it is dropped.
  List send(uint16_t client_port, uint8_t tcp_flags, uint8_t protocol = 6) {
    return hops_of(frame_of(packet_of(client_port, tcp_flags, protocol)));
  }
  List hops_of(const Bytes& bytes) {
    const Buffer buffer = forward(bytes);
    if (buffer.frame.verdict != Verdict::forwarded) return {};
    const Gue gue = parse_gue(buffer.out());
    EXPECT_EQ(static_cast<int>(buffer.frame.backend), gue.hops[0]);
    return gue.hops;
  }

  // A client whose slot the backend owns.
  uint16_t client_of(int owner, uint8_t protocol = 6, uint32_t* found = nullptr) {
    for (;; ++port_) {
      FlowKey key;
      key.client = address(family().client);
      key.vip = address(family().vip);
      key.client_port = be16(port_);
      key.vip_port = be16(443);
      key.protocol = protocol;
      const uint32_t slot = flow_slot(flow_hash(key, spec_.flow_seed), kSlots);
      if (static_cast<int>(slot % kBackends) != owner) continue;
      if (found) *found = slot;
      return port_++;
    }
  }

  Bytes table_;
  RootSpec spec_;
  std::unique_ptr<Image> image_;
  Forwarder forwarder_;
  uint64_t now_ns_ = 77 * kSecondNs;
  uint16_t port_ = 20000;
};

TEST_P(GueTest, AQuietPoolSendsOwnerAndStandInAndLearnsNothing) {
  for (int i = 0; i < 60; ++i) {
    const int owner = i % kBackends;
    const uint16_t client = client_of(owner);
    const List expected = {owner, (owner + 1) % kBackends};
    EXPECT_EQ(send(client, kSyn), expected);
    EXPECT_EQ(send(client, kAck), expected);
  }
  EXPECT_TRUE(forwarder_.flows.empty());
}

TEST_P(GueTest, TheClientsPacketArrivesAsItWasButForOneHopSpent) {
  PacketSpec spec = packet_of(client_of(3), kAck);
  spec.payload = Bytes(333, 'q');
  Bytes in = frame_of(spec);
  Bytes padded = in;
  padded.resize(in.size() + 5, 0xee);
  const Gue gue = parse_gue(forward(padded).out());
  const bool v4 = family().ip_header == 20;
  in[v4 ? 22 : 21] = 63;
  if (v4) fix_v4_checksum(in);
  EXPECT_EQ(gue.inner, Bytes(in.begin() + 14, in.end()));
}

TEST_P(GueTest, HealthOnlyReordersTheList) {
  const uint16_t client = client_of(2);
  publish({0, 1 | GW_HOP_EARLIER, 2 | GW_HOP_INCOMING, 3});
  EXPECT_EQ(send(client, kSyn), (List{2, 3, 4, 5}));
  linger(2);
  EXPECT_EQ(send(client, kSyn), (List{5, 3, 4, 2})) << "the stand-in leads";
  EXPECT_EQ(send(client, kAck), (List{5, 3, 4, 2}));
  linger(3);
  EXPECT_EQ(send(client, kAck), (List{5, 4, 2, 3}));
  down(2);
  EXPECT_EQ(send(client, kAck), (List{5, 4, 3})) << "it lingered long enough";
  up(2), up(3);
  EXPECT_EQ(send(client, kAck), (List{2, 3, 4, 5}));
  spec_.backends[4].outer_bytes = 0;
  publish();
  EXPECT_EQ(send(client, kAck), (List{2, 3, 5}));
  EXPECT_TRUE(forwarder_.flows.empty());
}

TEST_P(GueTest, AFlowLedByASpareIsLearnedAndStays) {
  uint32_t slot = 0;
  const uint16_t client = client_of(1, 6, &slot);
  const uint16_t other = client_of(1);
  linger(1), linger(2);
  const int spare = SparePool(spec_.backends).spare(slot);
  ASSERT_TRUE(spare != 1 && spare != 2 && spare != GW_NO_HOP);
  EXPECT_EQ(send(client, kSyn), (List{spare, 1, 2}));
  EXPECT_EQ(forwarder_.flows.used(), 1u);
  up(2);
  EXPECT_EQ(send(client, kAck), (List{spare, 2, 1}));
  EXPECT_EQ(send(other, kSyn), (List{2, 1}));
  up(1);
  EXPECT_EQ(send(client, kAck), (List{spare, 1, 2}));
  EXPECT_EQ(send(other, kAck), (List{1, 2})) << "the second chance finds it, not the flow table";
  EXPECT_EQ(forwarder_.flows.used(), 1u);

  EXPECT_EQ(send(client, kFin | kAck), (List{spare, 1, 2}));
  EXPECT_EQ(send(client, kSyn), (List{1, 2})) << "another connection of the same ports";
  EXPECT_TRUE(forwarder_.flows.empty());
}

TEST_P(GueTest, ASpareThatDiesTakesItsFlowsWithIt) {
  uint32_t slot = 0;
  const uint16_t client = client_of(1, 6, &slot);
  down(1), down(2);
  const int spare = SparePool(spec_.backends).spare(slot);
  EXPECT_EQ(send(client, kSyn), List{spare});
  up(1);
  linger(spare);
  EXPECT_EQ(send(client, kAck), (List{spare, 1})) << "down, but it may live";
  down(spare);
  EXPECT_EQ(send(client, kAck), List{1});
  EXPECT_TRUE(forwarder_.flows.empty());
}

TEST_P(GueTest, FiveHopsAtMost) {
  publish({0, 1 | GW_HOP_EARLIER, 2 | GW_HOP_EARLIER, 3});
  linger(0), linger(3);
  down(4), down(5);
  // The leader is a spare that is an earlier hop as well.
  const uint16_t client = client_of(0);
  const List led = send(client, kSyn);
  ASSERT_EQ(led.size(), 4u);
  EXPECT_TRUE(led[0] == 1 || led[0] == 2);
  EXPECT_EQ(led[1], 3 - led[0]);
  EXPECT_EQ(List(led.begin() + 2, led.end()), (List{0, 3}));

  linger(1), linger(2);
  up(4);
  const uint16_t next = client_of(0);
  EXPECT_EQ(send(next, kSyn), (List{4, 0, 1, 2, 3}));
  linger(4), up(5);
  EXPECT_EQ(send(next, kAck), (List{4, 5, 0, 1, 2})) << "what comes sixth is left out";
}

TEST_P(GueTest, NobodyIsLeft) {
  for (int b = 0; b < kBackends; ++b) down(b);
  EXPECT_EQ(forward(frame_of(packet_of(client_of(1), kSyn))).verdict(), "no_backend");
  EXPECT_EQ(forward(frame_of(packet_of(client_of(1), kAck))).verdict(), "no_backend");
  // A pool that was drained: it takes no new flow, and keeps those that it has.
  publish({0 | GW_HOP_EARLIER, 1 | GW_HOP_EARLIER}, 0);
  for (gw_backend& b : spec_.backends) b.weight = 0;
  for (int b = 0; b < kBackends; ++b) linger(b);
  EXPECT_EQ(forward(frame_of(packet_of(client_of(1), kSyn))).verdict(), "no_backend");
  EXPECT_EQ(send(client_of(1), kAck), (List{1, 2}));
  publish({GW_NO_HOP}, 0);
  EXPECT_EQ(forward(frame_of(packet_of(client_of(1), kAck))).verdict(), "no_backend");
  EXPECT_TRUE(forwarder_.flows.empty());
}

TEST_P(GueTest, DatagramsHaveNoLaterHopsAndUseTheFlowTable) {
  const uint16_t client = client_of(2, 17);
  EXPECT_EQ(send(client, 0, 17), List{2});
  EXPECT_TRUE(forwarder_.flows.empty());
  linger(2);
  EXPECT_EQ(send(client, 0, 17), List{3});
  EXPECT_EQ(forwarder_.flows.used(), 1u);
  up(2);
  EXPECT_EQ(send(client, 0, 17), List{3});
  // A change that comes: datagrams are learned where they are.
  const uint16_t other = client_of(4, 17);
  publish({0, 1 | GW_HOP_INCOMING, 2});
  EXPECT_EQ(send(other, 0, 17), List{4});
  EXPECT_EQ(forwarder_.flows.used(), 2u);
  publish({1, 0 | GW_HOP_EARLIER, 2});
  EXPECT_EQ(send(other, 0, 17), List{4});
  publish({1, 2});
  EXPECT_EQ(send(other, 0, 17), List{4});
  now_ns_ += 61 * kSecondNs;
  EXPECT_EQ(send(other, 0, 17), List{5});
}

TEST_P(GueTest, AnIcmpErrorGoesTheWayOfItsFlow) {
  const bool v4 = family().ip_header == 20;
  const auto send_error = [&](uint16_t client, uint8_t protocol) {
    PacketSpec reply = spec_for(family());
    std::swap(reply.source, reply.destination);
    reply.source_port = 443;
    reply.destination_port = client;
    reply.protocol = protocol;
    Bytes rest(4, 0);
    append(rest, ip_packet(reply, transport(reply)));
    return hops_of(icmp_frame(spec_for(family()), v4 ? 11 : 3, 0, rest));
  };
  EXPECT_EQ(send_error(client_of(2), 6), (List{2, 3}));
  EXPECT_EQ(send_error(client_of(2, 17), 17), List{2});
  uint32_t slot = 0;
  const uint16_t client = client_of(1, 6, &slot);
  linger(1), linger(2);
  const int spare = SparePool(spec_.backends).spare(slot);
  EXPECT_EQ(send_error(client, 6), (List{spare, 1, 2}));
  EXPECT_TRUE(forwarder_.flows.empty()) << "anybody can send one";
  EXPECT_EQ(send(client, kSyn), (List{spare, 1, 2}));
  up(1), up(2);
  EXPECT_EQ(send_error(client, 6), (List{spare, 1, 2}));
}

TEST_P(GueTest, FragmentsAreDroppedAsEver) {
  PacketSpec spec = packet_of(client_of(2), kAck);
  if (family().ip_header == 20) {
    spec.v4_fragment = 0x2000;
  } else {
    spec.first_extension = 44;
    spec.v6_extensions = {6, 0, 0, 1, 0, 0, 0, 1};
  }
  EXPECT_EQ(forward(frame_of(spec)).verdict(), "fragment");
}

TEST_P(GueTest, TheOuterChecksumIsSentOverIpv6IfTheHeadersTellIt) {
  PacketSpec spec = packet_of(client_of(2), kAck);
  EXPECT_EQ(parse_gue(forward(frame_of(spec)).out()).udp_checksum != 0, outer_bytes() == 62);
  if (family().ip_header == 20) return;
  // An atomic fragment is a whole packet.
  spec.first_extension = 44;
  spec.v6_extensions = {6, 0, 0, 0, 0, 0, 0, 1};
  const Gue gue = parse_gue(forward(frame_of(spec)).out());
  EXPECT_EQ(gue.hops, (List{2, 3}));
  EXPECT_EQ(gue.udp_checksum, 0u);
}

TEST_P(GueTest, HeadroomIsNeededForTheWholeList) {
  const Bytes in = frame_of(packet_of(client_of(2), kAck));
  const auto needed = static_cast<uint16_t>(outer_bytes() == 42 ? 36 + 4 : 56 + 16);
  EXPECT_EQ(forward(in, needed).verdict(), "forwarded");
  EXPECT_EQ(forward(in, static_cast<uint16_t>(needed - 1)).verdict(), "no_headroom");
  publish({0, 1 | GW_HOP_EARLIER, 2 | GW_HOP_EARLIER, 3});
  EXPECT_EQ(forward(in, 128).verdict(), "forwarded");
}

TEST_P(GueTest, TooBigIsToldByTheSizeThatTheLongestListLeaves) {
  for (gw_backend& b : spec_.backends) b.inner_bytes_max = 1300;
  publish();
  PacketSpec spec = packet_of(client_of(2), kAck);
  spec.payload = Bytes(1300 - family().ip_header - 20, 'x');
  EXPECT_EQ(forward(frame_of(spec)).verdict(), "forwarded");
  spec.payload.push_back('x');
  EXPECT_EQ(forward(frame_of(spec)).verdict(), "too_big_replied");
}

INSTANTIATE_TEST_SUITE_P(All, GueTest,
                         testing::Combine(testing::ValuesIn(kFamilies), testing::Values(42, 62)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "over" +
                                  (std::get<1>(info.param) == 42 ? "v4" : "v6");
                         });

}  // namespace
}  // namespace guideway
