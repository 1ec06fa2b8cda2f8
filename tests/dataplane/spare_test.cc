// SPDX-License-Identifier: Apache-2.0
#include "dataplane/spare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace guideway {
namespace {

constexpr uint32_t kSlots = 5003;

gw_backend up(uint16_t weight = 1) {
  gw_backend b{};
  b.share = GW_SHARE_ALL;
  b.flags = GW_HOLDS;
  b.outer_bytes = 14;
  b.weight = weight;
  return b;
}

std::vector<uint16_t> spares(const std::vector<gw_backend>& backends, uint32_t slots = kSlots) {
  const SparePool pool(backends);
  std::vector<uint16_t> all(slots);
  for (uint32_t slot = 0; slot < slots; ++slot) all[slot] = pool.spare(slot);
  return all;
}

// From abi.h, not from the code under test.
bool may_take(const gw_backend& b, uint32_t slot) {
  return b.weight != 0 && b.outer_bytes != 0 && (slot * 0x9E3779B1u) >> 16 < b.share;
}

std::vector<gw_backend> random_pool(std::mt19937& random) {
  std::vector<gw_backend> pool(1 + random() % 200);
  const unsigned dead_of_100 = random() % 101;
  for (gw_backend& b : pool) {
    b = up(static_cast<uint16_t>(random() % 5 ? 1 + random() % 100 : 0));
    if (random() % 100 < dead_of_100) b.share = 0;
    if (random() % 8 == 0) b.outer_bytes = 0;
    if (random() % 3 == 0) b.share = random() % 65537;
  }
  return pool;
}

TEST(Spare, APoolOfNobodyHasNone) {
  EXPECT_EQ(SparePool().spare(3), GW_NO_HOP);
  EXPECT_EQ(SparePool(std::vector<gw_backend>{}).spare(3), GW_NO_HOP);
  EXPECT_EQ(SparePool(std::vector<gw_backend>{up(0)}).spare(3), GW_NO_HOP);
  EXPECT_EQ(SparePool(std::vector<gw_backend>{up(1)}).spare(3), 0);
}

TEST(Spare, ThereIsOneWheneverABackendTakesTheSlot) {
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    const auto pool = random_pool(random);
    const auto all = spares(pool, 1009);
    for (uint32_t slot = 0; slot < all.size(); ++slot) {
      const bool any = std::any_of(pool.begin(), pool.end(),
                                   [&](const gw_backend& b) { return may_take(b, slot); });
      ASSERT_EQ(all[slot] != GW_NO_HOP, any) << slot;
      if (any) {
        ASSERT_TRUE(may_take(pool.at(all[slot]), slot)) << slot;
      }
    }
  }
}

// What one backend's change may move: slots away from it when it takes less, to it when it takes
// more.
TEST(Spare, AChangeOfOneBackendMovesItsOwnSlotsOnly) {
  std::mt19937 random(2);
  int moved = 0;
  for (int i = 0; i < 500; ++i) {
    const auto before = random_pool(random);
    auto after = before;
    const auto changed = static_cast<uint16_t>(random() % after.size());
    gw_backend& b = after[changed];
    switch (random() % 3) {
      case 0:
        b.share = b.share ? 0 : GW_SHARE_ALL;
        break;
      case 1:
        b.outer_bytes = b.outer_bytes ? 0 : 14;
        break;
      default:
        b.share = random() % 65537;
        break;
    }
    const auto old_spares = spares(before, 1009);
    const auto new_spares = spares(after, 1009);
    for (uint32_t slot = 0; slot < old_spares.size(); ++slot) {
      if (old_spares[slot] == new_spares[slot]) continue;
      ++moved;
      const bool to_it = new_spares[slot] == changed && may_take(b, slot);
      const bool from_it = old_spares[slot] == changed && !may_take(b, slot);
      ASSERT_TRUE(to_it || from_it) << slot;
    }
  }
  EXPECT_GT(moved, 1000);
}

TEST(Spare, RecoveryBringsBackTheSameSlots) {
  std::mt19937 random(3);
  for (int i = 0; i < 50; ++i) {
    auto pool = random_pool(random);
    const auto before = spares(pool);
    const size_t dead = random() % pool.size();
    const uint32_t share = pool[dead].share;
    pool[dead].share = 0;
    (void)spares(pool);
    pool[dead].share = share;
    ASSERT_EQ(spares(pool), before);
  }
}

TEST(Spare, SlotsSpreadByWeight) {
  std::vector<gw_backend> pool;
  for (uint16_t i = 0; i < 100; ++i) pool.push_back(up(static_cast<uint16_t>(1 + i % 4)));
  for (size_t i = 0; i < pool.size(); i += 3) pool[i].share = 0;
  std::vector<double> got(pool.size());
  constexpr uint32_t kMany = 200003;
  for (const uint16_t spare : spares(pool, kMany)) ++got[spare];
  double weights = 0;
  for (size_t i = 0; i < pool.size(); ++i) weights += i % 3 ? pool[i].weight : 0;
  for (size_t i = 0; i < pool.size(); ++i) {
    const double fair = i % 3 ? kMany * pool[i].weight / weights : 0;
    EXPECT_NEAR(got[i], fair, fair * 0.15) << i;
  }
}

TEST(Spare, TheLastOfTenThousandGetsAll) {
  for (const size_t last : {0u, 4711u, 9999u}) {
    std::vector<gw_backend> pool(10000, up());
    for (gw_backend& b : pool) b.share = 0;
    pool[last].share = GW_SHARE_ALL;
    for (const uint16_t spare : spares(pool, 65537)) ASSERT_EQ(spare, last);
    pool[last].share = 100;
    const auto all = spares(pool, 65537);
    for (uint32_t slot = 0; slot < all.size(); ++slot)
      ASSERT_EQ(all[slot], may_take(pool[last], slot) ? last : GW_NO_HOP);
  }
}

TEST(Spare, WhatIsRememberedIsWhatWouldBeWorkedOut) {
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    const auto backends = random_pool(random);
    const auto expected = spares(backends);
    SparePool pool(backends);
    pool.remember(kSlots - 3);
    for (int i = 0; i < 20000; ++i) {
      const uint32_t slot = random() % kSlots;
      ASSERT_EQ(pool.spare(slot), expected[slot]) << i;
    }
  }
}

TEST(Spare, IsNeededOnlyWhenTwoAreOut) {
  std::vector<gw_backend> backends(5, up());
  EXPECT_FALSE(SparePool(backends).may_be_needed());
  backends[1].share = 0;
  EXPECT_FALSE(SparePool(backends).may_be_needed());
  backends[3].share = GW_SHARE_ALL - 1;
  EXPECT_TRUE(SparePool(backends).may_be_needed());
}

// The same on every node, whatever compiler built it: these values are part of the contract.
TEST(Spare, TheOrderIsFixed) {
  std::vector<gw_backend> pool(1000, up());
  const SparePool spare(pool);
  EXPECT_EQ(spare.spare(0), 883);
  EXPECT_EQ(spare.spare(1), 766);
  EXPECT_EQ(spare.spare(65536), 634);
  for (uint16_t i = 0; i < 1000; ++i) pool[i].weight = i % 7;
  EXPECT_EQ(SparePool(pool).spare(0), 566);
  EXPECT_EQ(SparePool(pool).spare(65536), 3);
}

}  // namespace
}  // namespace guideway
