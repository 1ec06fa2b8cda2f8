// SPDX-License-Identifier: Apache-2.0
#include "controlplane/maglev.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cassert>
#include <cstddef>

#include "controlplane/intent.h"
#include "dataplane/abi.h"

namespace guideway {
namespace {

// A walk through one backend's permutation. Both are below M < 2^24: their sum fits.
struct Walk {
  uint32_t at;
  uint32_t skip;

  void step(uint32_t slots) {
    at += skip;
    if (at >= slots) at -= slots;
  }
};

Walk start_of_walk(const Address& address, uint32_t slots) {
  const XXH128_hash_t hash = XXH3_128bits(address.bytes.data(), address.bytes.size());
  return {static_cast<uint32_t>(hash.low64 % slots),
          static_cast<uint32_t>(hash.high64 % (slots - 1)) + 1};
}

std::vector<Walk> walks_of(std::span<const MaglevBackend> backends, uint32_t slots) {
  std::vector<Walk> walks;
  walks.reserve(backends.size());
  for (const MaglevBackend& backend : backends) {
    walks.push_back(start_of_walk(backend.address, slots));
  }
  return walks;
}

// One bit per slot: for the usual table sizes it stays in the first-level cache.
class SlotSet {
 public:
  explicit SlotSet(uint32_t slots) : words_(slots / 64 + 1) {}
  bool has(uint32_t slot) const { return words_[slot / 64] >> (slot % 64) & 1; }
  void add(uint32_t slot) { words_[slot / 64] |= uint64_t{1} << (slot % 64); }

 private:
  std::vector<uint64_t> words_;
};

// Calls each(round) for the turns of one backend: its k-th turn is in the first round r with
// r * weight >= k * largest, so credit and division are not needed round by round.
template <typename Each>
void for_each_turn(uint32_t quota, uint32_t weight, uint32_t largest, const Each& each) {
  const uint32_t gap = largest / weight;
  const uint32_t rest = largest % weight;
  uint32_t round = 0;
  uint32_t over = 0;  // round * weight - k * largest == over, below weight
  for (uint32_t k = 0; k < quota; ++k) {
    round += gap;
    if (over < rest) {
      ++round;
      over += weight - rest;
    } else {
      over -= rest;
    }
    each(round);
  }
}

// Whose turn it is, in order: by round, and within a round by index. `slots` turns in all. A
// counting sort, so that the cost does not depend on how unequal the weights are.
std::vector<uint16_t> turns_of(std::span<const uint32_t> weights, uint32_t slots) {
  const std::vector<uint32_t> quotas = maglev_quotas(weights, slots);
  const uint32_t largest = *std::max_element(weights.begin(), weights.end());
  uint64_t rounds = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (quotas[i] == 0) continue;
    const uint64_t last = (uint64_t{quotas[i]} * largest + weights[i] - 1) / weights[i];
    rounds = std::max(rounds, last);
  }
  std::vector<uint32_t> start(rounds + 2);
  for (size_t i = 0; i < weights.size(); ++i) {
    for_each_turn(quotas[i], std::max(weights[i], 1u), largest,
                  [&](uint32_t round) { ++start[round + 1]; });
  }
  for (size_t round = 1; round < start.size(); ++round) start[round] += start[round - 1];
  std::vector<uint16_t> turns(slots);
  for (size_t i = 0; i < weights.size(); ++i) {
    for_each_turn(quotas[i], std::max(weights[i], 1u), largest,
                  [&](uint32_t round) { turns[start[round]++] = static_cast<uint16_t>(i); });
  }
  return turns;
}

void fill_owners(std::vector<Walk> walks, const std::vector<uint16_t>& turns, uint32_t slots,
                 unsigned hops, std::vector<uint16_t>& hop) {
  SlotSet taken(slots);
  for (const uint16_t i : turns) {
    Walk walk = walks[i];
    while (taken.has(walk.at)) walk.step(slots);
    taken.add(walk.at);
    hop[size_t{walk.at} * hops] = i;
    walk.step(slots);
    walks[i] = walk;
  }
}

void fill_stand_ins(std::vector<Walk> walks, const std::vector<uint16_t>& turns, uint32_t slots,
                    std::vector<uint16_t>& hop) {
  struct Stander {
    Walk walk;
    uint32_t own = 0;  // slots that it owns and that have no stand-in yet
    uint64_t credit = 0;
  };
  std::vector<Stander> standers(walks.size());
  for (size_t i = 0; i < walks.size(); ++i) standers[i].walk = walks[i];
  for (uint32_t slot = 0; slot < slots; ++slot) ++standers[hop[size_t{slot} * 2]].own;

  SlotSet taken(slots);
  uint32_t left = slots;
  for (size_t turn = 0; left > 0; turn = turn + 1 < turns.size() ? turn + 1 : 0) {
    const uint16_t i = turns[turn];
    Stander& stander = standers[i];
    // `left` shrinks meanwhile; credit that is above it is kept for the next turn, but no slot is
    // taken unless there is one that is not its own.
    stander.credit += left - stander.own;
    if (stander.credit < left || left == stander.own) continue;
    stander.credit -= left;
    Walk walk = stander.walk;
    while (taken.has(walk.at) || hop[size_t{walk.at} * 2] == i) walk.step(slots);
    taken.add(walk.at);
    hop[size_t{walk.at} * 2 + 1] = i;
    --standers[hop[size_t{walk.at} * 2]].own;
    --left;
    walk.step(slots);
    stander.walk = walk;
  }
}

}  // namespace

