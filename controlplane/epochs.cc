// SPDX-License-Identifier: Apache-2.0
#include "controlplane/epochs.h"

#include <algorithm>
#include <cassert>
#include <cstddef>

#include "dataplane/abi.h"

namespace guideway {

std::vector<MaglevBackend> sorted_members(std::vector<MaglevBackend> members) {
  std::sort(members.begin(), members.end(),
            [](const auto& a, const auto& b) { return a.address < b.address; });
  return members;
}

std::vector<Address> pool_addresses(const PoolHistory& history) {
  std::vector<Address> addresses;
  const auto add = [&](const Epoch& epoch) {
    for (const MaglevBackend& member : epoch.members) addresses.push_back(member.address);
  };
  add(history.current);
  if (history.incoming) add(*history.incoming);
  for (const Epoch& epoch : history.earlier) add(epoch);
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
  return addresses;
}

uint16_t EpochHops::owner(uint32_t slot) const {
  return hops == 0 ? GW_NO_HOP : hop[size_t{slot} * hops];
}

uint16_t EpochHops::stand_in(uint32_t slot) const {
  return hops < 2 ? GW_NO_HOP : hop[size_t{slot} * hops + 1];
}

namespace {

uint16_t index_in(std::span<const Address> addresses, const Address& address) {
  const auto at = std::lower_bound(addresses.begin(), addresses.end(), address);
  assert(at != addresses.end() && *at == address);
  return static_cast<uint16_t>(at - addresses.begin());
}

}  // namespace

EpochHops epoch_hops(const Epoch& epoch, std::span<const Address> addresses) {
  // The fill takes turns in order of index: sorted, it does not depend on who wrote the list.
  const std::vector<MaglevBackend> members = sorted_members(epoch.members);
  EpochHops result;
  result.slots = epoch.slots;
  const unsigned hops = epoch.stand_ins ? 2 : 1;
  std::vector<uint16_t> fill = maglev_table(members, epoch.fill_slots, hops);
  if (fill.empty()) return result;
  result.hops = hops;

  std::vector<uint16_t> pool_index;
  pool_index.reserve(members.size());
  for (const MaglevBackend& member : members) {
    pool_index.push_back(index_in(addresses, member.address));
  }
  for (uint16_t& hop : fill) {
    if (hop != GW_NO_HOP) hop = pool_index[hop];
  }
  if (epoch.slots == epoch.fill_slots) {
    result.hop = std::move(fill);
  } else {
    result.hop.reserve(size_t{epoch.slots} * hops);
    for (uint32_t slot = 0; slot < epoch.slots; ++slot) {
      const uint32_t from = slot_at(slot_start(slot, epoch.slots), epoch.fill_slots);
      for (unsigned i = 0; i < hops; ++i) result.hop.push_back(fill[size_t{from} * hops + i]);
    }
  }
  if (hops < 2) return result;
  for (const auto& [address, slots] : epoch.kept_stand_ins) {
    const uint16_t index = index_in(addresses, address);
    for (const uint32_t slot : slots) result.hop[size_t{slot} * 2 + 1] = index;
  }
  return result;
}

}  // namespace guideway
