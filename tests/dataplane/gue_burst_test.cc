// SPDX-License-Identifier: Apache-2.0
// Bursts of gue's and ipip's packets together: the same as one by one.
#include <gtest/gtest.h>

#include <random>

#include "dataplane/choice.h"
#include "dataplane/encap.h"
#include "dataplane/forward.h"
#include "dataplane/parse.h"
#include "tests/support/images.h"

namespace guideway {
namespace {

using namespace test;

constexpr uint8_t kFin = 1, kSyn = 2, kAck = 16;
constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr Ingress kIngress{PortKind::shared, {0x02, 0, 0, 0, 0, 0x11}};

// A frame in a buffer with the headroom that DPDK gives.
struct Buffer {
  explicit Buffer(const Bytes& bytes) : storage(128) {
    append(storage, bytes);
    frame.data = storage.data() + 128;
    frame.bytes = static_cast<uint16_t>(bytes.size());
    frame.headroom = 128;
  }
  Bytes out() const { return {frame.data, frame.data + frame.bytes}; }

  Bytes storage;
  Frame frame;
};

std::vector<Bytes> random_burst(std::mt19937& random) {
  std::vector<Bytes> frames;
  const uint8_t flags[] = {kSyn, kAck, kAck, kFin | kAck, kSyn | kAck};
  while (frames.size() < kBurstMax) {
    PacketSpec spec = spec_for(kFamilies[random() % 2]);
    spec.source_port = static_cast<uint16_t>(10000 + random() % 40);
    spec.protocol = random() % 4 ? 6 : 17;
    spec.tcp_flags = flags[random() % 5];
    frames.push_back(frame_of(spec));
  }
  return frames;
}

void change(gw_backend& b, std::mt19937& random) {
  switch (random() % 5) {
    case 0:
      return set_down(b);
    case 1:
      return set_draining(b);
    case 2:
      return set_up(b, random() % 65537);
    default:
      return set_up(b);
  }
}

// One VIP's services in a gue pool, the other's in one of ipip.
TEST(Gue, ABurstEqualsItsFramesOneByOneWhileHealthChanges) {
  const Bytes table = round_robin_table(7, 5);
  size_t learned = 0;
  for (unsigned seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    RootSpec spec = three_backends(62, digest_of(table));
    spec.backends.clear();
    spec.pools = {pool_of(digest_of(table), 0, 5, 62), pool_of(digest_of(table), 5, 5, 34)};
    for (uint8_t i = 0; i < 10; ++i) spec.backends.push_back(backend(i < 5 ? 62 : 34, i));
    for (gw_service& s : spec.services) s.pool = Address::from_v6(s.vip).is_v4() ? 1 : 0;
    Forwarder one;
    Forwarder many;
    one.flows = std::move(*FlowTable::make(16));
    many.flows = std::move(*FlowTable::make(16));
    uint64_t now_ns = random() % 100000 * kSecondNs;
    for (int round = 0; round < 30; ++round, now_ns += random() % 8 * kSecondNs) {
      change(spec.backends[random() % 10], random);
      const auto image = image_of(spec, {table, table});
      std::vector<Buffer> single;
      std::vector<Buffer> burst;
      for (const Bytes& bytes : random_burst(random)) {
        single.emplace_back(bytes);
        burst.emplace_back(bytes);
        one.forward(image.get(), kIngress, now_ns, {&single.back().frame, 1});
      }
      std::vector<Frame> frames;
      for (const Buffer& buffer : burst) frames.push_back(buffer.frame);
      many.forward(image.get(), kIngress, now_ns, frames);
      for (size_t i = 0; i < frames.size(); ++i) {
        ASSERT_EQ(verdict_name(frames[i].verdict), verdict_name(single[i].frame.verdict)) << i;
        ASSERT_EQ(Bytes(frames[i].data, frames[i].data + frames[i].bytes), single[i].out()) << i;
      }
      ASSERT_EQ(one.flows.used(), many.flows.used());
      learned += one.flows.used();
    }
  }
  EXPECT_GT(learned, 100u);
}

// Where choose_backend() sends it, asked for each packet, as the packet path does not.
Bytes by_choice(const Image& image, const Bytes& bytes) {
  Buffer buffer(bytes);
  const Packet packet = parse(buffer.frame.data, buffer.frame.bytes);
  const PoolView& pool = image.pools()[0];
  const uint64_t hash = flow_hash(packet.key, image.root().flow_seed);
  FlowTable none;
  const Choice choice =
      choose_backend(image, {pool, flow_slot(hash, pool.slots), hash, packet}, none, 1);
  if (!choice.backend) return {};
  EXPECT_TRUE(spend_hop(buffer.frame, packet.v4));
  encapsulate(buffer.frame, packet, *choice.backend, hash,
              {choice.later.data(), choice.later_count});
  return buffer.out();
}

// Mostly all backends are up, so that slots send their whole list, and some do not.
TEST(Gue, APacketGoesWhereTheChoiceSaysWhateverWayItWasMade) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    const uint32_t hops = 1 + random() % 4;
    const unsigned flags = random() % 4 ? GW_TABLE_OWNERS | GW_TABLE_STAND_INS : random() % 4;
    const uint32_t first = random() % 5;
    const Bytes table = table_bytes(
        7, hops, 5,
        [&](uint32_t slot, uint32_t hop) {
          if (hop > 0 && hop >= 1 + slot % 4) return uint16_t{GW_NO_HOP};
          return static_cast<uint16_t>((slot + hop + first) % 5 + (hop == 2 ? GW_HOP_EARLIER : 0));
        },
        flags);
    const uint8_t outer = random() % 2 ? 42 : 62;
    RootSpec spec = three_backends(outer, digest_of(table));
    spec.backends.clear();
    for (uint8_t i = 0; i < 5; ++i) spec.backends.push_back(backend(outer, i));
    spec.pools = {pool_of(digest_of(table), 0, 5, outer)};
    for (unsigned i = random() % 4; i > 1; --i) change(spec.backends[random() % 5], random);
    const auto image = image_of(spec, {table});
    for (const Bytes& bytes : random_burst(random)) {
      Buffer buffer(bytes);
      Forwarder forwarder;
      forwarder.forward(image.get(), kIngress, kSecondNs, {&buffer.frame, 1});
      const Bytes expected = by_choice(*image, bytes);
      if (expected.empty()) {
        ASSERT_NE(buffer.frame.verdict, Verdict::forwarded);
      } else {
        ASSERT_EQ(buffer.out(), expected);
      }
    }
  }
}

}  // namespace
}  // namespace guideway
