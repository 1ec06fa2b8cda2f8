// SPDX-License-Identifier: Apache-2.0
#include "controlplane/maglev.h"

#define XXH_INLINE_ALL
#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>

#include "controlplane/intent.h"
#include "dataplane/abi.h"

namespace guideway {
namespace {

constexpr uint32_t kSlots = 65537;
using Pool = std::vector<MaglevBackend>;

Address address_of(unsigned i) {
  const uint8_t bytes[4] = {10, static_cast<uint8_t>(i >> 16), static_cast<uint8_t>(i >> 8),
                            static_cast<uint8_t>(i)};
  return Address::from_v4(bytes);
}

Pool pool_of(const std::vector<uint32_t>& weights) {
  Pool pool;
  for (size_t i = 0; i < weights.size(); ++i)
    pool.push_back({address_of(static_cast<unsigned>(i + 1)), weights[i]});
  return pool;
}

// Equal, slightly different, and wildly different weights, some of them 0.
std::vector<uint32_t> random_weights(std::mt19937& random, size_t most) {
  std::vector<uint32_t> weights(1 + random() % most);
  const unsigned style = random() % 3;
  for (uint32_t& weight : weights) {
    if (style == 0) weight = 100;
    if (style == 1) weight = 50 + random() % 100;
    if (style == 2) weight = random() % 5 == 0 ? 0 : 1u << (random() % 16);
  }
  if (std::all_of(weights.begin(), weights.end(), [](uint32_t w) { return w == 0; }))
    weights[0] = 1;
  return weights;
}

// ---- The oracle: the same rules, told as simply as possible. Slow.

std::vector<uint32_t> oracle_quotas(const std::vector<uint64_t>& weights, uint64_t slots) {
  const uint64_t sum = std::accumulate(weights.begin(), weights.end(), uint64_t{0});
  std::vector<uint32_t> quotas;
  std::vector<size_t> order;
  uint64_t given = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    quotas.push_back(static_cast<uint32_t>(slots * weights[i] / sum));
    given += quotas.back();
    order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return slots * weights[a] % sum > slots * weights[b] % sum;
  });
  for (size_t i = 0; given < slots; ++i, ++given) ++quotas[order[i]];
  return quotas;
}

std::vector<size_t> oracle_turns(const std::vector<uint64_t>& weights, uint32_t slots) {
  std::vector<uint32_t> quotas = oracle_quotas(weights, slots);
  const uint64_t largest = *std::max_element(weights.begin(), weights.end());
  std::vector<uint64_t> credit(weights.size());
  std::vector<size_t> turns;
  while (turns.size() < slots) {
    for (size_t i = 0; i < weights.size(); ++i) {
      credit[i] += weights[i];
      if (credit[i] < largest) continue;
      credit[i] -= largest;
      if (quotas[i] == 0) continue;
      --quotas[i];
      turns.push_back(i);
    }
  }
  return turns;
}

std::vector<std::vector<uint32_t>> oracle_permutations(const Pool& pool, uint32_t slots) {
  std::vector<std::vector<uint32_t>> permutations;
  for (const MaglevBackend& backend : pool) {
    const auto hash = XXH3_128bits(backend.address.bytes.data(), 16);
    const uint64_t offset = hash.low64 % slots;
    const uint64_t skip = hash.high64 % (slots - 1) + 1;
    std::vector<uint32_t> permutation;
    for (uint64_t i = 0; i < slots; ++i)
      permutation.push_back(static_cast<uint32_t>((offset + i * skip) % slots));
    permutations.push_back(permutation);
  }
  return permutations;
}

