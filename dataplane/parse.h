// SPDX-License-Identifier: Apache-2.0
// Parse: a pure function of a frame's bytes. No mbuf, no globals, no allocation; reads nothing
// past `bytes`. One result for both families.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dataplane/flow.h"
#include "dataplane/verdict.h"

namespace guideway {

enum class PacketKind : uint8_t {
  flow,          // TCP or UDP: key complete
  icmp_error,    // about a reply of ours: key taken from the embedded packet, ends exchanged
  echo_request,  // ICMP or ICMPv6: key.vip and key.client set
  other,         // `problem` says why; key.vip is set if `has_destination`
};

struct Packet {
  FlowKey key;
  PacketKind kind = PacketKind::other;
  Verdict problem = Verdict::not_vip;  // the verdict if kind is other and the VIP is ours
  bool has_destination = false;        // key.vip is the packet's IP destination
  bool v4 = false;
  uint8_t tcp_flags = 0;   // kind flow, TCP; else 0
  uint16_t ip_bytes = 0;   // the IP packet, without Ethernet and its padding
  uint16_t l4_offset = 0;  // from the start of the frame
};

// `frame` starts at the Ethernet header. Not IP at all: other, not_vip, no destination.
// `header_checked`: the checksum of an IPv4 header is known to be right.
Packet parse(const uint8_t* frame, size_t bytes, bool header_checked = false);

// The same without the short cuts for nearly all packets; a test compares them.
Packet parse_step_by_step(const uint8_t* frame, size_t bytes);

}  // namespace guideway
