// SPDX-License-Identifier: Apache-2.0
#include "controlplane/hop_table.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <map>
#include <utility>

namespace guideway {
namespace {

// The hops of an epoch that is not the current one, and what they count as.
struct Source {
  EpochHops hops;
  uint16_t role = 0;
  uint64_t epoch = 0;
};

// One slot's list while it is made.
class SlotList {
 public:
  SlotList(uint16_t owner, uint16_t stand_in) : owner_(owner), stand_in_(stand_in) {
    room_ = GW_HOPS_MAX - (owner != GW_NO_HOP) - (stand_in != GW_NO_HOP);
  }

  void add_owner(uint16_t index, uint16_t role) {
    if (index == stand_in_) {
      stand_in_roles_ |= role;
    } else {
      add(index, role);
    }
  }
  void add_stand_in(uint16_t index, uint16_t role) {
    if (index != stand_in_) add(index, role);
  }

  bool fits() const { return fits_; }

  // GW_HOPS_MAX entries.
  uint32_t write(uint16_t* entry) const {
    uint32_t count = 0;
    if (owner_ != GW_NO_HOP) entry[count++] = owner_;
    for (uint32_t i = 0; i < others_; ++i) entry[count++] = other_[i];
    if (stand_in_ != GW_NO_HOP) entry[count++] = stand_in_ | stand_in_roles_;
    return count;
  }

 private:
  void add(uint16_t index, uint16_t role) {
    if (index == GW_NO_HOP || index == owner_) return;
    for (uint32_t i = 0; i < others_; ++i) {
      if ((other_[i] & kHopIndex) != index) continue;
      other_[i] |= role;
      return;
    }
    if (others_ == room_) {
      fits_ = false;
      return;
    }
    other_[others_++] = index | role;
  }