std::vector<uint16_t> oracle_table(const Pool& pool, uint32_t slots) {
  std::vector<uint64_t> weights;
  for (const MaglevBackend& backend : pool) weights.push_back(backend.weight);
  const auto permutations = oracle_permutations(pool, slots);
  std::vector<uint16_t> hop(size_t{slots} * 2, GW_NO_HOP);

  for (const size_t i : oracle_turns(weights, slots)) {
    for (const uint32_t slot : permutations[i]) {
      if (hop[slot * 2] != GW_NO_HOP) continue;
      hop[slot * 2] = static_cast<uint16_t>(i);
      break;
    }
  }
  if (std::count_if(weights.begin(), weights.end(), [](uint64_t w) { return w > 0; }) < 2)
    return hop;

  const uint64_t sum = std::accumulate(weights.begin(), weights.end(), uint64_t{0});
  for (uint64_t& weight : weights) weight = std::min(weight, 15 * (sum - weight));
  const std::vector<size_t> turns = oracle_turns(weights, slots);
  std::vector<uint64_t> credit(weights.size());
  for (size_t turn = 0;; ++turn) {
    const size_t i = turns[turn % turns.size()];
    uint64_t left = 0;
    uint64_t not_own = 0;
    for (uint32_t slot = 0; slot < slots; ++slot) {
      if (hop[slot * 2 + 1] != GW_NO_HOP) continue;
      ++left;
      not_own += hop[slot * 2] != i;
    }
    if (left == 0) return hop;
    credit[i] += not_own;
    if (credit[i] < left || not_own == 0) continue;
    credit[i] -= left;
    for (const uint32_t slot : permutations[i]) {
      if (hop[slot * 2 + 1] != GW_NO_HOP || hop[slot * 2] == i) continue;
      hop[slot * 2 + 1] = static_cast<uint16_t>(i);
      break;
    }
  }
}

// ---- Tests

TEST(Maglev, EqualsTheOracle) {
  std::mt19937 random(1);
  for (int round = 0; round < 60; ++round) {
    const uint32_t slots = round % 2 ? 251 : 509;
    const Pool pool = pool_of(random_weights(random, round < 30 ? 8 : 60));
    ASSERT_EQ(maglev_table(pool, slots, 2), oracle_table(pool, slots)) << "round " << round;
  }
}

TEST(Maglev, EqualsTheOracleWhereWeightsAreExtreme) {
  for (const std::vector<uint32_t>& weights : {std::vector<uint32_t>{1},
                                               {0, 7},
                                               {65535, 1},
                                               {1, 65535},
                                               {65535, 1, 1},
                                               {65535, 65535, 1},
                                               {98, 1, 1},
                                               {2, 1, 1},
                                               {1, 1},
                                               {0, 0, 3, 0, 3},
                                               {65535, 65534, 65533}}) {
    const Pool pool = pool_of(weights);
    ASSERT_EQ(maglev_table(pool, 251, 2), oracle_table(pool, 251)) << weights.size();
  }
}

TEST(Maglev, OwnersDoNotDependOnTheNumberOfHops) {
  const Pool pool = pool_of({10, 20, 30});
  const auto one = maglev_table(pool, kSlots, 1);
  const auto two = maglev_table(pool, kSlots, 2);
  ASSERT_EQ(one.size() * 2, two.size());
  for (size_t slot = 0; slot < one.size(); ++slot) ASSERT_EQ(one[slot], two[slot * 2]);
}

TEST(Maglev, SharesAreExactAndEverySlotHasTwoHops) {
  std::mt19937 random(2);
  for (int round = 0; round < 40; ++round) {
    const auto weights = random_weights(random, 100);
    const auto hop = maglev_table(pool_of(weights), kSlots, 2);
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    const bool alone =
        std::count_if(weights.begin(), weights.end(), [](uint32_t w) { return w > 0; }) == 1;
    std::vector<uint32_t> owned(weights.size());
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
      ASSERT_LT(hop[slot * 2], weights.size());
      ++owned[hop[slot * 2]];
      if (alone) {
        ASSERT_EQ(hop[slot * 2 + 1], GW_NO_HOP);
        continue;
      }
      ASSERT_LT(hop[slot * 2 + 1], weights.size());
      ASSERT_NE(hop[slot * 2 + 1], hop[slot * 2]);
      ASSERT_GT(weights[hop[slot * 2 + 1]], 0u);
    }
    for (size_t i = 0; i < weights.size(); ++i) {
      const double share = kSlots * weights[i] / sum;
      ASSERT_LE(std::abs(owned[i] - share), 1.0) << "weight " << weights[i];
      if (weights[i] == 0) {
        ASSERT_EQ(owned[i], 0u);
      }
    }
  }
}

