// SPDX-License-Identifier: Apache-2.0
// Which backend takes a packet: the rules that stand above gw_backend in abi.h, and nothing else.
// Part of the packet path: no allocation, no locks, bounded cost.
#pragma once

#include <cstdint>

#include "dataplane/abi.h"
#include "dataplane/flow_table.h"
#include "dataplane/image.h"
#include "dataplane/parse.h"
#include "dataplane/verdict.h"

namespace guideway {

// New flows of the slot may go to it.
inline bool takes_new(const gw_backend& backend, uint32_t slot) {
  return backend.outer_bytes != 0 && share_covers(backend.share, slot);
}

// It may have connections, and packets can be sent to it.
inline bool holds(const gw_backend& backend) {
  return backend.outer_bytes != 0 && (backend.flags & GW_HOLDS) != 0;
}

// With this owner the flow table is not needed: all flows are its own, but those found there.
inline bool is_settled(const gw_backend& owner, uint32_t slot) {
  return takes_new(owner, slot) && holds(owner);
}

struct Choice {
  const gw_backend* backend = nullptr;
  Verdict problem = Verdict::no_backend;  // if there is no backend
};

// For a new flow. `pool` has slots.
Choice choose_for_new(const PoolView& pool, uint32_t slot);

// A packet of a service, on its slot.
struct Asked {
  const PoolView& pool;
  uint32_t slot;
  uint64_t hash;
  const Packet& packet;  // a flow, or an ICMP error
};

// For any packet, by the flow table first; learns and refreshes the flow there. An ICMP error only
// looks: anybody can send one. `now`: flow_second().
Choice choose_backend(const Image& image, const Asked& asked, FlowTable& flows, uint16_t now);

}  // namespace guideway
