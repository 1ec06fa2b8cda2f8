// SPDX-License-Identifier: Apache-2.0
#include "dataplane/image.h"

#include <algorithm>
#include <utility>

namespace guideway {
namespace {

// Two bytes each, written when the image is adopted: tens of microseconds for the usual sizes.
constexpr uint32_t kMemoSlotsMost = 1u << 20;

}  // namespace

Table::Table(uint64_t name, Mapping content) : digest(name), bytes(std::move(content)) {
  const std::span entries(hops(), size_t{head().slots} * head().hops);
  has_roles = std::any_of(entries.begin(), entries.end(), has_role);
}

Image::Image(Mapping root_bytes, std::vector<std::shared_ptr<const Table>> tables)
    : root_(std::move(root_bytes)), tables_(std::move(tables)) {
  const uint8_t* base = root_.data();
  const gw_root& r = root();
  services_ = {reinterpret_cast<const gw_service*>(base + r.services_offset), r.services};
  backends_ = {reinterpret_cast<const gw_backend*>(base + r.backends_offset), r.backends};
  const std::span pools{reinterpret_cast<const gw_pool*>(base + r.pools_offset), r.pools};
  pools_.reserve(pools.size());
  spares_.reserve(pools.size());
  for (size_t i = 0; i < pools.size(); ++i) {
    PoolView view;
    view.backends = backends_.subspan(pools[i].backend_first, pools[i].backends);
    SparePool& spares = spares_.emplace_back(view.backends);
    view.spares = &spares;
    view.gue = (pools[i].flags & GW_POOL_GUE) != 0;
    if (tables_[i]) {
      const uint32_t flags = tables_[i]->head().flags;
      view.has_owners = (flags & GW_TABLE_OWNERS) != 0;
      view.has_stand_ins = (flags & GW_TABLE_STAND_INS) != 0;
      view.has_roles = tables_[i]->has_roles;
      view.hop = tables_[i]->hops();
      view.slots = tables_[i]->head().slots;
      view.hops = tables_[i]->head().hops;
      if (view.slots <= kMemoSlotsMost && spares.may_be_needed()) spares.remember(view.slots);
    }
    pools_.push_back(view);
  }
  index_ = ServiceIndex(services_);

  by_counter_.assign(GW_BACKENDS_MAX, kNone);
  for (size_t i = 0; i < backends_.size(); ++i) {
    if (backends_[i].counter == GW_BACKENDS_MAX - 1) continue;
    by_counter_[backends_[i].counter] = static_cast<uint16_t>(i);
  }
}

}  // namespace guideway
