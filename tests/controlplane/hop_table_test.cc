// SPDX-License-Identifier: Apache-2.0
#include "controlplane/hop_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>

namespace guideway {
namespace {

Address address_of(unsigned i) {
  const uint8_t bytes[4] = {10, 0, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i)};
  return Address::from_v4(bytes);
}

Epoch epoch_of(uint64_t number, uint32_t slots, const std::vector<unsigned>& members) {
  Epoch epoch;
  epoch.number = number;
  epoch.slots = epoch.fill_slots = slots;
  for (const unsigned i : members) epoch.members.push_back({address_of(i), 100});
  return epoch;
}

Epoch random_epoch(std::mt19937& random, uint64_t number, uint32_t universe) {
  const uint32_t sizes[] = {251, 257, 509};
  Epoch epoch = epoch_of(number, sizes[random() % 3], {});
  if (random() % 4 == 0) epoch.fill_slots = sizes[random() % 3];
  for (unsigned i = 1; i <= universe; ++i) {
    if (random() % 3 > 0) epoch.members.push_back({address_of(i), random() % 5 == 0 ? 0u : 100u});
  }
  return epoch;
}

PoolHistory random_history(std::mt19937& random) {
  const uint32_t universe = 2 + random() % 5;
  PoolHistory history;
  history.current = random_epoch(random, 3, universe);
  if (random() % 2 == 0) history.incoming = random_epoch(random, 4, universe);
  for (uint64_t number = 2; number > 0 && random() % 2 == 0; --number) {
    history.earlier.push_back(random_epoch(random, number, universe));
    history.earlier.back().stand_ins = random() % 2 == 0;
  }
  return history;
}

// ---- The oracle: the list of one slot, told as simply as possible.

struct Entry {
  Address address;
  uint16_t roles = 0;
};

std::vector<Entry> oracle_list(const PoolHistory& history, uint32_t slot) {
  const std::vector<Address> addresses = pool_addresses(history);
  const auto hops_of = [&](const Epoch& epoch, bool owners) {
    std::vector<Address> found;
    const EpochHops hops = epoch_hops(epoch, addresses);
    for (uint32_t i = 0; i < epoch.slots; ++i) {
      const bool meet = slot_start(slot, history.current.slots) < slot_start(i + 1, epoch.slots) &&
                        slot_start(i, epoch.slots) < slot_start(slot + 1, history.current.slots);
      const uint16_t index = owners ? hops.owner(i) : hops.stand_in(i);
      if (meet && index != GW_NO_HOP) found.push_back(addresses[index]);
    }
    return found;
  };
  const EpochHops current = epoch_hops(history.current, addresses);
  std::vector<Entry> list;
  std::optional<Entry> stand_in;
  if (current.owner(slot) != GW_NO_HOP) list.push_back({addresses[current.owner(slot)], 0});
  if (current.stand_in(slot) != GW_NO_HOP) stand_in = Entry{addresses[current.stand_in(slot)], 0};
  const bool has_owner = !list.empty();
  for (const bool owners : {true, false}) {
    const auto add = [&](const Epoch& epoch, uint16_t role) {
      for (const Address& address : hops_of(epoch, owners)) {
        if (has_owner && list[0].address == address) continue;
        if (stand_in && stand_in->address == address) {
          if (owners) stand_in->roles |= role;
          continue;
        }
        const auto at = std::find_if(list.begin(), list.end(),
                                     [&](const Entry& entry) { return entry.address == address; });
        if (at != list.end()) {
          at->roles |= role;
        } else {
          list.push_back({address, role});
        }
      }
    };
    for (const Epoch& epoch : history.earlier) add(epoch, kHopEarlier);
    if (history.incoming) add(*history.incoming, kHopIncoming);
  }
  if (stand_in) list.push_back(*stand_in);
  return list;
}

TEST(HopTable, ListsAreThoseOfTheOracle) {
  std::mt19937 random(4);
  int built = 0;
  int short_of_room = 0;
  for (int i = 0; i < 60; ++i) {
    const PoolHistory history = random_history(random);
    HopShortage shortage;
    const std::optional<HopTable> table = build_hop_table(history, &shortage);
    if (!table) {
      ++short_of_room;
      EXPECT_EQ(oracle_list(history, shortage.slot).size(), shortage.hops);
      EXPECT_GT(shortage.hops, GW_HOPS_MAX);
      continue;
    }
    ++built;
    for (uint32_t slot = 0; slot < table->slots; slot += 5) {
      const std::vector<Entry> expected = oracle_list(history, slot);
      const std::span<const uint16_t> list = table->slot(slot);
      ASSERT_EQ(list.size(), expected.size());
      for (size_t j = 0; j < list.size(); ++j) {
        EXPECT_EQ(table->backends[list[j] & kHopIndex], expected[j].address);
        EXPECT_EQ(list[j] & kHopRoles, expected[j].roles);
      }
    }
  }
  EXPECT_GT(built, 10);
  EXPECT_GT(short_of_room, 10);
}

TEST(HopTable, QuietPoolHasOwnerAndStandIn) {
  PoolHistory history;
  history.current = epoch_of(1, 251, {1, 2, 3, 4, 5});
  const std::optional<HopTable> table = build_hop_table(history);
  ASSERT_TRUE(table);
  EXPECT_EQ(table->hops, 2u);
  EXPECT_TRUE(table->owners && table->stand_ins);
  for (const uint16_t entry : table->hop) EXPECT_EQ(entry & kHopRoles, 0);
}

TEST(HopTable, ADrainedPoolStillReachesEarlierOwners) {
  PoolHistory history;
  history.current = epoch_of(2, 251, {1});
  history.current.members[0].weight = 0;
  history.earlier = {epoch_of(1, 251, {1})};
  const std::optional<HopTable> table = build_hop_table(history);
  ASSERT_TRUE(table);
  EXPECT_FALSE(table->owners);
  ASSERT_EQ(table->slot(9).size(), 1u);
  EXPECT_EQ(table->slot(9)[0], 0 | kHopEarlier);
  const std::vector<HopHealth> up{HopHealth::up};
  EXPECT_FALSE(order_hops(table->slot(9), false, false, up).takes_new);

  history.earlier.clear();
  const std::optional<HopTable> empty = build_hop_table(history);
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->hops, 0u);
  EXPECT_TRUE(empty->slot(9).empty());
  EXPECT_EQ(order_hops(empty->slot(9), false, false, up).count, 0u);
}

