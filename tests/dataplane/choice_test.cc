// SPDX-License-Identifier: Apache-2.0
// Random images and packets against the rules of abi.h, written down once more in the plainest way.
#include "dataplane/choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <random>

#include "dataplane/validate.h"
#include "tests/support/images.h"

namespace guideway {
namespace {

using namespace test;

constexpr uint32_t kSlots = 53;
constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;

struct Entry {
  size_t index;
  bool incoming;
  bool earlier;
};

// A pool of `count` backends, which stands behind another pool, so that no index is its own name;
// slots have up to 4 hops, and none at all only if there are no owners.
struct World {
  World(std::mt19937& random, uint32_t count)
      : gue(random() % 2),
        owners(random() % 8 != 0),
        stand_ins(random() % 8 != 0),
        lists(kSlots),
        backends(count) {
    const bool changes = random() % 3 != 0;
    for (auto& list : lists) fill(list, random, changes);
    for (uint32_t i = 0; i < count; ++i) {
      backends[i] = backend(outer_bytes(), static_cast<uint8_t>(i));
      backends[i].counter = 100 + i;
      // Some have no name of their own.
      if (random() % 8 == 0) backends[i].counter = GW_BACKENDS_MAX - 1;
    }
  }

  void fill(std::vector<Entry>& list, std::mt19937& random, bool changes) const {
    std::vector<size_t> all(backends.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    std::shuffle(all.begin(), all.end(), random);
    all.resize(std::min<size_t>(all.size(), owners ? 1 + random() % 4 : random() % 5));
    const bool changing = changes && random() % 2;
    for (const size_t index : all)
      list.push_back({index, changing && random() % 3 == 0, changing && random() % 2});
    if (owners) list[0].incoming = list[0].earlier = false;
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
        b.outer_bytes = b.outer_bytes ? 0 : outer_bytes();
        return;
      case 4:
        b.weight = static_cast<uint16_t>(random() % 3);
        return;
      case 5:
        b.flags ^= GW_HOLDS;
        return;
      default:
        return set_up(b);
    }
  }

  uint8_t outer_bytes() const { return gue ? 42 : 34; }

  Bytes table() const {
    const auto entry = [&](uint32_t slot, uint32_t hop) {
      const auto& list = lists[slot];
      if (hop >= list.size()) return uint16_t{GW_NO_HOP};
      return static_cast<uint16_t>(list[hop].index + (list[hop].incoming ? 0x8000 : 0) +
                                   (list[hop].earlier ? 0x4000 : 0));
    };
    return table_bytes(kSlots, GW_HOPS_MAX, static_cast<uint32_t>(backends.size()), entry,
                       (owners ? 1u : 0u) | (stand_ins ? 2u : 0u));
  }

  std::unique_ptr<Image> image() const {
    const Bytes other = round_robin_table(7, 2);
    const Bytes own = table();
    EXPECT_TRUE(validate_table(own));
    RootSpec spec;
    spec.services = {service("203.0.113.10", 6, 443, 1)};
    spec.pools = {
        pool_of(digest_of(other), 0, 2),
        pool_of(digest_of(own), 2, static_cast<uint32_t>(backends.size()), outer_bytes())};
    spec.backends = {backend(34, 1), backend(34, 2)};
    spec.backends.insert(spec.backends.end(), backends.begin(), backends.end());
    return image_of(spec, {other, own});
  }

  bool gue;
  bool owners;
  bool stand_ins;
  std::vector<std::vector<Entry>> lists;  // by slot
  std::vector<gw_backend> backends;
};

class Oracle {
 public:
  // The indices of the backends that should be tried, in order.
  std::vector<size_t> choose(const World& world, uint32_t slot, uint64_t hash,
                             const Packet& packet) {
    const bool udp = packet.key.protocol == 17;
    const uint8_t flags = packet.tcp_flags;
    Case c{.world = world,
           .slot = slot,
           .entries = world.lists[slot],
           .hash = hash,
           .syn = !udp && (flags & kSyn) && !(flags & (kAck | kFin | kRst)),
           .udp = udp,
           .end = (flags & (kFin | kRst)) != 0,
           .error = packet.kind == PacketKind::icmp_error};
    find_leader(c);
    look_up(c);
    return world.gue && !udp ? choose_list(c) : choose_one(c);
  }
  size_t known() const { return known_.size(); }

 private:
  struct Known {
    uint32_t counter;
    bool closing;
  };

  struct Case {
    const World& world;
    uint32_t slot;
    const std::vector<Entry>& entries;
    uint64_t hash;
    bool syn, udp, end, error;
    std::optional<size_t> leader = {};
    bool spare_leads = false;
    std::optional<size_t> found = {};  // by the flow table

    bool takes(size_t i) const {
      const gw_backend& b = world.backends[i];
      return b.outer_bytes && (slot * 0x9E3779B1u) >> 16 < b.share;
    }
    bool holds(size_t i) const {
      return world.backends[i].outer_bytes && world.backends[i].flags == GW_HOLDS;
    }
  };

