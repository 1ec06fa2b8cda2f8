// SPDX-License-Identifier: Apache-2.0
// Builds frames for tests, for either family by one interface. Written apart from the code under
// test: fields by offset, checksums by the textbook loop.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/address.h"

namespace guideway::test {

using Bytes = std::vector<uint8_t>;

inline void put16(Bytes& b, size_t at, unsigned value) {
  b[at] = static_cast<uint8_t>(value >> 8);
  b[at + 1] = static_cast<uint8_t>(value);
}
inline unsigned get16(const Bytes& b, size_t at) {
  return b[at] << 8 | b[at + 1];
}

// RFC 1071, one 16-bit word after the other.
inline unsigned plain_checksum(const Bytes& b, size_t from, size_t to, uint32_t sum = 0) {
  for (size_t i = from; i < to; i += 2) sum += b[i] << 8 | (i + 1 < to ? b[i + 1] : 0);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

inline void append(Bytes& to, const Bytes& from) {
  to.insert(to.end(), from.begin(), from.end());
}

inline Address address(const char* text) {
  return Address::parse(text).value();
}

struct PacketSpec {
  std::string source = "198.51.100.7";
  std::string destination = "203.0.113.10";
  uint8_t protocol = 6;
  uint16_t source_port = 40000;
  uint16_t destination_port = 443;
  uint8_t ttl = 64;
  uint8_t tos = 0;
  uint8_t tcp_flags = 0x10;       // ACK
  uint16_t v4_fragment = 0x4000;  // DF
  Bytes v4_options;               // multiple of 4 bytes
  Bytes v6_extensions;            // with `first_extension` as the fixed header's next header
  uint8_t first_extension = 0;
  Bytes payload = Bytes(32, 'x');
};

inline void fix_v4_checksum(Bytes& frame, size_t ip = 14) {
  put16(frame, ip + 10, 0);
  put16(frame, ip + 10, plain_checksum(frame, ip, ip + (frame[ip] & 0xf) * 4u));
}

// An IP packet around `body`.
inline Bytes ip_packet(const PacketSpec& spec, const Bytes& body) {
  const Address source = address(spec.source.c_str());
  const Address destination = address(spec.destination.c_str());
  Bytes ip;
  if (destination.is_v4()) {
    ip.resize(20);
    ip[0] = static_cast<uint8_t>(0x45 + spec.v4_options.size() / 4);
    ip[1] = spec.tos;
    put16(ip, 2, static_cast<unsigned>(20 + spec.v4_options.size() + body.size()));
    put16(ip, 6, spec.v4_fragment);
    ip[8] = spec.ttl;
    ip[9] = spec.protocol;
    std::copy(source.v4(), source.v4() + 4, &ip[12]);
    std::copy(destination.v4(), destination.v4() + 4, &ip[16]);
    append(ip, spec.v4_options);
    fix_v4_checksum(ip, 0);
  } else {
    ip.resize(40);
    put16(ip, 0, 0x6000u | spec.tos << 4);
    put16(ip, 4, static_cast<unsigned>(spec.v6_extensions.size() + body.size()));
    ip[6] = spec.v6_extensions.empty() ? spec.protocol : spec.first_extension;
    ip[7] = spec.ttl;
    std::copy(source.v6(), source.v6() + 16, &ip[8]);
    std::copy(destination.v6(), destination.v6() + 16, &ip[24]);
    append(ip, spec.v6_extensions);
  }
  append(ip, body);
  return ip;
}

inline Bytes ethernet(const Bytes& ip) {
  Bytes frame = {0x02, 0, 0, 0, 0, 0x11, 0x02, 0, 0, 0, 0, 0x01, 0, 0};
  put16(frame, 12, ip[0] >> 4 == 4 ? 0x0800 : 0x86dd);
  append(frame, ip);
  return frame;
}

inline Bytes arp_frame() {
  Bytes frame = ethernet(Bytes(46, 0x10));
  put16(frame, 12, 0x0806);
  return frame;
}

// TCP or UDP header (checksum left 0: the balancer does not look at it) and payload.
inline Bytes transport(const PacketSpec& spec) {
  Bytes body(spec.protocol == 6 ? 20 : 8);
  put16(body, 0, spec.source_port);
  put16(body, 2, spec.destination_port);
  if (spec.protocol == 6) {
    body[12] = 0x50;
    body[13] = spec.tcp_flags;
  } else {
    put16(body, 4, static_cast<unsigned>(8 + spec.payload.size()));
  }
  append(body, spec.payload);
  return body;
}

inline Bytes frame_of(const PacketSpec& spec) {
  return ethernet(ip_packet(spec, transport(spec)));
}

// An ICMP message of the spec's family with the right checksum.
inline Bytes icmp_frame(PacketSpec spec, uint8_t type, uint8_t code, const Bytes& rest) {
  const bool v4 = address(spec.destination.c_str()).is_v4();
  spec.protocol = v4 ? 1 : 58;
  Bytes icmp = {type, code, 0, 0};
  append(icmp, rest);
  Bytes frame = ethernet(ip_packet(spec, icmp));
  const size_t at = frame.size() - icmp.size();
  uint32_t pseudo = 0;
  if (!v4) {
    for (size_t i = 22; i < 54; i += 2) pseudo += get16(frame, i);
    pseudo += static_cast<uint32_t>(icmp.size()) + 58;
  }
  put16(frame, at + 2, plain_checksum(frame, at, frame.size(), pseudo));
  return frame;
}

// The two families as inputs of one test.
struct Family {
  const char* name;
  const char* client;
  const char* vip;
  const char* other;  // an address that is no VIP
  size_t ip_header;
};
inline constexpr Family kFamilies[] = {
    {"v4", "198.51.100.7", "203.0.113.10", "203.0.113.99", 20},
    {"v6", "2001:db8:100::7", "2001:db8:203::10", "2001:db8:203::99", 40},
};
inline PacketSpec spec_for(const Family& family) {
  PacketSpec spec;
  spec.source = family.client;
  spec.destination = family.vip;
  return spec;
}

}  // namespace guideway::test
