// SPDX-License-Identifier: Apache-2.0
// What connections feel of drain, failure, recovery and slow start: whole packets through
// Forwarder.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <random>

#include "dataplane/forward.h"
#include "tests/support/images.h"

namespace guideway {
namespace {

using namespace test;

constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;
constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint32_t kBackends = 5;
constexpr uint32_t kSlots = 11;

// One node: an image that changes, and a forwarder that lives on. Backends 0 to 4; the stand-in of
// a slot is the backend after its owner.
class DrainTest : public testing::TestWithParam<Family> {
 protected:
  DrainTest() {
    forwarder_.flows = std::move(*FlowTable::make(1024));
    spec_ = three_backends(34, digest_of(table_));
    spec_.pools[0].backends = kBackends;
    spec_.backends.clear();
    for (uint8_t i = 0; i < kBackends; ++i) spec_.backends.push_back(backend(34, i));
    publish();
  }

  void publish() { image_ = image_of(spec_, {table_}); }
  void down(uint32_t b) { set_down(spec_.backends[b]), publish(); }
  void drain(uint32_t b) { set_draining(spec_.backends[b]), publish(); }
  void up(uint32_t b, uint32_t share = GW_SHARE_ALL) {
    set_up(spec_.backends[b], share), publish();
  }

  // Backend that gets a packet of the client with this port; -1: none.
  int send(uint16_t client_port, uint8_t flags, uint8_t protocol = 6) {
    PacketSpec packet = spec_for(GetParam());
    packet.source_port = client_port;
    packet.tcp_flags = flags;
    packet.protocol = protocol;
    return pass(frame_of(packet));
  }
  // An ICMP error about a reply to that client.
  int send_error(uint16_t client_port) {
    PacketSpec reply = spec_for(GetParam());
    std::swap(reply.source, reply.destination);
    reply.source_port = 443;
    reply.destination_port = client_port;
    Bytes rest(4, 0);
    append(rest, ip_packet(reply, transport(reply)));
    const bool v4 = GetParam().ip_header == 20;
    return pass(icmp_frame(spec_for(GetParam()), v4 ? 11 : 3, 0, rest));
  }

  int pass(const Bytes& bytes) {
    Bytes buffer(128);
    append(buffer, bytes);
    Frame frame;
    frame.data = buffer.data() + 128;
    frame.bytes = static_cast<uint16_t>(bytes.size());
    frame.headroom = 128;
    forwarder_.forward(image_.get(), {PortKind::shared, {0x02, 0, 0, 0, 0, 0x11}}, now_ns_,
                       {&frame, 1});
    return frame.verdict == Verdict::forwarded ? static_cast<int>(frame.backend) : -1;
  }

  // A client whose packets the slot gives to `owner`, and the slot.
  uint16_t client_of(uint32_t owner) { return client_of_slot(owner, nullptr); }
  uint16_t client_of_slot(uint32_t owner, uint32_t* found) {
    for (;; ++port_) {
      FlowKey key;
      key.client = address(GetParam().client);
      key.vip = address(GetParam().vip);
      key.client_port = be16(port_);
      key.vip_port = be16(443);
      key.protocol = 6;
      const uint32_t slot = flow_slot(flow_hash(key, spec_.flow_seed), kSlots);
      if (slot % kBackends != owner) continue;
      if (found) *found = slot;
      return port_++;
    }
  }

