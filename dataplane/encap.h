// SPDX-License-Identifier: Apache-2.0
// Encapsulation: the outer header comes ready-made in the image; the packet's Ethernet header is
// replaced by it and the fields that depend on the packet are patched. `l2` is the case in which
// the outer header is Ethernet alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "bpf/gue.h"
#include "dataplane/abi.h"
#include "dataplane/encap_parts.h"
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
// backend with a next hop and its sums (outer_sum.h).
void encapsulate(Frame& frame, const Packet& packet, const gw_backend& backend, uint64_t hash,
                 LaterHops later = {});

// One hop spent (RFC 791 section 3.2, RFC 8200 section 3). False: nothing left, packet unchanged.
bool spend_hop(Frame& frame, bool v4);

namespace encap {

// Out of line: what it needs costs the other kinds of forwarding nothing.
void encapsulate_gue(Frame& frame, const Packet& packet, const gw_backend& backend, uint64_t hash,
                     LaterHops later);

}  // namespace encap

inline void encapsulate(Frame& frame, const Packet& packet, const gw_backend& backend,
                        uint64_t hash, LaterHops later) {
  if (is_gue(backend)) return encap::encapsulate_gue(frame, packet, backend, hash, later);
  using namespace encap;
  const Patch patch{.payload_bytes = packet.ip_bytes,
                    .protocol = packet.v4 ? kProtocolIpv4 : kProtocolIpv6,
                    .tos = traffic_class(frame.data + sizeof(EthernetHeader), packet.v4)};
  // Lengths that the compiler knows: a copy is then a few moves.
  switch (backend.outer_bytes) {
    case sizeof(EthernetHeader): {
      uint8_t* at = make_room(frame, packet, sizeof(EthernetHeader));
      std::memcpy(at, backend.outer, 2 * sizeof(Mac));
      reinterpret_cast<EthernetHeader*>(at)->type = be16(packet.v4 ? kEthernetIpv4 : kEthernetIpv6);
      break;
    }
    case kOuterV4:
      put_v4(make_room(frame, packet, kOuterV4), backend, patch);
      break;
    case kOuterV6:
      put_v6(make_room(frame, packet, kOuterV6), backend.outer, patch, hash);
      break;
  }
}

inline bool spend_hop(Frame& frame, bool v4) {
  uint8_t* ip = frame.data + sizeof(EthernetHeader);
  if (!v4) {
    if (reinterpret_cast<const Ipv6Header*>(ip)->hop_limit <= 1) return false;
    // Written with the fields beside it: gue reads them as one again, at once. In either byte order
    // nothing is borrowed from them.
    uint8_t* at = ip + offsetof(Ipv6Header, payload_bytes);
    uint32_t length_next_hops;
    std::memcpy(&length_next_hops, at, sizeof length_next_hops);
    length_next_hops -= be32(1).raw();
    std::memcpy(at, &length_next_hops, sizeof length_next_hops);
    return true;
  }
  auto& header = *reinterpret_cast<Ipv4Header*>(ip);
  if (header.ttl <= 1) return false;
  --header.ttl;
  // RFC 1624, HC' = ~(~HC + ~m + m'): the word with the TTL is less by 0x0100, whatever it was.
  const uint32_t sum = static_cast<uint16_t>(~header.checksum.raw()) + 0xffffu - be16(0x0100).raw();
  header.checksum = be16::from_raw(static_cast<uint16_t>(~((sum & 0xffff) + (sum >> 16))));
  return true;
}

}  // namespace guideway
