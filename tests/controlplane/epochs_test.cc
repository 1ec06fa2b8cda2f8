// SPDX-License-Identifier: Apache-2.0
#include "controlplane/epochs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "dataplane/abi.h"
#include "dataplane/flow.h"

namespace guideway {
namespace {

Address address_of(unsigned i) {
  const uint8_t bytes[4] = {10, 0, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i)};
  return Address::from_v4(bytes);
}

std::vector<MaglevBackend> members_of(unsigned count) {
  std::vector<MaglevBackend> members;
  for (unsigned i = 1; i <= count; ++i) members.push_back({address_of(i), 100});
  return members;
}

Epoch epoch_of(uint64_t number, uint32_t slots, std::vector<MaglevBackend> members) {
  Epoch epoch;
  epoch.number = number;
  epoch.slots = epoch.fill_slots = slots;
  epoch.members = std::move(members);
  return epoch;
}

TEST(Ranges, AreThoseOfTheFlowHash) {
  std::mt19937_64 random(1);
  for (const uint32_t slots : {251u, 257u, 65537u, GW_TABLE_SLOTS_MAX}) {
    EXPECT_EQ(slot_start(0, slots), 0u);
    EXPECT_EQ(slot_start(slots, slots), uint64_t{1} << 32);
    for (int i = 0; i < 2000; ++i) {
      const uint64_t hash = random();
      EXPECT_EQ(slot_at(hash >> 32, slots), flow_slot(hash, slots));
      const auto slot = static_cast<uint32_t>(random() % slots);
      const uint64_t first = slot_start(slot, slots);
      EXPECT_EQ(slot_at(first, slots), slot);
      if (slot == 0) continue;
      EXPECT_EQ(slot_at(first - 1, slots), slot - 1);
    }
  }
}

TEST(Ranges, OverlapAsTheirHashesDo) {
  for (const auto& [slots, other] : {std::pair{251u, 509u}, {509u, 251u}, {257u, 251u}, {7u, 7u}}) {
    for (uint32_t slot = 0; slot < slots; ++slot) {
      const SlotSpan span = overlapping(slot, slots, other);
      for (uint32_t i = 0; i < other; ++i) {
        const bool meet = slot_start(slot, slots) < slot_start(i + 1, other) &&
                          slot_start(i, other) < slot_start(slot + 1, slots);
        EXPECT_EQ(meet, span.first <= i && i <= span.last) << slot << " " << i;
      }
    }
  }
}

TEST(PoolAddresses, AreThoseOfAllEpochsSorted) {
  PoolHistory history;
  history.current = epoch_of(2, 251, {{address_of(9), 100}, {address_of(3), 0}});
  history.incoming = epoch_of(3, 251, {{address_of(3), 100}, {address_of(4), 100}});
  history.earlier = {epoch_of(1, 251, {{address_of(1), 100}, {address_of(9), 100}})};
  const std::vector<Address> expected = {address_of(1), address_of(3), address_of(4),
                                         address_of(9)};
  EXPECT_EQ(pool_addresses(history), expected);
}

TEST(EpochHops, AreTheFillInPoolIndices) {
  const std::vector<MaglevBackend> members = members_of(5);
  std::vector<Address> addresses{address_of(0)};  // of another epoch: all indices are one higher
  for (const MaglevBackend& member : members) addresses.push_back(member.address);
  const EpochHops hops = epoch_hops(epoch_of(1, 257, members), addresses);
  const std::vector<uint16_t> fill = maglev_table(members, 257, 2);
  ASSERT_EQ(hops.hops, 2u);
  for (uint32_t slot = 0; slot < 257; ++slot) {
    EXPECT_EQ(hops.owner(slot), fill[slot * 2] + 1);
    EXPECT_EQ(hops.stand_in(slot), fill[slot * 2 + 1] + 1);
  }
}

TEST(EpochHops, DoNotDependOnTheOrderOfMembers) {
  std::vector<MaglevBackend> members = members_of(9);
  for (size_t i = 0; i < members.size(); ++i) members[i].weight = static_cast<uint32_t>(i * 37);
  PoolHistory history;
  history.current = epoch_of(1, 509, members);
  const std::vector<Address> addresses = pool_addresses(history);
  const EpochHops sorted = epoch_hops(history.current, addresses);
  std::mt19937 random(7);
  for (int i = 0; i < 10; ++i) {
    std::shuffle(history.current.members.begin(), history.current.members.end(), random);
    EXPECT_EQ(epoch_hops(history.current, addresses).hop, sorted.hop);
  }
}

TEST(EpochHops, OfAResizedTableAreThoseWhereTheSlotBegins) {
  for (const auto& [slots, fill] : {std::pair{509u, 251u}, {251u, 509u}}) {
    PoolHistory history;
    history.current = epoch_of(1, fill, members_of(6));
    const std::vector<Address> addresses = pool_addresses(history);
    const EpochHops whole = epoch_hops(history.current, addresses);
    history.current.slots = slots;
    const EpochHops resized = epoch_hops(history.current, addresses);
    ASSERT_EQ(resized.hop.size(), slots * 2);
    for (uint32_t slot = 0; slot < slots; ++slot) {
      const uint32_t from = slot_at(slot_start(slot, slots), fill);
      EXPECT_EQ(resized.owner(slot), whole.owner(from));
      EXPECT_EQ(resized.stand_in(slot), whole.stand_in(from));
    }
  }
}

TEST(EpochHops, KeptStandInsTakeTheFillsPlace) {
  PoolHistory history;
  history.current = epoch_of(1, 251, members_of(4));
  const std::vector<Address> addresses = pool_addresses(history);
  const EpochHops before = epoch_hops(history.current, addresses);
  uint16_t other = 0;
  while (other == before.owner(17) || other == before.stand_in(17)) ++other;
  history.current.kept_stand_ins[addresses[other]] = {17};
  const EpochHops after = epoch_hops(history.current, addresses);
  EXPECT_EQ(after.stand_in(17), other);
  EXPECT_EQ(after.owner(17), before.owner(17));
  EXPECT_EQ(after.stand_in(18), before.stand_in(18));
  // Of an epoch of which owners alone are left, they are of no interest.
  history.current.stand_ins = false;
  EXPECT_EQ(epoch_hops(history.current, addresses).stand_in(17), GW_NO_HOP);
}

TEST(EpochHops, OfMembersWithoutWeightAreNone) {
  PoolHistory history;
  history.current = epoch_of(1, 251, {{address_of(1), 0}, {address_of(2), 0}});
  const EpochHops hops = epoch_hops(history.current, pool_addresses(history));
  EXPECT_EQ(hops.hops, 0u);
  EXPECT_EQ(hops.owner(5), GW_NO_HOP);
  EXPECT_EQ(hops.stand_in(5), GW_NO_HOP);
  history.current.members[1].weight = 1;
  const EpochHops one = epoch_hops(history.current, pool_addresses(history));
  EXPECT_EQ(one.owner(5), 1);
  EXPECT_EQ(one.stand_in(5), GW_NO_HOP);
}

}  // namespace
}  // namespace guideway