TEST(HopTable, DigestNamesTheContent) {
  std::mt19937 random(5);
  PoolHistory history;
  history.current = epoch_of(2, 251, {1, 2, 3});
  history.earlier = {epoch_of(1, 251, {1, 2, 3, 4})};
  const uint64_t digest = build_hop_table(history)->digest();
  for (int i = 0; i < 5; ++i) {
    std::shuffle(history.current.members.begin(), history.current.members.end(), random);
    std::shuffle(history.earlier[0].members.begin(), history.earlier[0].members.end(), random);
    EXPECT_EQ(build_hop_table(history)->digest(), digest);
  }
  history.earlier[0].stand_ins = false;
  EXPECT_NE(build_hop_table(history)->digest(), digest);
}

TEST(HopTable, ShortageNamesWhoHoldsTheRoom) {
  PoolHistory history;
  history.current = epoch_of(7, 251, {1, 2});
  history.incoming = epoch_of(8, 251, {3, 4});
  history.earlier = {epoch_of(6, 251, {5})};
  HopShortage shortage;
  EXPECT_FALSE(build_hop_table(history, &shortage));
  EXPECT_EQ(shortage.slot, 0u);
  EXPECT_EQ(shortage.hops, 5u);
  ASSERT_EQ(shortage.held.size(), 1u);
  EXPECT_EQ(shortage.held[0].address, address_of(5));
  EXPECT_EQ(shortage.held[0].epoch, 6u);
}

TEST(KeepStandIns, OnlyWhereThereIsNoRoom) {
  std::vector<unsigned> all;
  for (unsigned i = 1; i <= 100; ++i) all.push_back(i);
  PoolHistory history;
  history.earlier = {epoch_of(1, 65537, all)};
  history.earlier[0].stand_ins = false;
  all.erase(all.begin() + 7);
  history.current = epoch_of(2, 65537, all);
  all.erase(all.begin() + 10);
  history.incoming = epoch_of(3, 65537, all);
  ASSERT_FALSE(build_hop_table(history));
  PoolHistory roomy = history;
  keep_stand_ins(roomy);
  ASSERT_TRUE(build_hop_table(roomy));
  size_t kept = 0;
  for (const auto& [address, slots] : roomy.incoming->kept_stand_ins) {
    EXPECT_NE(address, address_of(12)) << "no member any more";
    for (const uint32_t slot : slots) {
      ++kept;
      EXPECT_GT(oracle_list(history, slot).size(), GW_HOPS_MAX);
    }
  }
  EXPECT_GT(kept, 0u);
  EXPECT_LT(kept, 200u) << "few slots, else stand-ins would be out of balance";
  roomy.incoming->kept_stand_ins.clear();
  EXPECT_EQ(roomy, history);
}

// ---- Health