  static void find_leader(Case& c) {
    const bool any = !c.entries.empty();
    const uint16_t spare = SparePool(c.world.backends).spare(c.slot);
    if (c.world.owners && c.takes(c.entries[0].index)) {
      c.leader = c.entries[0].index;
    } else if (c.world.stand_ins && any && c.takes(c.entries.back().index)) {
      c.leader = c.entries.back().index;
    } else if (spare != GW_NO_HOP) {
      c.leader = spare;
      c.spare_leads = true;
    }
  }

  void look_up(Case& c) {
    const auto known = known_.find(c.hash);
    if (known == known_.end()) return;
    const auto stays = index_of(c.world, known->second.counter);
    if (!(c.syn && known->second.closing) && stays && (c.takes(*stays) || c.holds(*stays))) {
      c.found = stays;
      if (!c.error && c.end) known->second.closing = true;
    } else if (!c.error) {
      known_.erase(known);
    }
  }

  bool learn(const Case& c, size_t i) {
    const uint32_t counter = c.world.backends[i].counter;
    if (c.error || counter == GW_BACKENDS_MAX - 1) return false;
    known_[c.hash] = {counter, c.end};
    return true;
  }

  static std::optional<size_t> holder(const Case& c) {
    std::vector<size_t> order;
    for (const Entry& entry : c.entries)
      if (entry.earlier && order.empty()) order.push_back(entry.index);
    for (const Entry& entry : c.entries) order.push_back(entry.index);
    for (const size_t i : order)
      if (c.holds(i)) return i;
    return {};
  }

  std::vector<size_t> choose_one(const Case& c) {
    bool settled = c.world.owners && c.takes(c.entries[0].index) && c.holds(c.entries[0].index);
    for (const Entry& entry : c.entries) settled &= !entry.incoming && !entry.earlier;
    if (c.found) {
      if (settled && !c.error && *c.found == c.entries[0].index) known_.erase(c.hash);
      return {*c.found};
    }
    if (settled) return {c.entries[0].index};
    std::optional<size_t> chosen;
    if (!c.syn && !c.udp) chosen = holder(c);
    if (!chosen) chosen = c.leader;
    if (!chosen) return {};
    // One that is not remembered begins where its next packets go.
    if (!learn(c, *chosen) && c.syn && holder(c)) chosen = holder(c);
    return {*chosen};
  }

