// SPDX-License-Identifier: Apache-2.0
// Random images and packets against the rules of abi.h, written down once more in the plainest way.
#include "dataplane/choice.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <random>

#include "tests/support/images.h"

namespace guideway {
namespace {

using namespace test;

constexpr uint32_t kSlots = 53;
constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;

// A pool of `count` backends, which stands behind another pool, so that no index is its own name;
// slots have 1 to 4 hops.
struct World {
  World(std::mt19937& random, uint32_t count) : backends(count) {
    table = table_bytes(kSlots, GW_HOPS_MAX, count, [&](uint32_t slot, uint32_t hop) {
      const uint32_t hops = std::min(1 + slot % GW_HOPS_MAX, count);
      return static_cast<uint16_t>(hop < hops ? (slot * 7 + hop) % count : GW_NO_HOP);
    });
    for (uint32_t i = 0; i < count; ++i) {
      backends[i] = backend(34, static_cast<uint8_t>(i));
      backends[i].counter = 100 + i;
      // Some have no name of their own.
      if (random() % 8 == 0) backends[i].counter = GW_BACKENDS_MAX - 1;
    }
  }

  void change(std::mt19937& random) {
    gw_backend& b = backends[random() % backends.size()];
    switch (random() % 7) {
      case 0:
        return set_down(b);
      case 1:
        return set_draining(b);
      case 2:
        return set_up(b, random() % 65537);
      case 3:
        b.outer_bytes = b.outer_bytes ? 0 : 34;
        return;
      case 4:
        b.weight = static_cast<uint16_t>(random() % 3);
        return;
      default:
        return set_up(b);
    }
  }

  std::unique_ptr<Image> image() const {
    const Bytes other = round_robin_table(7, 2);
    RootSpec spec;
    spec.services = {service("203.0.113.10", 6, 443, 1)};
    spec.pools = {
        {.table_digest = digest_of(other), .backend_first = 0, .backends = 2, .reserved = {}},
        {.table_digest = digest_of(table),
         .backend_first = 2,
         .backends = static_cast<uint32_t>(backends.size()),
         .reserved = {}}};
    spec.backends = {backend(34, 1), backend(34, 2)};
    spec.backends.insert(spec.backends.end(), backends.begin(), backends.end());
    return image_of(spec, {other, table});
  }

  Bytes table;
  std::vector<gw_backend> backends;
};

class Oracle {
 public:
  // The index of the backend that should take the packet.
  std::optional<size_t> choose(const World& world, uint32_t slot, uint64_t hash,
                               const Packet& packet) {
    const bool udp = packet.key.protocol == 17;
    const bool syn =
        !udp && (packet.tcp_flags & kSyn) && !(packet.tcp_flags & (kAck | kFin | kRst));
    const bool end = packet.tcp_flags & (kFin | kRst);
    const bool error = packet.kind == PacketKind::icmp_error;

    if (const auto known = known_.find(hash); known != known_.end()) {
      const auto stays = index_of(world, known->second.counter);
      const bool again = syn && known->second.closing;
      if (!again && stays &&
          (covers(world.backends[*stays], slot) || holds(world.backends[*stays])) &&
          world.backends[*stays].outer_bytes) {
        if (!error && end) known->second.closing = true;
        return stays;
      }
      if (!error) known_.erase(known);
    }

    const std::vector<size_t> hops = hops_of(world, slot);
    const gw_backend& owner = world.backends[hops[0]];
    if (covers(owner, slot) && holds(owner) && owner.outer_bytes) return hops[0];

    std::optional<size_t> chosen;
    if (!syn && !udp) {
      for (auto hop = hops.rbegin(); hop != hops.rend(); ++hop)
        if (holds(world.backends[*hop]) && world.backends[*hop].outer_bytes) chosen = *hop;
    }
    if (!chosen) {
      for (auto hop = hops.rbegin(); hop != hops.rend(); ++hop)
        if (covers(world.backends[*hop], slot) && world.backends[*hop].outer_bytes) chosen = *hop;
    }
    if (!chosen) {
      const uint16_t spare = SparePool(world.backends).spare(slot);
      if (spare != GW_NO_HOP) chosen = spare;
    }
    if (chosen && !error && world.backends[*chosen].counter != GW_BACKENDS_MAX - 1)
      known_[hash] = {world.backends[*chosen].counter, end};
    return chosen;
  }
  size_t known() const { return known_.size(); }

