// SPDX-License-Identifier: Apache-2.0
// The epochs of a pool: who owned which slot, now, next and before. They are durable intent, and
// all that a hop list is made of (see hop_table.h); how they come and go is in change_plan.h. Why:
// docs/design/hops.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "controlplane/maglev.h"
#include "dataplane/address.h"

namespace guideway {

// What the operator wants of a pool's table. `members` in order of address, each once: two lists
// that differ in order alone are one shape (see sorted_members).
struct PoolShape {
  uint32_t slots = 0;
  std::vector<MaglevBackend> members;
  bool operator==(const PoolShape&) const = default;
};

// One assignment of slots. Weight 0: a member without slots, e.g. one that drains.
struct Epoch {
  uint64_t number = 0;      // of this pool, only grows
  uint32_t slots = 0;       // of the table
  uint32_t fill_slots = 0;  // of the Maglev fill: slot i has the hops of the slot of that fill in
                            // which the range of i begins. Not `slots` only while a table is being
                            // resized (see next_epoch)
  std::vector<MaglevBackend> members;  // in order of address
  // Slots whose stand-in is not the fill's: it was chosen among the hops that the slot had, where a
  // further one would have had no room (see keep_stand_ins). Members; slots ascending.
  std::map<Address, std::vector<uint32_t>> kept_stand_ins;
  bool stand_ins = true;  // false: an earlier epoch of which only owners can still hold sockets
  bool operator==(const Epoch&) const = default;
};

// `one_step`, for l2 and ipip: packets carry no list, so there is nothing to prepare. Flows stay
// where they are by the workers' flow tables; those that no table knows yet began before the one
// earlier epoch was left, with which goes on all that was changed since: see pool_plan.h.
struct PoolHistory {
  bool one_step = false;
  Epoch current;
  std::optional<Epoch> incoming;  // prepared: the next `current`
  std::vector<Epoch> earlier;     // the most recent first
  bool operator==(const PoolHistory&) const = default;
};

std::vector<MaglevBackend> sorted_members(std::vector<MaglevBackend> members);

// The pool's backends: all members of all epochs, in order of address. The pool-local index.
std::vector<Address> pool_addresses(const PoolHistory& history);

// ---- Ranges. A slot of a table covers a range of the upper 32 bits of the flow hash (flow.h).

// The first hash of `slot`; of slot == slots, 2^32.
inline uint64_t slot_start(uint32_t slot, uint32_t slots) {
  return ((uint64_t{slot} << 32) + slots - 1) / slots;
}

inline uint32_t slot_at(uint64_t hash32, uint32_t slots) {
  return static_cast<uint32_t>((hash32 * slots) >> 32);
}

// The slots of a table of `other` slots whose ranges overlap that of `slot` of a table of `slots`.
struct SlotSpan {
  uint32_t first = 0;
  uint32_t last = 0;
};
inline SlotSpan overlapping(uint32_t slot, uint32_t slots, uint32_t other) {
  if (slots == other) return {slot, slot};
  return {slot_at(slot_start(slot, slots), other), slot_at(slot_start(slot + 1, slots) - 1, other)};
}

// ---- The hops of one epoch, as indices into pool_addresses.

struct EpochHops {
  uint32_t slots = 0;
  unsigned hops = 0;          // per slot: 0 no member has weight, 1 owner, 2 owner and stand-in
  std::vector<uint16_t> hop;  // [slots][hops]; GW_NO_HOP: no stand-in

  uint16_t owner(uint32_t slot) const;     // GW_NO_HOP if there is none
  uint16_t stand_in(uint32_t slot) const;  // GW_NO_HOP if there is none
};

// `addresses` are sorted and contain all members of the epoch.
EpochHops epoch_hops(const Epoch& epoch, std::span<const Address> addresses);

}  // namespace guideway