  std::vector<size_t> choose_list(const Case& c) {
    if (!c.found && c.syn && !c.leader) return {};
    std::vector<size_t> wanted;
    if (c.found) wanted.push_back(*c.found);
    if (c.leader) wanted.push_back(*c.leader);
    for (const Entry& entry : c.entries)
      if (c.takes(entry.index)) wanted.push_back(entry.index);
    for (const Entry& entry : c.entries)
      if (c.holds(entry.index)) wanted.push_back(entry.index);
    std::vector<size_t> list;
    for (const size_t i : wanted)
      if (list.size() < 5 && std::find(list.begin(), list.end(), i) == list.end())
        list.push_back(i);
    if (!c.found && c.spare_leads) learn(c, *c.leader);
    return list;
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

std::vector<size_t> list_of(const Choice& choice, const PoolView& pool) {
  std::vector<size_t> list;
  if (!choice.backend) return list;
  list.push_back(static_cast<size_t>(choice.backend - pool.backends.data()));
  for (uint32_t i = 0; i < choice.later_count; ++i)
    list.push_back(static_cast<size_t>(choice.later[i] - pool.backends.data()));
  return list;
}

TEST(Choice, AgreesWithThePlainRules) {
  size_t learned = 0;
  std::map<size_t, size_t> lengths[2];  // of lists; by gue
  for (unsigned seed = 0; seed < 600; ++seed) {
    std::mt19937 random(seed);
    World world(random, 1 + random() % 12);
    auto image = world.image();
    Oracle oracle;
    FlowTable flows = std::move(*FlowTable::make(1 << 16));
    for (int i = 0; i < 600; ++i) {
      if (random() % 10 == 0) {
        world.change(random);
        image = world.image();
      }
      const uint64_t flow = random() % 100;
      const auto slot = static_cast<uint32_t>(flow * 31 % kSlots);
      const uint64_t hash = flow * 0x9E3779B97F4A7C15u + 1;
      const Packet packet = random_packet(random, flow % 3 == 0);
      const auto expected = oracle.choose(world, slot, hash, packet);
      const PoolView& pool = image->pools()[1];
      const Choice choice = choose_backend(*image, {pool, slot, hash, packet}, flows, 7);
      ASSERT_EQ(list_of(choice, pool), expected) << seed << " " << i;
      ASSERT_EQ(flows.used(), oracle.known()) << seed << " " << i;
      ++lengths[world.gue][expected.size()];
    }
    learned += oracle.known();
  }
  EXPECT_GT(learned, 1000u);
  EXPECT_GT(lengths[false][0], 100u);
  EXPECT_EQ(lengths[false].size(), 2u);
  for (size_t length = 0; length <= 5; ++length) EXPECT_GT(lengths[true][length], 100u) << length;
  EXPECT_EQ(lengths[true].size(), 6u);
}

// A change may take a settled slot's quiet away, and gives it back.
TEST(Choice, ASlotIsSettledWithoutRolesOnly) {
  const auto settled = [](uint16_t stand_in, uint32_t flags) {
    const Bytes table = table_bytes(
        3, 2, 4,
        [&](uint32_t slot, uint32_t hop) {
          return static_cast<uint16_t>(hop ? (slot == 1 ? stand_in : 3) : slot);
        },
        flags);
    RootSpec spec;
    spec.pools = {pool_of(digest_of(table), 0, 4)};
    for (uint8_t i = 0; i < 4; ++i) spec.backends.push_back(backend(34, i));
    const auto image = image_of(spec, {table});
    std::string text;
    for (uint32_t slot = 0; slot < 3; ++slot)
      text += is_settled(image->pools()[0], image->pools()[0].owner(slot), slot) ? 's' : 'u';
    return text;
  };
  EXPECT_EQ(settled(3, GW_TABLE_OWNERS | GW_TABLE_STAND_INS), "sss");
  EXPECT_EQ(settled(3, GW_TABLE_OWNERS), "sss");
  EXPECT_EQ(settled(GW_NO_HOP, GW_TABLE_OWNERS), "sss");
  EXPECT_EQ(settled(3 | GW_HOP_EARLIER, GW_TABLE_OWNERS | GW_TABLE_STAND_INS), "sus");
  EXPECT_EQ(settled(3 | GW_HOP_INCOMING, GW_TABLE_OWNERS | GW_TABLE_STAND_INS), "sus");
  EXPECT_EQ(settled(3, 0), "uuu");
}

// Why a packet gets no backend, by what the backends of its slot lack.
TEST(Choice, NoNextHopIsSaidWhenThatIsAllThatIsMissing) {
  std::mt19937 random(1);
  World world(random, 3);
  world.owners = world.stand_ins = true;
  for (const bool gue : {false, true}) {
    world.gue = gue;
    for (auto& list : world.lists) list = {{0, false, false}, {1, false, true}, {2, false, false}};
    const auto problem = [&](uint8_t tcp_flags) {
      const auto image = world.image();
      Packet packet;
      packet.kind = PacketKind::flow;
      packet.key.protocol = 6;
      packet.tcp_flags = tcp_flags;
      FlowTable flows;
      const Choice choice = choose_backend(*image, {image->pools()[1], 5, 1, packet}, flows, 7);
      EXPECT_EQ(choice.backend, nullptr);
      return std::string(verdict_name(choice.problem));
    };
    for (gw_backend& b : world.backends) set_down(b);
    EXPECT_EQ(problem(kSyn), "no_backend");
    EXPECT_EQ(problem(kAck), "no_backend");
    for (gw_backend& b : world.backends) set_up(b), b.outer_bytes = 0;
    EXPECT_EQ(problem(kSyn), "no_next_hop");
    EXPECT_EQ(problem(kAck), "no_next_hop");
    // The hop of another epoch would not have led the new flow anyway.
    for (gw_backend& b : world.backends) set_down(b), b.outer_bytes = 0;
    set_up(world.backends[1]);
    EXPECT_EQ(problem(kSyn), "no_backend");
    EXPECT_EQ(problem(kAck), gue ? "no_next_hop" : "no_backend");
  }
}

// A pool whose last backend was taken away: established flows live on, new ones are refused.
TEST(Choice, APoolWithoutOwnersTakesNoNewFlow) {
  std::mt19937 random(1);
  World world(random, 2);
  world.owners = world.stand_ins = false;
  for (gw_backend& b : world.backends) set_draining(b), b.weight = 0;
  for (auto& list : world.lists) list = {};
  world.lists[5] = {{1, false, true}, {0, false, true}};
  for (const bool gue : {false, true}) {
    world.gue = gue;
    for (gw_backend& b : world.backends) b.outer_bytes = world.outer_bytes();
    const auto image = world.image();
    const auto choose = [&](uint32_t slot, uint8_t protocol, uint8_t tcp_flags) {
      Packet packet;
      packet.kind = PacketKind::flow;
      packet.key.protocol = protocol;
      packet.tcp_flags = tcp_flags;
      FlowTable flows;
      const PoolView& pool = image->pools()[1];
      return list_of(choose_backend(*image, {pool, slot, 1, packet}, flows, 7), pool);
    };
    using List = std::vector<size_t>;
    EXPECT_EQ(choose(5, 6, kSyn), List{});
    EXPECT_EQ(choose(5, 17, 0), List{});
    EXPECT_EQ(choose(5, 6, kAck), gue ? (List{1, 0}) : List{1});
    EXPECT_EQ(choose(6, 6, kSyn), List{});
    EXPECT_EQ(choose(6, 6, kAck), List{});
  }
}

}  // namespace
}  // namespace guideway
