// SPDX-License-Identifier: Apache-2.0
// Wire formats. Every struct has alignment 1, so that a pointer into a packet may be cast to it.
// Sizes are asserted; a header is written as one whole value, so that no field can be forgotten.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "dataplane/byteorder.h"

namespace guideway {

using Mac = std::array<uint8_t, 6>;

// As two numbers; operator== of the arrays calls memcmp.
inline bool same_mac(const Mac& a, const Mac& b) {
  uint32_t first[2];
  uint16_t second[2];
  std::memcpy(&first[0], a.data(), 4);
  std::memcpy(&first[1], b.data(), 4);
  std::memcpy(&second[0], a.data() + 4, 2);
  std::memcpy(&second[1], b.data() + 4, 2);
  return ((first[0] ^ first[1]) | (second[0] ^ second[1])) == 0;
}

// IEEE 802.3, untagged.
struct EthernetHeader {
  Mac destination;
  Mac source;
  be16 type;
};
static_assert(sizeof(EthernetHeader) == 14 && alignof(EthernetHeader) == 1);

inline constexpr uint16_t kEthernetIpv4 = 0x0800;
inline constexpr uint16_t kEthernetIpv6 = 0x86dd;

// RFC 791 section 3.1.
struct Ipv4Header {
  uint8_t version_ihl;  // 4 bits each; header length in 4-byte words
  uint8_t tos;          // DSCP and ECN
  be16 total_bytes;     // header included
  be16 id;
  be16 fragment;  // kIpv4DontFragment | kIpv4MoreFragments | offset in 8-byte units
  uint8_t ttl;
  uint8_t protocol;
  be16 checksum;
  std::array<uint8_t, 4> source;
  std::array<uint8_t, 4> destination;
};
static_assert(sizeof(Ipv4Header) == 20 && alignof(Ipv4Header) == 1);

inline constexpr uint16_t kIpv4DontFragment = 0x4000;
inline constexpr uint16_t kIpv4MoreFragments = 0x2000;
inline constexpr uint16_t kIpv4OffsetMask = 0x1fff;

// RFC 8200 section 3.
struct Ipv6Header {
  be32 version_class_flow;  // 4 bits version, 8 traffic class, 20 flow label
  be16 payload_bytes;       // extension headers included
  uint8_t next_header;
  uint8_t hop_limit;
  std::array<uint8_t, 16> source;
  std::array<uint8_t, 16> destination;
};
static_assert(sizeof(Ipv6Header) == 40 && alignof(Ipv6Header) == 1);

// RFC 8200 sections 4.3, 4.4 and 4.6: hop-by-hop, routing and destination options.
struct Ipv6Extension {
  uint8_t next_header;
  uint8_t extra_units;    // length in 8-byte units, the first not counted
  uint8_t type;           // routing: routing type
  uint8_t segments_left;  // routing
  std::array<uint8_t, 4> rest;
};
static_assert(sizeof(Ipv6Extension) == 8 && alignof(Ipv6Extension) == 1);

// RFC 8200 section 4.5.
struct Ipv6Fragment {
  uint8_t next_header;
  uint8_t reserved;
  be16 offset_more;  // offset in 8-byte units << 3 | M
  be32 id;
};
static_assert(sizeof(Ipv6Fragment) == 8 && alignof(Ipv6Fragment) == 1);

// The first four bytes of both TCP (RFC 9293) and UDP (RFC 768).
struct Ports {
  be16 source;
  be16 destination;
};
static_assert(sizeof(Ports) == 4 && alignof(Ports) == 1);

// RFC 9293 section 3.1: up to the flags.
struct TcpHeader {
  be16 source;
  be16 destination;
  be32 sequence;
  be32 acknowledgment;
  uint8_t data_offset;  // in 4-byte words, in the upper half
  uint8_t flags;
};
static_assert(sizeof(TcpHeader) == 14 && alignof(TcpHeader) == 1);

// RFC 768.
struct UdpHeader {
  be16 source;
  be16 destination;
  be16 bytes;  // header included
  be16 checksum;
};
static_assert(sizeof(UdpHeader) == 8 && alignof(UdpHeader) == 1);

inline constexpr uint8_t kTcpFin = 0x01;
inline constexpr uint8_t kTcpSyn = 0x02;
inline constexpr uint8_t kTcpRst = 0x04;
inline constexpr uint8_t kTcpAck = 0x10;

inline constexpr uint32_t kIpv6MtuLeast = 1280;  // RFC 8200 section 5

inline constexpr unsigned kTcpHeaderBytes = 20;
inline constexpr unsigned kUdpHeaderBytes = 8;

// RFC 792 and RFC 4443. `value`: id and sequence number, or in the errors below the MTU.
struct IcmpHeader {
  uint8_t type;
  uint8_t code;
  be16 checksum;
  be32 value;
};
static_assert(sizeof(IcmpHeader) == 8 && alignof(IcmpHeader) == 1);

// IP protocol numbers (IANA).
inline constexpr uint8_t kProtocolHopByHop = 0;
inline constexpr uint8_t kProtocolIcmp = 1;
inline constexpr uint8_t kProtocolIpv4 = 4;
inline constexpr uint8_t kProtocolTcp = 6;
inline constexpr uint8_t kProtocolUdp = 17;
inline constexpr uint8_t kProtocolIpv6 = 41;
inline constexpr uint8_t kProtocolRouting = 43;
inline constexpr uint8_t kProtocolFragment = 44;
inline constexpr uint8_t kProtocolAuthentication = 51;
inline constexpr uint8_t kProtocolIcmpv6 = 58;
inline constexpr uint8_t kProtocolDestinationOptions = 60;

inline constexpr uint8_t kIcmpEchoReply = 0;
inline constexpr uint8_t kIcmpUnreachable = 3;  // code 4: fragmentation needed
inline constexpr uint8_t kIcmpFragmentationNeeded = 4;
inline constexpr uint8_t kIcmpEchoRequest = 8;
inline constexpr uint8_t kIcmpTimeExceeded = 11;
inline constexpr uint8_t kIcmpParameterProblem = 12;
inline constexpr uint8_t kIcmpv6Unreachable = 1;
inline constexpr uint8_t kIcmpv6PacketTooBig = 2;
inline constexpr uint8_t kIcmpv6ParameterProblem = 4;
inline constexpr uint8_t kIcmpv6EchoRequest = 128;
inline constexpr uint8_t kIcmpv6EchoReply = 129;

}  // namespace guideway