// When one backend dies, what the others take of it is in proportion to their weights.
TEST(Maglev, OrphansSpreadByWeight) {
  std::mt19937 random(3);
  std::vector<std::vector<uint32_t>> pools = {
      {2, 1, 1}, {100, 100, 100}, {100, 1, 100}, {7, 5, 3, 2}, std::vector<uint32_t>(50, 1)};
  for (int i = 0; i < 10; ++i) {
    std::vector<uint32_t> weights(3 + random() % 30);
    for (uint32_t& weight : weights) weight = 20 + random() % 200;
    pools.push_back(weights);
  }
  for (const auto& weights : pools) {
    const auto hop = maglev_table(pool_of(weights), kSlots, 2);
    const size_t n = weights.size();
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<std::vector<uint32_t>> takes(n, std::vector<uint32_t>(n));
    for (uint32_t slot = 0; slot < kSlots; ++slot) ++takes[hop[slot * 2]][hop[slot * 2 + 1]];
    for (size_t dead = 0; dead < n; ++dead) {
      const double orphans = std::accumulate(takes[dead].begin(), takes[dead].end(), 0.0);
      double off = 0;
      double fair_off = 0;
      for (size_t i = 0; i < n; ++i) {
        if (i == dead) continue;
        const double expected = orphans * weights[i] / (sum - weights[dead]);
        off += std::abs(takes[dead][i] - expected);
        fair_off += 0.8 * std::sqrt(expected);  // of a draw by weight
        // Two backends whose walks happen to be alike (skips in a small ratio) meet more often.
        ASSERT_LE(takes[dead][i], 3 * expected + 10) << n << ": " << dead << " to " << i;
        ASSERT_GE(takes[dead][i], expected / 3 - 10) << n << ": " << dead << " to " << i;
      }
      ASSERT_LE(off, 1.25 * fair_off + 0.03 * orphans) << n << " backends, dead " << dead;
    }
  }
}

TEST(Maglev, ADominantBackendHasStandInsForAllItsSlots) {
  const auto hop = maglev_table(pool_of({65535, 10, 10, 10}), kSlots, 2);
  std::vector<uint32_t> takes(4);
  for (uint32_t slot = 0; slot < kSlots; ++slot) {
    if (hop[slot * 2] == 0) ++takes[hop[slot * 2 + 1]];
  }
  for (int i = 1; i < 4; ++i) EXPECT_NEAR(takes[i], 65507.0 / 3, 0.05 * 65507 / 3);
}

TEST(Maglev, AddingABackendMovesLittleMoreThanItsShare) {
  for (const uint32_t n : {3u, 10u, 100u}) {
    const auto before = maglev_table(pool_of(std::vector<uint32_t>(n, 100)), kSlots, 2);
    const auto after = maglev_table(pool_of(std::vector<uint32_t>(n + 1, 100)), kSlots, 2);
    uint32_t moved = 0;
    uint32_t to_others = 0;
    uint32_t stand_in_was_owner = 0;
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
      const uint16_t owner = after[slot * 2];
      moved += owner != before[slot * 2];
      to_others += owner != before[slot * 2] && owner != n;
      stand_in_was_owner += owner == n && after[slot * 2 + 1] == before[slot * 2];
    }
    const double share = kSlots / (n + 1.0);
    std::printf(
        "%u backends + 1: %.3f %% of slots move (share %.3f %%), %.3f %% among the old; the "
        "new one's stand-in is the former owner in %.0f %%\n",
        n, 100.0 * moved / kSlots, 100.0 / (n + 1), 100.0 * to_others / kSlots,
        100.0 * stand_in_was_owner / share);
    EXPECT_GE(moved, share - 1);
    EXPECT_LE(to_others, 0.05 * kSlots);
  }
}

TEST(Maglev, NoWeightNoTable) {
  EXPECT_TRUE(maglev_table(Pool{}, 251, 2).empty());
  EXPECT_TRUE(maglev_table(pool_of({0, 0}), 251, 2).empty());
  EXPECT_EQ(maglev_quotas(std::vector<uint32_t>{0, 0}, 251), (std::vector<uint32_t>{0, 0}));
}

TEST(Maglev, LargestTableAndMostBackends) {
  const std::vector<uint32_t> weights(GW_POOL_BACKENDS_MAX, 65535);
  const auto hop = maglev_table(pool_of(weights), 251, 2);
  for (const uint16_t h : hop) ASSERT_LT(h, GW_POOL_BACKENDS_MAX);
  const auto large = maglev_table(pool_of({65535, 1, 40000}), GW_TABLE_SLOTS_MAX, 1);
  EXPECT_EQ(std::count(large.begin(), large.end(), 1),
            std::lround(double{GW_TABLE_SLOTS_MAX} / (65535 + 1 + 40000)));
}

// The same bytes on every machine and in every later version: nodes of one cluster must agree.
TEST(Maglev, TheTableIsFixed) {
  const auto hop = maglev_table(pool_of({100, 100, 50, 0, 1}), kSlots, 2);
  EXPECT_EQ(XXH3_64bits(hop.data(), hop.size() * sizeof hop[0]), 4037261421661038742ull);
}

}  // namespace
}  // namespace guideway
