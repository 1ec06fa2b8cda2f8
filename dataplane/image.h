// SPDX-License-Identifier: Apache-2.0
// An adopted forwarding image: validated bytes, seen as arrays. Immutable; a worker reads it
// between two quiescent states without a check (see validate.h and image_store.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "dataplane/abi.h"
#include "dataplane/flow.h"
#include "dataplane/mapping.h"
#include "dataplane/service_index.h"
#include "dataplane/spare.h"

namespace guideway {

// One pool as the packet path sees it. `slots` is 0 for a pool without backends.
struct PoolView {
  const uint16_t* hop = nullptr;  // [slots][hops]
  uint32_t slots = 0;
  uint32_t hops = 0;
  bool has_owners = false;     // GW_TABLE_OWNERS
  bool has_stand_ins = false;  // GW_TABLE_STAND_INS
  bool has_roles = false;      // some entry of some slot has one
  bool gue = false;            // GW_POOL_GUE
  std::span<const gw_backend> backends;
  const SparePool* spares = nullptr;

  const uint16_t* slot_hops(uint32_t slot) const { return hop + size_t{slot} * hops; }
  // Without the GW_NO_HOP at the end.
  std::span<const uint16_t> entries(uint32_t slot) const {
    const uint16_t* first = slot_hops(slot);
    uint32_t count = 0;
    while (count < hops && first[count] != GW_NO_HOP) ++count;
    return {first, count};
  }
  const gw_backend& backend_of(uint16_t entry) const { return backends[entry & GW_HOP_INDEX]; }
  // Null: the table has none.
  const gw_backend* owner(uint32_t slot) const {
    return has_owners ? &backend_of(slot_hops(slot)[0]) : nullptr;
  }
};

// Whether an entry has a role; GW_NO_HOP has none.
inline bool has_role(uint16_t entry) {
  return entry != GW_NO_HOP && (entry & (GW_HOP_INCOMING | GW_HOP_EARLIER)) != 0;
}

// A table that passed validate_table(), kept as long as an image uses it.
struct Table {
  Table(uint64_t name, Mapping content);

  uint64_t digest;
  Mapping bytes;
  bool has_roles;  // some entry has one

  const gw_table& head() const { return *reinterpret_cast<const gw_table*>(bytes.data()); }
  const uint16_t* hops() const {
    return reinterpret_cast<const uint16_t*>(bytes.data() + head().hops_offset);
  }
};

class Image {
 public:
  // `root` passed validate_root(), and is of GW_LAYOUT (older_layout.h); tables[i] belongs to pool
  // i (null for digest 0) and has as many backends as the pool.
  Image(Mapping root, std::vector<std::shared_ptr<const Table>> tables);

  const gw_root& root() const { return *reinterpret_cast<const gw_root*>(root_.data()); }
  std::span<const gw_service> services() const { return services_; }
  std::span<const gw_backend> backends() const { return backends_; }
  std::span<const PoolView> pools() const { return pools_; }
  std::span<const std::shared_ptr<const Table>> tables() const { return tables_; }
  const ServiceIndex& service_index() const { return index_; }
  // The backend with this counter, which is its stable name; null if none, or if the name is
  // nobody's.
  const gw_backend* backend_named(uint16_t counter) const {
    const uint16_t at = by_counter_[counter % GW_BACKENDS_MAX];
    return at == kNone ? nullptr : &backends_[at];
  }
  const Mapping& bytes() const { return root_; }

 private:
  static constexpr uint16_t kNone = 0xffff;

  Mapping root_;
  std::vector<std::shared_ptr<const Table>> tables_;
  std::span<const gw_service> services_;
  std::span<const gw_backend> backends_;
  std::vector<PoolView> pools_;
  std::vector<SparePool> spares_;     // by pool
  std::vector<uint16_t> by_counter_;  // index in backends_
  ServiceIndex index_;
};

}  // namespace guideway
