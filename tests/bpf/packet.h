// SPDX-License-Identifier: Apache-2.0
// Packets as bytes, for tests of BPF programs: made inside out, each function putting one header
// in front of what it is given.
#pragma once

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <netinet/in.h>

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "dataplane/address.h"

namespace guideway::packet {

using Bytes = std::vector<uint8_t>;

inline Address address(std::string_view text) {
  return Address::parse(text).value();
}

inline void put16(Bytes& bytes, size_t at, uint16_t value) {
  bytes[at] = static_cast<uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<uint8_t>(value);
}

inline Bytes operator+(Bytes left, const Bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

// RFC 1071, plainly.
inline uint16_t internet_checksum(const uint8_t* bytes, size_t count) {
  uint32_t sum = 0;
  for (size_t i = 0; i < count; ++i) sum += i % 2 == 0 ? bytes[i] * 256u : bytes[i];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

struct Header {
  Address source{};
  Address destination{};
  uint8_t protocol = IPPROTO_TCP;
  uint8_t ecn = 0;
  uint8_t ttl = 64;             // or hop limit
  unsigned option_words = 0;    // IPv4: 4 bytes of no-operation options each
  uint16_t fragment = 0;        // IPv4: flags and offset
  int version = -1;             // -1: the right one
  int header_words = -1;        // IPv4 IHL; -1: the right one
  int length = -1;              // IPv4 total length, IPv6 payload length; -1: the right one
  uint16_t checksum_error = 0;  // added to the IPv4 header checksum
};

inline Bytes ipv4(const Header& header, const Bytes& payload) {
  size_t bytes = 20 + header.option_words * 4;
  Bytes ip(bytes, 1);  // options: no-operation
  std::memset(ip.data(), 0, 20);
  unsigned version = header.version < 0 ? 4 : static_cast<unsigned>(header.version);
  unsigned words = header.header_words < 0 ? static_cast<unsigned>(bytes / 4)
                                           : static_cast<unsigned>(header.header_words);
  ip[0] = static_cast<uint8_t>(version << 4 | words);
  ip[1] = header.ecn;
  size_t length = header.length < 0 ? bytes + payload.size() : static_cast<size_t>(header.length);
  put16(ip, 2, static_cast<uint16_t>(length));
  put16(ip, 6, header.fragment);
  ip[8] = header.ttl;
  ip[9] = header.protocol;
  std::memcpy(&ip[12], header.source.v4(), 4);
  std::memcpy(&ip[16], header.destination.v4(), 4);
  uint16_t sum = internet_checksum(ip.data(), ip.size());
  put16(ip, 10, static_cast<uint16_t>(sum + header.checksum_error));
  return ip + payload;
}

inline Bytes ipv6(const Header& header, const Bytes& payload) {
  Bytes ip(40);
  unsigned version = header.version < 0 ? 6 : static_cast<unsigned>(header.version);
  ip[0] = static_cast<uint8_t>(version << 4);
  ip[1] = static_cast<uint8_t>(header.ecn << 4);
  size_t length = header.length < 0 ? payload.size() : static_cast<size_t>(header.length);
  put16(ip, 4, static_cast<uint16_t>(length));
  ip[6] = header.protocol;
  ip[7] = header.ttl;
  std::memcpy(&ip[8], header.source.v6(), 16);
  std::memcpy(&ip[24], header.destination.v6(), 16);
  return ip + payload;
}

// Of the family of its source.
inline Bytes ip(const Header& header, const Bytes& payload) {
  return header.source.is_v4() ? ipv4(header, payload) : ipv6(header, payload);
}

inline Bytes ethernet(uint16_t type, const Bytes& payload) {
  Bytes frame = {2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa, 0, 0};
  put16(frame, 12, type);
  return frame + payload;
}

inline uint16_t type_of(const Address& address) {
  return address.is_v4() ? ETHERTYPE_IP : ETHERTYPE_IPV6;
}
inline uint8_t tunnel_protocol(const Address& inner) {
  return inner.is_v4() ? IPPROTO_IPIP : IPPROTO_IPV6;
}

}  // namespace guideway::packet
