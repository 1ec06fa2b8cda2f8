// SPDX-License-Identifier: Apache-2.0
// Encapsulation: the outer header comes ready-made in the image; the packet's Ethernet header is
// replaced by it and the fields that depend on the packet are patched. `l2` is the case in which
// the outer header is Ethernet alone.
#pragma once

#include <cstdint>

#include "dataplane/abi.h"
#include "dataplane/frame.h"
#include "dataplane/parse.h"

namespace guideway {

// Bytes needed in front of the frame, at most: the outer header less the Ethernet header it
// replaces.
inline constexpr unsigned kEncapHeadroom = GW_OUTER_MAX - 14;

// RFC 2003 (4in4), RFC 2473 (6in6, 4in6), RFC 4213 (6in4). The outer header takes over DSCP and ECN
// (RFC 6040 section 4.1, normal mode), and over IPv6 a flow label made from the flow's hash
// (RFC 6438). The outer IPv4 header has DF set and ID 0 (RFC 6864). Trailing Ethernet padding goes.
// Requires: frame.headroom >= backend.outer_bytes - 14, and a backend with a next hop.
void encapsulate(Frame& frame, const Packet& packet, const gw_backend& backend, uint64_t hash);

// One hop spent (RFC 791 section 3.2, RFC 8200 section 3). False: nothing left, packet unchanged.
bool spend_hop(Frame& frame, bool v4);

}  // namespace guideway