  uint16_t owner_;
  uint16_t stand_in_;
  uint16_t stand_in_roles_ = 0;
  bool fits_ = true;
  uint32_t room_;
  uint32_t others_ = 0;
  std::array<uint16_t, GW_HOPS_MAX> other_{};
};

// Earlier ones first, the most recent in front: that is where most established flows are.
std::vector<Source> sources_of(const PoolHistory& history, std::span<const Address> addresses) {
  std::vector<Source> sources;
  for (const Epoch& epoch : history.earlier) {
    sources.push_back({epoch_hops(epoch, addresses), kHopEarlier, epoch.number});
  }
  if (history.incoming) {
    const Epoch& epoch = *history.incoming;
    sources.push_back({epoch_hops(epoch, addresses), kHopIncoming, epoch.number});
  }
  return sources;
}

// Calls owner(index, source) for each source, then stand_in(index, source) for each. An index may
// be GW_NO_HOP.
template <typename Owner, typename StandIn>
void for_each_hop(const std::vector<Source>& sources, uint32_t slot, uint32_t slots,
                  const Owner& owner, const StandIn& stand_in) {
  for (const Source& source : sources) {
    if (source.hops.hops == 0) continue;
    const SlotSpan span = overlapping(slot, slots, source.hops.slots);
    for (uint32_t i = span.first; i <= span.last; ++i) owner(source.hops.owner(i), source);
  }
  for (const Source& source : sources) {
    if (source.hops.hops < 2) continue;
    const SlotSpan span = overlapping(slot, slots, source.hops.slots);
    for (uint32_t i = span.first; i <= span.last; ++i) stand_in(source.hops.stand_in(i), source);
  }
}

HopShortage shortage_in(uint32_t slot, const EpochHops& current, const std::vector<Source>& sources,
                        const std::vector<Address>& addresses) {
  // The epoch that holds each hop; 0: it is one of the current or the incoming epoch.
  std::map<uint16_t, uint64_t> holders;
  const auto add = [&](uint16_t index, const Source& source) {
    if (index == GW_NO_HOP) return;
    const uint64_t epoch = source.role == kHopEarlier ? source.epoch : 0;
    const auto [at, added] = holders.emplace(index, epoch);
    if (!added && epoch == 0) at->second = 0;
  };
  const Source now;
  add(current.owner(slot), now);
  add(current.stand_in(slot), now);
  for_each_hop(sources, slot, current.slots, add, add);
  HopShortage shortage{slot, static_cast<uint32_t>(holders.size()), {}};
  for (const auto& [index, epoch] : holders) {
    if (epoch != 0) shortage.held.push_back({addresses[index], epoch});
  }
  return shortage;
}

// Lists of GW_HOPS_MAX entries, closed up to lists of `hops`.
void narrow(std::vector<uint16_t>& hop, uint32_t slots, uint32_t hops) {
  for (size_t slot = 0; slot < slots; ++slot) {
    std::copy_n(&hop[slot * GW_HOPS_MAX], hops, &hop[slot * hops]);
  }
  hop.resize(size_t{slots} * hops);
  hop.shrink_to_fit();
}

using Pieces = std::vector<std::pair<uint64_t, uint64_t>>;  // first, end; ascending

// In any order, and overlapping where tables of two sizes leave together.
std::vector<HashRange> merged(Pieces pieces) {
  std::sort(pieces.begin(), pieces.end());
  std::vector<HashRange> ranges;
  uint64_t reached = 0;
  for (const auto& [first, end] : pieces) {
    const auto last = static_cast<uint32_t>(end - 1);
    if (ranges.empty() || first > reached) {
      ranges.push_back({static_cast<uint32_t>(first), last});
    } else {
      ranges.back().last = std::max(ranges.back().last, last);
    }
    reached = std::max(reached, end);
  }
  return ranges;
}

bool goes(uint64_t number, uint64_t epoch, EpochPart part) {
  return number == epoch || (part == EpochPart::and_older && number < epoch);
}

void cut(Pieces& pieces, uint64_t first, uint64_t end) {
  Pieces left;
  for (const auto& [from, to] : pieces) {
    if (from < std::min(to, first)) left.emplace_back(from, std::min(to, first));
    if (std::max(from, end) < to) left.emplace_back(std::max(from, end), to);
  }
  pieces = std::move(left);
}

// Takes away where `other`, of another size, has the backend as a hop of exactly those hashes. That
// a list has it is not enough: with a coarser table that may be for the sake of a neighbouring
// range alone.
void cut_hops(Pieces& pieces, uint16_t index, uint32_t slot, uint32_t slots,
              const EpochHops& other) {
  if (pieces.empty() || other.hops == 0 || other.slots == slots) return;
  const SlotSpan span = overlapping(slot, slots, other.slots);
  for (uint32_t i = span.first; i <= span.last; ++i) {
    if (other.owner(i) != index && other.stand_in(i) != index) continue;
    cut(pieces, slot_start(i, other.slots), slot_start(i + 1, other.slots));
  }
}

bool has(std::span<const uint16_t> list, uint16_t index) {
  return std::any_of(list.begin(), list.end(),
                     [&](uint16_t entry) { return (entry & kHopIndex) == index; });
}

}  // namespace

std::span<const uint16_t> HopTable::slot(uint32_t slot) const {
  std::span<const uint16_t> list(hop.data() + size_t{slot} * hops, hops);
  while (!list.empty() && list.back() == GW_NO_HOP) list = list.first(list.size() - 1);
  return list;
}

std::optional<uint16_t> HopTable::index_of(const Address& address) const {
  const auto at = std::lower_bound(backends.begin(), backends.end(), address);
  if (at == backends.end() || *at != address) return {};
  return static_cast<uint16_t>(at - backends.begin());
}

bool HopTable::reaches(uint32_t hash32, const Address& address) const {
  const std::optional<uint16_t> index = index_of(address);
  return index && has(slot(slot_at(hash32, slots)), *index);
}

uint64_t HopTable::digest() const {
  const uint32_t head[5] = {slots, hops, static_cast<uint32_t>(backends.size()), owners, stand_ins};
  uint64_t digest = XXH3_64bits(head, sizeof head);
  digest = XXH3_64bits_withSeed(backends.data(), backends.size() * sizeof(Address), digest);
  return XXH3_64bits_withSeed(hop.data(), hop.size() * sizeof(uint16_t), digest);
}

std::optional<HopTable> build_hop_table(const PoolHistory& history, HopShortage* shortage) {
  HopTable table;
  table.backends = pool_addresses(history);
  if (table.backends.size() > GW_POOL_BACKENDS_MAX) {
    if (shortage != nullptr) *shortage = {};
    return {};
  }
  const EpochHops current = epoch_hops(history.current, table.backends);
  const std::vector<Source> sources = sources_of(history, table.backends);
  table.slots = current.slots;
  table.owners = current.hops > 0;
  table.stand_ins = current.stand_in(0) != GW_NO_HOP;  // all slots have one, or none has
  table.hop.assign(size_t{table.slots} * GW_HOPS_MAX, GW_NO_HOP);
  for (uint32_t slot = 0; slot < table.slots; ++slot) {
    SlotList list(current.owner(slot), current.stand_in(slot));
    for_each_hop(
        sources, slot, table.slots,
        [&](uint16_t index, const Source& source) { list.add_owner(index, source.role); },
        [&](uint16_t index, const Source& source) { list.add_stand_in(index, source.role); });
    if (!list.fits() && !history.one_step) {
      if (shortage != nullptr) *shortage = shortage_in(slot, current, sources, table.backends);
      return {};
    }
    table.hops = std::max(table.hops, list.write(&table.hop[size_t{slot} * GW_HOPS_MAX]));
  }
  narrow(table.hop, table.slots, table.hops);
  return table;
}

void keep_stand_ins(PoolHistory& history) {
  Epoch& incoming = *history.incoming;
  const std::vector<Address> addresses = pool_addresses(history);
  std::vector<bool> usable(addresses.size());
  for (const MaglevBackend& member : incoming.members) {
    const auto at = std::lower_bound(addresses.begin(), addresses.end(), member.address);
    usable[static_cast<size_t>(at - addresses.begin())] = member.weight > 0;
  }
  const EpochHops current = epoch_hops(history.current, addresses);
  std::vector<Source> sources = sources_of(history, addresses);
  const EpochHops next = std::move(sources.back().hops);
  sources.pop_back();
  uint32_t kept = 0;
  for (uint32_t slot = 0; slot < current.slots && next.hops == 2; ++slot) {
    std::vector<uint16_t> hops;
    const auto add = [&](uint16_t index, const Source&) {
      if (index != GW_NO_HOP && std::find(hops.begin(), hops.end(), index) == hops.end())
        hops.push_back(index);
    };
    // In the order in which they are liked: who stands in now should go on.
    add(current.stand_in(slot), {});
    add(current.owner(slot), {});
    for_each_hop(sources, slot, current.slots, add, add);
    add(next.owner(slot), {});
    const uint16_t own = next.stand_in(slot);
    const bool fits = hops.size() < GW_HOPS_MAX || has(hops, own);
    if (fits || hops.size() > GW_HOPS_MAX || kept == kKeptStandInsMax) continue;
    const auto other = std::find_if(hops.begin(), hops.end(), [&](uint16_t index) {
      return usable[index] && index != next.owner(slot);
    });
    if (other == hops.end()) continue;
    incoming.kept_stand_ins[addresses[*other]].push_back(slot);
    ++kept;
  }
}

HopList order_hops(std::span<const uint16_t> slot, bool owners, bool stand_ins,
                   std::span<const HopHealth> health) {
  HopList list;
  if (slot.empty()) return list;
  const auto add = [&](uint16_t entry, HopHealth wanted) {
    const uint16_t index = entry & kHopIndex;
    if (health[index] == wanted) list.index[list.count++] = index;
  };
  const bool stand_in_leads = stand_ins && health[slot.front() & kHopIndex] != HopHealth::up;
  if (stand_in_leads) add(slot.back(), HopHealth::up);
  for (const uint16_t entry : slot.first(slot.size() - stand_in_leads)) add(entry, HopHealth::up);
  for (const uint16_t entry : slot) add(entry, HopHealth::lingers);
  if (list.count == 0) return list;
  const uint16_t first = list.index[0];
  list.takes_new = (owners && first == (slot.front() & kHopIndex)) ||
                   (stand_ins && first == (slot.back() & kHopIndex));
  return list;
}

PoolHistory without(PoolHistory history, uint64_t epoch, EpochPart part) {
  if (part == EpochPart::stand_ins) {
    for (Epoch& e : history.earlier) {
      if (e.number == epoch) e.stand_ins = false;
    }
    return history;
  }
  std::erase_if(history.earlier, [&](const Epoch& e) { return goes(e.number, epoch, part); });
  return history;
}

HistoryHops hops_of(const PoolHistory& history) {
  HistoryHops out;
  out.addresses = pool_addresses(history);
  out.staying.push_back(epoch_hops(history.current, out.addresses));
  if (history.incoming) out.staying.push_back(epoch_hops(*history.incoming, out.addresses));
  for (const Epoch& epoch : history.earlier)
    out.earlier.emplace_back(epoch.number, epoch_hops(epoch, out.addresses));
  return out;
}

std::vector<BackendRanges> ranges_only_in(const HistoryHops& hops, uint64_t epoch, EpochPart part) {
  std::vector<const EpochHops*> leaving;
  std::vector<const EpochHops*> rest;
  for (const EpochHops& staying : hops.staying) rest.push_back(&staying);
  for (const auto& [number, earlier] : hops.earlier)
    (goes(number, epoch, part) ? leaving : rest).push_back(&earlier);

  std::vector<Pieces> found(hops.addresses.size());
  Pieces pieces;
  const auto look = [&](uint16_t index, uint32_t slot, const EpochHops& from) {
    if (index == GW_NO_HOP) return;
    // Nearly all slots end here: no range needs to be known.
    const auto has_it = [&](const EpochHops* other) {
      return other->slots == from.slots &&
             (other->owner(slot) == index || other->stand_in(slot) == index);
    };
    if (std::any_of(rest.begin(), rest.end(), has_it)) return;
    for (const EpochHops* before : leaving) {
      if (before == &from) break;
      if (has_it(before)) return;
    }
    pieces.assign(1, {slot_start(slot, from.slots), slot_start(slot + 1, from.slots)});
    for (const EpochHops* other : rest) cut_hops(pieces, index, slot, from.slots, *other);
    found[index].insert(found[index].end(), pieces.begin(), pieces.end());
  };
  for (const EpochHops* from : leaving) {
    for (uint32_t slot = 0; slot < from->slots && from->hops > 0; ++slot) {
      if (part != EpochPart::stand_ins) look(from->owner(slot), slot, *from);
      look(from->stand_in(slot), slot, *from);
    }
  }
  std::vector<BackendRanges> out;
  for (size_t i = 0; i < found.size(); ++i) {
    if (!found[i].empty()) out.push_back({hops.addresses[i], merged(std::move(found[i]))});
  }
  return out;
}

}  // namespace guideway