TEST(OrderHops, HealthReorders) {
  using enum HopHealth;
  const std::vector<uint16_t> slot = {0, 1 | kHopEarlier, 2 | kHopIncoming, 3};
  struct Case {
    std::vector<HopHealth> health;
    std::vector<uint16_t> list;
    bool takes_new;
  };
  const Case cases[] = {
      {{up, up, up, up}, {0, 1, 2, 3}, true},
      {{lingers, up, up, up}, {3, 1, 2, 0}, true},
      {{gone, up, up, up}, {3, 1, 2}, true},
      {{up, lingers, up, up}, {0, 2, 3, 1}, true},
      {{up, gone, up, lingers}, {0, 2, 3}, true},
      {{lingers, up, up, lingers}, {1, 2, 0, 3}, false},
      {{gone, lingers, up, gone}, {2, 1}, false},
      {{lingers, lingers, lingers, lingers}, {0, 1, 2, 3}, true},
      {{gone, lingers, gone, lingers}, {1, 3}, false},
      {{gone, gone, gone, gone}, {}, false},
  };
  for (const Case& c : cases) {
    const HopList list = order_hops(slot, true, true, c.health);
    EXPECT_EQ(std::vector<uint16_t>(list.index.begin(), list.index.begin() + list.count), c.list);
    EXPECT_EQ(list.takes_new, c.takes_new);
  }
}

TEST(OrderHops, WithoutStandInTheLastHopIsNoLeader) {
  using enum HopHealth;
  const std::vector<uint16_t> slot = {0, 1 | kHopEarlier};
  const std::vector<HopHealth> health = {lingers, up};
  EXPECT_FALSE(order_hops(slot, true, false, health).takes_new);
  EXPECT_TRUE(order_hops(slot, true, true, health).takes_new);  // the same entry as a stand-in
}

// ---- What to ask

TEST(RangesOnlyIn, AreThoseOfTheOracleAtRandomHashes) {
  std::mt19937 random(6);
  size_t inside = 0;
  for (int i = 0; i < 80; ++i) {
    const PoolHistory history = random_history(random);
    if (history.earlier.empty()) continue;
    const Epoch& leaving = history.earlier[random() % history.earlier.size()];
    constexpr EpochPart kParts[] = {EpochPart::stand_ins, EpochPart::all, EpochPart::and_older};
    const EpochPart part = kParts[random() % 3];
    const auto found = ranges_only_in(hops_of(history), leaving.number, part);
    const std::vector<Address> addresses = pool_addresses(history);
    std::vector<Epoch> rest{history.current};
    if (history.incoming) rest.push_back(*history.incoming);
    std::vector<Epoch> leave;
    for (const Epoch& e : history.earlier) {
      const bool older = part == EpochPart::and_older && e.number < leaving.number;
      (e.number == leaving.number || older ? leave : rest).push_back(e);
    }
    const auto has = [&](const Epoch& epoch, uint32_t hash, size_t index, bool owner) {
      const EpochHops hops = epoch_hops(epoch, addresses);
      const uint32_t slot = slot_at(hash, epoch.slots);
      return (owner && hops.owner(slot) == index) || hops.stand_in(slot) == index;
    };
    for (int j = 0; j < 20; ++j) {
      const auto hash = static_cast<uint32_t>(random());
      for (size_t index = 0; index < addresses.size(); ++index) {
        bool expected = false;
        for (const Epoch& e : leave) expected |= has(e, hash, index, part != EpochPart::stand_ins);
        for (const Epoch& e : rest) expected = expected && !has(e, hash, index, true);
        bool asked = false;
        for (const BackendRanges& backend : found) {
          if (backend.address != addresses[index]) continue;
          for (const HashRange& r : backend.ranges) asked |= r.first <= hash && hash <= r.last;
        }
        EXPECT_EQ(asked, expected);
        inside += asked;
      }
    }
  }
  EXPECT_GT(inside, 100u);
}

// Current and incoming table, one earlier epoch, N = 1000, M = 65537: printed, and loosely bounded.
TEST(HopTableCost, OfAThousandBackends) {
  std::vector<unsigned> all;
  for (unsigned i = 1; i <= 1000; ++i) all.push_back(i);
  PoolHistory history;
  history.earlier = {epoch_of(1, 65537, all)};
  history.earlier[0].stand_ins = false;
  all.pop_back();
  history.current = epoch_of(2, 65537, all);
  all.erase(all.begin());
  history.incoming = epoch_of(3, 65537, all);
  keep_stand_ins(history);
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_TRUE(build_hop_table(history));
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count());
  }
  std::printf("hop table, N=1000, M=65537, incoming and one earlier epoch: %.1f ms\n", best);
  EXPECT_LT(best, 1000);
}

}  // namespace
}  // namespace guideway
