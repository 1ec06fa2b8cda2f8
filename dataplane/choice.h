// SPDX-License-Identifier: Apache-2.0
// Which backend takes a packet: the rules that stand above gw_backend in abi.h, and nothing else.
// Part of the packet path: no allocation, no locks, bounded cost.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "bpf/gue.h"
#include "dataplane/abi.h"
#include "dataplane/flow_table.h"
#include "dataplane/headers.h"
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

// The flow table is not needed: all flows are the owner's, but those found there. `owner`: of the
// slot; may be null.
inline bool is_settled(const PoolView& pool, const gw_backend* owner, uint32_t slot) {
  if (!owner || !takes_new(*owner, slot) || !holds(*owner)) return false;
  if (!pool.has_roles) return true;
  const auto entries = pool.entries(slot);
  return std::none_of(entries.begin(), entries.end(), has_role);
}

// Whether the packet is sent with the slot's list (bpf/gue.h), rather than to one backend.
inline bool carries_list(const PoolView& pool, const Packet& packet) {
  return pool.gue && packet.key.protocol != kProtocolUdp;
}

struct Choice {
  const gw_backend* backend = nullptr;
  Verdict problem = Verdict::no_backend;  // if there is no backend
  // The hops after `backend`, if the packet carries the list; none of them twice.
  uint32_t later_count = 0;
  std::array<const gw_backend*, GW_GUE_HOPS_MAX> later = {};
};

// The slot's leader, who gets new flows: owner, stand-in or spare. `pool` has slots.
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