  Bytes table_ = round_robin_table(kSlots, kBackends);
  RootSpec spec_;
  std::unique_ptr<Image> image_;
  Forwarder forwarder_;
  uint64_t now_ns_ = 77 * kSecondNs;
  uint16_t port_ = 20000;
};

TEST_P(DrainTest, AQuietPoolLearnsNothing) {
  for (uint32_t i = 0; i < 200; ++i) {
    const uint16_t client = client_of(i % kBackends);
    EXPECT_EQ(send(client, kSyn), static_cast<int>(i % kBackends));
    EXPECT_EQ(send(client, kAck), static_cast<int>(i % kBackends));
  }
  EXPECT_TRUE(forwarder_.flows.empty());
}

// Not one look at the table's memory: that would end the test.
TEST_P(DrainTest, AnEmptyTableCostsASettledSlotNothing) {
  FlowTable& flows = forwarder_.flows;
  flows = std::move(*FlowTable::make(16));
  flows.learn(0, 1, FlowSign::syn, 0);
  void* memory = flows.find(0, 0);
  flows.forget(*flows.find(0, 0));
  ASSERT_EQ(mprotect(memory, 4096, PROT_NONE), 0);
  for (uint32_t i = 0; i < 200; ++i) {
    EXPECT_EQ(send(client_of(i % kBackends), i % 2 ? kSyn : kAck), static_cast<int>(i % kBackends));
  }
  flows.sweep(now_ns_);
  ASSERT_EQ(mprotect(memory, 4096, PROT_READ | PROT_WRITE), 0);
}

TEST_P(DrainTest, DrainKeepsConnectionsAndSendsNewOnesElsewhere) {
  const uint16_t old_client = client_of(2);
  EXPECT_EQ(send(old_client, kSyn), 2);
  drain(2);
  const uint16_t new_client = client_of(2);
  EXPECT_EQ(send(old_client, kAck), 2);
  EXPECT_EQ(send(new_client, kSyn), 3);
  EXPECT_EQ(send(new_client, kSyn), 3);  // the same one again
  EXPECT_EQ(send(new_client, kAck), 3);
  EXPECT_EQ(send_error(new_client), 3);
  EXPECT_EQ(send_error(old_client), 2);

  // Cancelled: each stays where it is now.
  up(2);
  EXPECT_EQ(send(new_client, kAck), 3);
  EXPECT_EQ(send(old_client, kAck), 2);
  EXPECT_EQ(send(client_of(2), kSyn), 2);
  // And what was learned is forgotten after an hour of silence.
  now_ns_ += 3601 * kSecondNs;
  EXPECT_EQ(send(new_client, kAck), 2);
}

TEST_P(DrainTest, AConnectionThatEndedMayBeFollowedByAnother) {
  const uint16_t client = client_of(2);
  drain(2);
  EXPECT_EQ(send(client, kSyn), 3);
  up(2);
  EXPECT_EQ(send(client, kFin | kAck), 3);
  EXPECT_EQ(send(client, kAck), 3);
  EXPECT_EQ(send(client, kSyn), 2);
  EXPECT_EQ(send(client, kAck), 2);
  EXPECT_TRUE(forwarder_.flows.empty());
}

TEST_P(DrainTest, AForgedSynMovesNoConnection) {
  const uint16_t client = client_of(2);
  EXPECT_EQ(send(client, kSyn), 2);
  drain(2);
  EXPECT_EQ(send(client, kAck), 2);
  EXPECT_EQ(send(client, kSyn), 2);
  EXPECT_EQ(send(client, kAck), 2);
}

TEST_P(DrainTest, AFlowThatBeganOnTheStandInStaysThereAfterRecovery) {
  down(1);
  const uint16_t client = client_of(1);
  const uint16_t lost = client_of(1);
  EXPECT_EQ(send(client, kSyn), 2);
  EXPECT_EQ(send(client, kAck), 2);
  // A connection of the dead one: the stand-in tells the client so.
  EXPECT_EQ(send(lost, kAck), 2);
  up(1);
  EXPECT_EQ(send(client, kAck), 2);
  EXPECT_EQ(send(client, kFin | kAck), 2);
  EXPECT_EQ(send(client_of(1), kSyn), 1);
  EXPECT_EQ(send(client_of(1), kAck), 1);
}

TEST_P(DrainTest, AnEntryForADeadBackendCountsForNothing) {
  down(1);
  const uint16_t client = client_of(1);
  EXPECT_EQ(send(client, kSyn), 2);
  EXPECT_EQ(send(client, kAck), 2);
  down(2);
  up(1);
  EXPECT_EQ(send(client, kAck), 1);
  up(2);
  EXPECT_EQ(send(client, kAck), 1) << "the entry must not come to life again";
  EXPECT_TRUE(forwarder_.flows.empty());
}

TEST_P(DrainTest, WithOwnerAndStandInDeadTheSpareTakesTheFlowAndKeepsIt) {
  uint32_t slot = 0;
  down(1), down(2);
  const uint16_t client = client_of_slot(1, &slot);
  const int spare = SparePool(spec_.backends).spare(slot);
  ASSERT_NE(spare, GW_NO_HOP);
  EXPECT_EQ(send(client, kSyn), spare);
  EXPECT_EQ(send(client, kAck), spare);
  up(2);
  EXPECT_EQ(send(client, kAck), spare);
  up(1);
  EXPECT_EQ(send(client, kAck), spare);
  EXPECT_EQ(send(client_of(1), kSyn), 1);
}

// The spare of now is another than that of then: a flow stays all the same.
TEST_P(DrainTest, AFlowOnASpareStaysWhenTheSlotGetsABetterOne) {
  uint32_t slot = 0;
  for (uint32_t b = 0; b < kBackends; ++b) down(b);
  const uint16_t client = client_of_slot(0, &slot);
  up(3);
  EXPECT_EQ(send(client, kSyn), 3);
  up(4), up(2);
  EXPECT_EQ(send(client, kAck), 3);
}

TEST_P(DrainTest, NobodyIsLeft) {
  for (uint32_t b = 0; b < kBackends; ++b) down(b);
  EXPECT_EQ(send(client_of(1), kSyn), -1);
  EXPECT_EQ(send(client_of(1), kAck), -1);
  EXPECT_TRUE(forwarder_.flows.empty());
}

TEST_P(DrainTest, SlowStartReleasesSlotsByShareAndHoldsItsConnections) {
  uint32_t slot = 0;
  const uint16_t client = client_of_slot(4, &slot);
  const uint32_t at = (slot * 0x9E3779B1u) >> 16;
  up(4, at);
  EXPECT_EQ(send(client, kSyn), 0);
  EXPECT_EQ(send(client, kAck), 0);
  up(4, at + 1);
  EXPECT_EQ(send(client, kAck), 0);
  FlowTable& flows = forwarder_.flows;
  EXPECT_EQ(flows.used(), 1u);
  flows.sweep(now_ns_ += 4000 * kSecondNs);
  while (!flows.empty()) flows.sweep(now_ns_ += kSecondNs);
  EXPECT_EQ(send(client, kSyn), 4);
  EXPECT_EQ(send(client, kAck), 4);
  EXPECT_TRUE(flows.empty());
}

TEST_P(DrainTest, AMissingNextHopIsAFailureToo) {
  const uint16_t client = client_of(1);
  spec_.backends[1].outer_bytes = 0;
  publish();
  EXPECT_EQ(send(client, kSyn), 2);
  spec_.backends[1].outer_bytes = 34;
  publish();
  EXPECT_EQ(send(client, kAck), 2);
}

TEST_P(DrainTest, DatagramsAreFlowsToo) {
  const uint16_t client = 33333;
  const int owner = send(client, 0, 17);
  const int other = (owner + 1) % static_cast<int>(kBackends);
  drain(static_cast<uint32_t>(owner));
  EXPECT_EQ(send(client, 0, 17), other);
  up(static_cast<uint32_t>(owner));
  EXPECT_EQ(send(client, 0, 17), other);
  now_ns_ += 61 * kSecondNs;
  EXPECT_EQ(send(client, 0, 17), owner);
}

// An error may be forged by anybody who guesses ports.
TEST_P(DrainTest, IcmpErrorsTeachNothing) {
  drain(2);
  const uint16_t client = client_of(2);
  EXPECT_EQ(send_error(client), 2);
  EXPECT_TRUE(forwarder_.flows.empty());
  EXPECT_EQ(send(client, kSyn), 3);
  now_ns_ += 9 * kSecondNs;
  EXPECT_EQ(send_error(client), 3);
  now_ns_ += 2 * kSecondNs;
  EXPECT_EQ(send(client, kAck), 2) << "the error did not refresh the entry";
}

TEST_P(DrainTest, ABackendWithoutANameIsNeverLearned) {
  spec_.backends[3].counter = GW_BACKENDS_MAX - 1;
  drain(2);
  const uint16_t client = client_of(2);
  EXPECT_EQ(send(client, kSyn), 2) << "where its next packets go";
  EXPECT_TRUE(forwarder_.flows.empty());
}

TEST_P(DrainTest, AFullTableForwardsAllTheSame) {
  drain(2);
  forwarder_.flows = FlowTable();
  const uint16_t client = client_of(2);
  EXPECT_EQ(send(client, kSyn), 2) << "where its next packets go";
  EXPECT_EQ(send(client, kAck), 2);
  EXPECT_EQ(forwarder_.flows.refused(), 2u);
}

INSTANTIATE_TEST_SUITE_P(Families, DrainTest, testing::ValuesIn(kFamilies),
                         [](const auto& info) { return info.param.name; });

// A frame in a buffer with headroom.
struct Sent {
  explicit Sent(const Bytes& bytes) : storage(128) {
    append(storage, bytes);
    frame.data = storage.data() + 128;
    frame.bytes = static_cast<uint16_t>(bytes.size());
    frame.headroom = 128;
  }
  Bytes storage;
  Frame frame;
};

std::vector<Bytes> random_burst(std::mt19937& random) {
  std::vector<Bytes> frames;
  const uint8_t flags[] = {kSyn, kAck, kAck, kFin | kAck, kRst, kSyn | kAck};
  while (frames.size() < kBurstMax) {
    PacketSpec spec = spec_for(kFamilies[random() % 2]);
    spec.source_port = static_cast<uint16_t>(10000 + random() % 40);
    spec.protocol = random() % 4 ? 6 : 17;
    spec.tcp_flags = flags[random() % 6];
    spec.ttl = random() % 16 ? 64 : 1;
    frames.push_back(frame_of(spec));
  }
  return frames;
}

void change(RootSpec& spec, std::mt19937& random) {
  gw_backend& b = spec.backends[random() % spec.backends.size()];
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

TEST(Drain, ABurstEqualsItsFramesOneByOneWhileHealthChanges) {
  const Bytes table = round_robin_table(7, 3);
  for (unsigned seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    RootSpec spec = three_backends(34, digest_of(table));
    Forwarder one;
    Forwarder many;
    // Few enough entries that flows evict one another.
    one.flows = std::move(*FlowTable::make(16));
    many.flows = std::move(*FlowTable::make(16));
    uint64_t now_ns = random() % 100000 * kSecondNs;
    for (int round = 0; round < 20; ++round, now_ns += random() % 8 * kSecondNs) {
      change(spec, random);
      const auto image = image_of(spec, {table});
      const Ingress at{PortKind::shared, {0x02, 0, 0, 0, 0, 0x11}};
      std::vector<Sent> single;
      std::vector<Sent> burst;
      for (const Bytes& bytes : random_burst(random)) {
        single.emplace_back(bytes);
        burst.emplace_back(bytes);
        one.forward(image.get(), at, now_ns, {&single.back().frame, 1});
      }
      std::vector<Frame> frames;
      frames.reserve(burst.size());
      for (const Sent& sent : burst) frames.push_back(sent.frame);
      many.forward(image.get(), at, now_ns, frames);
      for (size_t i = 0; i < frames.size(); ++i) {
        ASSERT_EQ(verdict_name(frames[i].verdict), verdict_name(single[i].frame.verdict)) << i;
        ASSERT_EQ(frames[i].backend, single[i].frame.backend) << i;
      }
      ASSERT_EQ(one.flows.used(), many.flows.used());
      ASSERT_EQ(one.flows.refused(), many.flows.refused());
    }
  }
}

}  // namespace
}  // namespace guideway
