// SPDX-License-Identifier: Apache-2.0
// The ICMP messages that the dataplane sends itself, made in place of the packet that asked for
// them. Both come from the VIP and leave by the way the packet came (MAC addresses exchanged).
#pragma once

#include <cstdint>

#include "dataplane/frame.h"
#include "dataplane/parse.h"

namespace guideway {

// Turns an echo request into its reply (RFC 792, RFC 4443 section 4.2).
void make_echo_reply(Frame& frame, const Packet& packet);

// Turns a packet into the message that it does not fit: 'fragmentation needed and DF set' (RFC 792,
// RFC 1191 section 4) or 'packet too big' (RFC 4443 section 3.2). Quotes as much of the packet as
// fits 576 or 1280 bytes. The packet must be a flow's (never itself an ICMP error, RFC 1122
// section 3.2.2).
void make_too_big(Frame& frame, const Packet& packet, uint32_t mtu);

}  // namespace guideway