 private:
  struct Known {
    uint32_t counter;
    bool closing;
  };

  static bool covers(const gw_backend& b, uint32_t slot) {
    return (slot * 0x9E3779B1u) >> 16 < b.share;
  }
  static bool holds(const gw_backend& b) { return b.flags == GW_HOLDS; }
  static std::vector<size_t> hops_of(const World& world, uint32_t slot) {
    const auto* hop = reinterpret_cast<const uint16_t*>(world.table.data() + sizeof(gw_table));
    std::vector<size_t> hops;
    for (uint32_t i = 0; i < GW_HOPS_MAX; ++i) {
      const uint16_t at = hop[slot * GW_HOPS_MAX + i];
      if (at != GW_NO_HOP) hops.push_back(at);
    }
    return hops;
  }
  static std::optional<size_t> index_of(const World& world, uint32_t counter) {
    for (size_t i = 0; i < world.backends.size(); ++i)
      if (world.backends[i].counter == counter) return i;
    return {};
  }

  std::map<uint64_t, Known> known_;
};

Packet random_packet(std::mt19937& random, bool udp) {
  Packet packet;
  packet.kind = random() % 10 ? PacketKind::flow : PacketKind::icmp_error;
  packet.key.protocol = udp ? 17 : 6;
  const uint8_t flags[] = {kSyn, kSyn | kAck, kAck, kAck, kAck, kFin | kAck, kRst, 0};
  if (!udp && packet.kind == PacketKind::flow) packet.tcp_flags = flags[random() % 8];
  return packet;
}

TEST(Choice, AgreesWithThePlainRules) {
  size_t learned = 0;
  size_t dropped = 0;
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    World world(random, 1 + random() % 12);
    auto image = world.image();
    Oracle oracle;
    FlowTable flows = std::move(*FlowTable::make(1 << 16));
    for (int i = 0; i < 600; ++i) {
      if (random() % 20 == 0) {
        world.change(random);
        image = world.image();
      }
      const uint64_t flow = random() % 100;
      const auto slot = static_cast<uint32_t>(flow * 31 % kSlots);
      const uint64_t hash = flow * 0x9E3779B97F4A7C15u + 1;
      const Packet packet = random_packet(random, flow % 3 == 0);
      const auto expected = oracle.choose(world, slot, hash, packet);
      const Choice choice =
          choose_backend(*image, {image->pools()[1], slot, hash, packet}, flows, 7);
      ASSERT_EQ(choice.backend != nullptr, expected.has_value()) << seed << " " << i;
      if (expected) {
        ASSERT_EQ(choice.backend - image->pools()[1].backends.data(),
                  static_cast<ptrdiff_t>(*expected))
            << seed << " " << i;
      }
      dropped += !expected;
      ASSERT_EQ(flows.used(), oracle.known());
    }
    learned += oracle.known();
  }
  EXPECT_GT(learned, 1000u);
  EXPECT_GT(dropped, 100u);
}

TEST(Choice, NoNextHopIsSaidWhenThatIsAllThatIsMissing) {
  std::mt19937 random(1);
  World world(random, 3);
  for (gw_backend& b : world.backends) set_down(b);
  EXPECT_EQ(choose_for_new(world.image()->pools()[1], 5).problem, Verdict::no_backend);
  for (gw_backend& b : world.backends) set_up(b), b.outer_bytes = 0;
  EXPECT_EQ(choose_for_new(world.image()->pools()[1], 5).problem, Verdict::no_next_hop);
}

}  // namespace
}  // namespace guideway