std::vector<uint32_t> maglev_quotas(std::span<const uint32_t> weights, uint32_t slots) {
  std::vector<uint32_t> quotas(weights.size());
  uint64_t sum = 0;
  for (const uint32_t weight : weights) sum += weight;
  if (sum == 0) return quotas;

  std::vector<std::pair<uint64_t, size_t>> fractions;  // remainder, index
  fractions.reserve(weights.size());
  uint32_t left = slots;
  for (size_t i = 0; i < weights.size(); ++i) {
    const uint64_t scaled = uint64_t{slots} * weights[i];
    quotas[i] = static_cast<uint32_t>(scaled / sum);
    left -= quotas[i];
    fractions.emplace_back(scaled % sum, i);
  }
  const auto larger_first = [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  };
  std::nth_element(fractions.begin(), fractions.begin() + left, fractions.end(), larger_first);
  for (uint32_t i = 0; i < left; ++i) ++quotas[fractions[i].second];
  return quotas;
}

std::vector<uint16_t> maglev_table(std::span<const MaglevBackend> backends, uint32_t slots,
                                   unsigned hops) {
  assert(slots >= kTableSlotsMin && slots <= GW_TABLE_SLOTS_MAX);
  assert(hops >= 1 && hops <= 2 && backends.size() <= GW_POOL_BACKENDS_MAX);
  std::vector<uint32_t> weights;
  uint64_t sum = 0;
  size_t usable = 0;
  for (const MaglevBackend& backend : backends) {
    weights.push_back(backend.weight);
    sum += backend.weight;
    usable += backend.weight > 0;
  }
  if (usable == 0) return {};

  std::vector<uint16_t> hop(size_t{slots} * hops, GW_NO_HOP);
  const std::vector<Walk> walks = walks_of(backends, slots);
  std::vector<uint16_t> turns = turns_of(weights, slots);
  fill_owners(walks, turns, slots, hops, hop);
  if (hops == 1 || usable == 1) return hop;

  // A backend with nearly all of the weight would have nearly all turns and nothing to take.
  const auto heaviest = std::max_element(weights.begin(), weights.end());
  const uint64_t others = sum - *heaviest;
  if (*heaviest > 15 * others) {
    *heaviest = static_cast<uint32_t>(15 * others);
    turns = turns_of(weights, slots);
  }
  fill_stand_ins(walks, turns, slots, hop);
  return hop;
}

}  // namespace guideway
