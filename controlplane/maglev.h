// SPDX-License-Identifier: Apache-2.0
// Weighted Maglev lookup tables (Eisenbud et al., "Maglev: A Fast and Reliable Software Network
// Load Balancer", NSDI 2016, section 3.4), with a stand-in for each slot. A pure function of its
// arguments: integers only, so the same input gives the same table on every machine.
//
// Owners. Each backend walks its own permutation of the slots, (offset + i * skip) mod M, both from
// the XXH3 hash of its address. Where Maglev takes turns one slot each, here a backend has a turn
// whenever its credit, which grows by its weight each round, reaches the largest weight (a stride
// scheduler), and it ends at its quota: its share of M by largest remainder. So weights are exact,
// and a heavy backend is no crowd of replicas.
//
// Stand-ins: the backend that takes a slot over while its owner is down. The same fill once more,
// in which each backend walks its permutation from the start and skips the slots that it owns. At a
// turn it takes one with the odds (integer credit, no chance) that a slot still without stand-in
// is not its own. Thus the slots of each owner are divided among the others by their weights,
// whatever the weights are; a backend of more than 15/16 of all weight counts as 15/16 here.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/address.h"

namespace guideway {

struct MaglevBackend {
  Address address;
  uint32_t weight = 0;  // 0 to kWeightMax; 0: no slots
  bool operator==(const MaglevBackend&) const = default;
};

// How many of `slots` each weight gets: less than one off slots * weight / sum, in sum exactly
// `slots`; what is left over goes to the largest fractions, of equals to the earlier. If there are
// more weights than slots, some get none. All 0 if all weights are.
std::vector<uint32_t> maglev_quotas(std::span<const uint32_t> weights, uint32_t slots);

// uint16_t hop[slots][hops], the owner first; an index is that of the backend in `backends` (at
// most GW_POOL_BACKENDS_MAX). `slots`: a prime, kTableSlotsMin to GW_TABLE_SLOTS_MAX; `hops`: 1
// (owner) or 2 (owner, stand-in). The stand-in is GW_NO_HOP if only one backend has weight. Empty
// if none has.
std::vector<uint16_t> maglev_table(std::span<const MaglevBackend> backends, uint32_t slots,
                                   unsigned hops);

}  // namespace guideway
