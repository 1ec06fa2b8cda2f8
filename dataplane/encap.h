// SPDX-License-Identifier: Apache-2.0
// Encapsulation: the outer header comes ready-made in the image; the packet's Ethernet header is
// replaced by it and the fields that depend on the packet are patched. `l2` is the case in which
// the outer header is Ethernet alone.
#pragma once

#include <cstdint>
#include <span>

#include "bpf/gue.h"
#include "dataplane/abi.h"
#include "dataplane/frame.h"
#include "dataplane/parse.h"

namespace guideway {

// Bytes needed in front of the frame, at most: the outer header less the Ethernet header it
// replaces, and the GUE header with the longest list.
inline constexpr unsigned kEncapHeadroom = GW_OUTER_MAX - 14 + GW_GUE_BYTES_MAX;

// The hops after the outer destination, in the order in which they are to be tried; GW_GUE_HOPS_MAX
// at most, all of the outer family. None but for gue.
using LaterHops = std::span<const gw_backend* const>;

// gw_backend.outer_bytes of gue.
inline constexpr uint8_t kGueOuterV4 = 42;
inline constexpr uint8_t kGueOuterV6 = 62;
inline bool is_gue(const gw_backend& backend) {
  return backend.outer_bytes == kGueOuterV4 || backend.outer_bytes == kGueOuterV6;
}

// Of the GUE header behind `backend.outer`; 0 if the backend's pool is not gue.
inline unsigned gue_bytes(const gw_backend& backend, LaterHops later) {
  if (!is_gue(backend)) return 0;
  return gw_gue_bytes(backend.outer_bytes == kGueOuterV4 ? 4 : 6,
                      static_cast<uint32_t>(later.size()));
}

// Of all that stands in front of the client's IP packet in the end, Ethernet included.
inline unsigned encap_bytes(const gw_backend& backend, LaterHops later = {}) {
  return backend.outer_bytes + gue_bytes(backend, later);
}

// RFC 2003 (4in4), RFC 2473 (6in6, 4in6), RFC 4213 (6in4); gue: bpf/gue.h. The outer header takes
// over DSCP and ECN (RFC 6040 section 4.1, normal mode), and over IPv6 a flow label made from the
// flow's hash (RFC 6438). The outer IPv4 header has DF set and ID 0 (RFC 6864). Trailing Ethernet
// padding goes. The outer UDP checksum is 0 over IPv4; over IPv6 it is right if the inner one is,
// and 0 where there is none to build on (docs/design/gue.md).
// Requires: frame.headroom >= encap_bytes() - 14, a packet that parse() took for whole, and a
// backend with a next hop.
void encapsulate(Frame& frame, const Packet& packet, const gw_backend& backend, uint64_t hash,
                 LaterHops later = {});

// One hop spent (RFC 791 section 3.2, RFC 8200 section 3). False: nothing left, packet unchanged.
bool spend_hop(Frame& frame, bool v4);

}  // namespace guideway
