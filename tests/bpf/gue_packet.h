// SPDX-License-Identifier: Apache-2.0
// GUE packets with a hop list, and what is in them, for tests: written from docs/design/gue.md, not
// from the code under test; checksums over all bytes.
#pragma once

#include "tests/bpf/packet.h"

namespace guideway::packet {

// RFC 1071 with the pseudo header of either family, of `segment` with its checksum field 0.
inline uint16_t transport_checksum(const Address& source, const Address& destination,
                                   uint8_t protocol, const Bytes& segment) {
  // Mapped addresses: the ffff of both add up to nothing, so this is IPv4's pseudo header too.
  Bytes all = Bytes(source.bytes.begin(), source.bytes.end()) +
              Bytes(destination.bytes.begin(), destination.bytes.end());
  Bytes rest(4);
  put16(rest, 0, static_cast<uint16_t>(segment.size()));
  put16(rest, 2, protocol);
  all = all + rest + segment;
  return internet_checksum(all.data(), all.size());
}

struct Ports {
  uint16_t source = 40000;
  uint16_t destination = 443;
};

inline constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;

struct Segment {
  Ports ports{};
  uint8_t flags = kAck;
  uint32_t sequence = 1000;
  uint32_t acknowledged = 2000;
};

inline void put32(Bytes& bytes, size_t at, uint32_t value) {
  put16(bytes, at, static_cast<uint16_t>(value >> 16));
  put16(bytes, at + 2, static_cast<uint16_t>(value));
}

// The IP packet of a TCP segment.
inline Bytes tcp_packet(const Address& source, const Address& destination, const Segment& segment,
                        const Bytes& payload = {}, Header header = {}) {
  Bytes tcp(20);
  put16(tcp, 0, segment.ports.source);
  put16(tcp, 2, segment.ports.destination);
  put32(tcp, 4, segment.sequence);
  put32(tcp, 8, segment.acknowledged);
  tcp[12] = 5 << 4;
  tcp[13] = segment.flags;
  put16(tcp, 14, 0xffff);
  tcp = tcp + payload;
  put16(tcp, 16, transport_checksum(source, destination, IPPROTO_TCP, tcp));
  header.source = source;
  header.destination = destination;
  header.protocol = IPPROTO_TCP;
  return ip(header, tcp);
}

inline Bytes udp_packet(const Address& source, const Address& destination, const Ports& ports,
                        const Bytes& payload, Header header = {}) {
  Bytes udp(8);
  put16(udp, 0, ports.source);
  put16(udp, 2, ports.destination);
  put16(udp, 4, static_cast<uint16_t>(8 + payload.size()));
  udp = udp + payload;
  put16(udp, 6, transport_checksum(source, destination, IPPROTO_UDP, udp));
  header.source = source;
  header.destination = destination;
  header.protocol = IPPROTO_UDP;
  return ip(header, udp);
}

// An error about `quoted`, an IP packet. `rest`: the second word of the ICMP header.
inline Bytes icmp_packet(const Address& source, const Address& destination, uint8_t type,
                         uint8_t code, uint32_t rest, const Bytes& quoted) {
  Bytes icmp(8);
  icmp[0] = type;
  icmp[1] = code;
  put32(icmp, 4, rest);
  icmp = icmp + quoted;
  bool v4 = source.is_v4();
  put16(icmp, 2,
        v4 ? internet_checksum(icmp.data(), icmp.size())
           : transport_checksum(source, destination, IPPROTO_ICMPV6, icmp));
  Header header{.source = source, .destination = destination};
  header.protocol = v4 ? uint8_t{IPPROTO_ICMP} : uint8_t{IPPROTO_ICMPV6};
  return ip(header, icmp);
}

struct Gue {
  Header outer{};  // source and destination; the protocol is UDP
  std::vector<Address> hops{};
  unsigned next = 0;
  bool checksum = true;         // false: 0
  uint16_t checksum_error = 0;  // added to it
  uint16_t source_port = 0x8123;
  uint16_t port = 6080;
  unsigned version_control = 0;  // the first three bits
  uint16_t flags = 0;
  unsigned layout = 1;
  int protocol = -1;  // these: -1 is the right one
  int header_words = -1;
  int count = -1;
  int family = -1;
  int udp_length = -1;
};

// GUE's header alone, then what stands behind UDP.
inline Bytes gue_header(const Gue& gue, bool inner_v4) {
  bool v4 = gue.outer.source.is_v4();
  Bytes list;
  for (const Address& hop : gue.hops)
    list = list + (v4 ? Bytes(hop.v4(), hop.v4() + 4) : Bytes(hop.v6(), hop.v6() + 16));
  auto given = [](int value, unsigned right) {
    return static_cast<uint8_t>(value < 0 ? right : static_cast<unsigned>(value));
  };
  Bytes header(8);
  unsigned words = static_cast<unsigned>(1 + list.size() / 4);
  header[0] = static_cast<uint8_t>(gue.version_control << 5 | given(gue.header_words, words));
  header[1] = given(gue.protocol, inner_v4 ? 4 : 41);
  put16(header, 2, gue.flags);
  header[4] = static_cast<uint8_t>(gue.layout);
  header[5] = static_cast<uint8_t>(gue.next);
  header[6] = given(gue.count, static_cast<unsigned>(gue.hops.size()));
  header[7] = given(gue.family, v4 ? 4 : 6);
  return header + list;
}

// The outer IP packet around whatever stands behind UDP's header.
inline Bytes gue_around(const Gue& gue, const Bytes& behind_udp) {
  Bytes udp(8);
  put16(udp, 0, gue.source_port);
  put16(udp, 2, gue.port);
  size_t length = 8 + behind_udp.size();
  put16(udp, 4,
        static_cast<uint16_t>(gue.udp_length < 0 ? length : static_cast<size_t>(gue.udp_length)));
  udp = udp + behind_udp;
  if (gue.checksum) {
    uint16_t sum = transport_checksum(gue.outer.source, gue.outer.destination, IPPROTO_UDP, udp);
    put16(udp, 6, static_cast<uint16_t>((sum == 0 ? 0xffff : sum) + gue.checksum_error));
  }
  Header outer = gue.outer;
  outer.protocol = IPPROTO_UDP;
  return ip(outer, udp);
}

inline Bytes gue_packet(const Gue& gue, const Bytes& inner) {
  bool inner_v4 = inner.empty() || inner[0] >> 4 == 4;
  return gue_around(gue, gue_header(gue, inner_v4) + inner);
}

inline Bytes gue_frame(const Gue& gue, const Bytes& inner) {
  return ethernet(type_of(gue.outer.source), gue_packet(gue, inner));
}

}  // namespace guideway::packet
