// SPDX-License-Identifier: Apache-2.0
// The hop table of a pool: for each slot the backends that may hold a flow's socket. A pure
// function of the pool's epochs: same history, same bytes, same digest, on every node. Health is
// not in it; it only orders what is there (order_hops). Why: docs/design/hops.md.
//
// A slot's list, at most GW_HOPS_MAX backends, none twice:
//   owner | earlier owners, the most recent first | incoming owner
//         | stand-ins of the earlier epochs, of the incoming one | stand-in
// An epoch with a table of another size gives the hops of all its slots whose ranges overlap.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "controlplane/epochs.h"
#include "dataplane/abi.h"

namespace guideway {

// An entry is a pool-local index (below GW_POOL_BACKENDS_MAX) and its roles, or GW_NO_HOP.
// Role bits are set on every entry but owner and stand-in; on the stand-in only if it also is an
// incoming or earlier owner. So a slot changes, or changed, if any entry has a role bit.
inline constexpr uint16_t kHopIncoming = GW_HOP_INCOMING;
inline constexpr uint16_t kHopEarlier = GW_HOP_EARLIER;
inline constexpr uint16_t kHopIndex = GW_HOP_INDEX;
inline constexpr uint16_t kHopRoles = kHopIncoming | kHopEarlier;
static_assert(GW_POOL_BACKENDS_MAX <= kHopIndex, "GW_NO_HOP is no index with roles");

struct HopTable {
  std::vector<Address> backends;  // pool_addresses of the history
  uint32_t slots = 0;             // that of the current epoch
  uint32_t hops = 0;              // entries per slot: of the longest list
  bool owners = false;            // entry 0 is the owner; else no member has weight: no new flow
  bool stand_ins = false;         // the last entry of each list is the slot's stand-in
  std::vector<uint16_t> hop;      // [slots][hops]; after the list's end GW_NO_HOP

  std::span<const uint16_t> slot(uint32_t slot) const;  // without GW_NO_HOP
  std::optional<uint16_t> index_of(const Address& address) const;
  // Whether the list for this flow (the upper half of its hash) has the backend.
  bool reaches(uint32_t hash32, const Address& address) const;
  uint64_t digest() const;
};

// The first slot whose list has no room.
struct HopShortage {
  struct Held {
    Address address;
    uint64_t epoch = 0;  // the most recent earlier epoch that has it in this slot
  };
  uint32_t slot = 0;
  uint32_t hops = 0;       // it would need; 0: the pool has more than GW_POOL_BACKENDS_MAX backends
  std::vector<Held> held;  // those that only earlier epochs bring
};

// Nothing, and `shortage` filled in (if given), if any slot would need more than GW_HOPS_MAX hops
// or the pool more than GW_POOL_BACKENDS_MAX backends. With a one-step history a slot just leaves
// out the owners that it has no room for, as many do when its table gets a smaller one.
std::optional<HopTable> build_hop_table(const PoolHistory& history,
                                        HopShortage* shortage = nullptr);

// Gives the incoming epoch of `history`, which has the current one's table size, the stand-ins that
// let it fit: where a list would have no room for its own, one of the hops that the slot has
// anyway. At most kKeptStandInsMax slots; where it cannot, all stays as it is.
inline constexpr uint32_t kKeptStandInsMax = 8192;
void keep_stand_ins(PoolHistory& history);

// ---- Health

enum class HopHealth : uint8_t {
  up,
  lingers,  // down, not yet for down_linger: others may still send it flows, or it may be a mistake
  gone,     // down for longer: left out, so that orphans get their RST
};

struct HopList {
  std::array<uint16_t, GW_HOPS_MAX> index{};  // pool-local, without roles
  uint32_t count = 0;
  // Whether a SYN may take this list: the first hop is owner or stand-in. If neither is left, a
  // connection could begin on a hop that the next revision takes away.
  bool takes_new = false;
  bool operator==(const HopList&) const = default;
};

// The list that a packet carries: what is up comes first, in the table's order, but the stand-in
// leads if the owner is not up. `health`: by pool-local index. Nothing up: the table's order.
HopList order_hops(std::span<const uint16_t> slot, bool owners, bool stand_ins,
                   std::span<const HopHealth> health);

// ---- What must be known before an earlier epoch may go

enum class EpochPart : uint8_t {
  stand_ins,  // of that epoch
  all,        // of that epoch
  and_older,  // that epoch and all that are older
};

struct HashRange {  // of the upper half of flow hashes, both ends included
  uint32_t first = 0;
  uint32_t last = 0;
  bool operator==(const HashRange&) const = default;
};

struct BackendRanges {
  Address address;
  std::vector<HashRange> ranges;  // ascending, not adjacent
};

// `history` without an earlier epoch, without its stand-ins, or without it and all older ones.
PoolHistory without(PoolHistory history, uint64_t epoch, EpochPart part);

// The hops of all epochs of a history, made once for many questions.
struct HistoryHops {
  std::vector<Address> addresses;                       // pool_addresses
  std::vector<EpochHops> staying;                       // of the current and the incoming epoch
  std::vector<std::pair<uint64_t, EpochHops>> earlier;  // by number of the epoch
};
HistoryHops hops_of(const PoolHistory& history);

// The hashes for which a backend is a hop by that part of the earlier epochs alone: flows there
// lose their way when it goes, and begin there no more. In order of address; none without a range.
std::vector<BackendRanges> ranges_only_in(const HistoryHops& hops, uint64_t epoch, EpochPart part);

}  // namespace guideway
