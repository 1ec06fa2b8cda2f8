// SPDX-License-Identifier: Apache-2.0
// The spare of a slot: who takes a new flow when none of the slot's hops does (owner and stand-in
// are both out). A pure function of the slot and of the pool's backends, the same on every node
// that sees them alike; the worker and `guideway explain` share it.
//
// Each slot has an order of its own over the backends, which does not depend on their health: first
// 32 drawn by lot, each accepted with the odds weight / greatest weight of the pool, then all in
// a row from a place of the slot's own. The spare is the first in that order that takes new flows
// of the slot. So when a backend goes, only the slots move whose spare it was; when it comes back,
// only those that meet it earlier than their spare of now. Slots spread over the backends by weight
// as long as one of the 32 is found, which is sure unless nearly all the pool is out.
//
// Cost: at most 32 draws, and a walk over one number per 64 backends. Where spares are asked for
// each packet, a memo saves that from the second time on: see remember().
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "dataplane/abi.h"
#include "dataplane/flow.h"

namespace guideway {

class SparePool {
 public:
  static constexpr uint32_t kDraws = 32;

  SparePool() = default;

  // At most GW_POOL_BACKENDS_MAX. Keeps no reference.
  explicit SparePool(std::span<const gw_backend> backends)
      : candidates_(backends.size()), block_share_((backends.size() + kBlock - 1) / kBlock) {
    for (size_t i = 0; i < backends.size(); ++i) {
      const gw_backend& b = backends[i];
      const bool usable = b.weight != 0 && b.outer_bytes != 0;
      candidates_[i] = {usable ? b.share : 0, b.weight};
      block_share_[i / kBlock] = std::max(block_share_[i / kBlock], candidates_[i].share);
      share_most_ = std::max(share_most_, candidates_[i].share);
      weight_most_ = std::max<uint32_t>(weight_most_, b.weight);
    }
  }

  // Spares of the slots below `slots` are worked out once, by whoever asks first. Any thread may
  // ask: what two find at the same time is the same.
  void remember(uint32_t slots) {
    memo_ = std::make_unique<std::atomic<uint16_t>[]>(slots);
    memo_slots_ = slots;
  }
  void prefetch(uint32_t slot) const {
    if (memo_) __builtin_prefetch(&memo_[slot]);
  }

  // At least two backends do not take all new flows that they could: owner and stand-in of some
  // slot may both be out.
  bool may_be_needed() const {
    const auto out = [](const Candidate& c) { return c.share < GW_SHARE_ALL; };
    return std::count_if(candidates_.begin(), candidates_.end(), out) > 1;
  }

  // Index in the span; GW_NO_HOP: no backend takes new flows of this slot.
  uint16_t spare(uint32_t slot) const {
    if (slot >= memo_slots_) return work_out(slot);
    // One more than the spare; 0 is not known yet, and GW_NO_HOP stays so.
    std::atomic<uint16_t>& memo = memo_[slot];
    const uint16_t known = memo.load(std::memory_order_relaxed);
    if (known != 0) return static_cast<uint16_t>(known - 1);
    const uint16_t found = work_out(slot);
    memo.store(static_cast<uint16_t>(found + 1), std::memory_order_relaxed);
    return found;
  }

 private:
  uint16_t work_out(uint32_t slot) const {
    if (!share_covers(share_most_, slot)) return GW_NO_HOP;
    for (uint32_t i = 0; i < kDraws; ++i) {
      const uint64_t lot = mix(slot, i);
      const uint32_t at = place(lot);
      const Candidate& candidate = candidates_[at];
      // Where a spare is needed, most are out: so this is asked first.
      if (!share_covers(candidate.share, slot)) continue;
      const bool accepted = (lot & UINT32_MAX) * weight_most_ < uint64_t{candidate.weight} << 32;
      if (accepted) return static_cast<uint16_t>(at);
    }
    return first_from(place(mix(slot, kDraws)), slot);
  }

  static constexpr uint32_t kBlock = 64;

  struct Candidate {
    uint32_t share;  // 0: weight 0, or no next hop
    uint32_t weight;
  };

  // SplitMix64's output function (Steele, Lea, Flood: OOPSLA 2014) over both numbers.
  static uint64_t mix(uint32_t slot, uint32_t draw) {
    uint64_t z = (uint64_t{slot} << 32 | draw) + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  // A backend by the upper half of the lot; the lower one decides about its weight.
  uint32_t place(uint64_t lot) const {
    return static_cast<uint32_t>(((lot >> 32) * candidates_.size()) >> 32);
  }

  // The first that covers the slot, from `start` on and round to it again. There is one.
  uint16_t first_from(uint32_t start, uint32_t slot) const {
    const auto count = static_cast<uint32_t>(candidates_.size());
    // The last round is the start's block again, for what stands in it before the start.
    for (uint32_t steps = 0, at = start; steps < count;) {
      const uint32_t end = std::min(count, (at / kBlock + 1) * kBlock);
      if (share_covers(block_share_[at / kBlock], slot)) {
        for (uint32_t i = at; i < end; ++i) {
          if (share_covers(candidates_[i].share, slot)) return static_cast<uint16_t>(i);
        }
      }
      steps += end - at;
      at = end == count ? 0 : end;
    }
    return GW_NO_HOP;
  }

  std::vector<Candidate> candidates_;
  std::vector<uint32_t> block_share_;  // the greatest of each block of candidates
  uint32_t share_most_ = 0;
  uint32_t weight_most_ = 0;
  std::unique_ptr<std::atomic<uint16_t>[]> memo_;  // by slot
  uint32_t memo_slots_ = 0;
};

}  // namespace guideway
