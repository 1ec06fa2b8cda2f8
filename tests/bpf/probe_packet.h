// SPDX-License-Identifier: Apache-2.0
// Probes and their replies as bytes, for tests of `edge`: written from cookie.h's description, so
// that nothing but the hash and the cipher is shared with the program.
#pragma once

#include <cstring>
#include <string>

#include "bpf/cookie.h"
#include "tests/bpf/packet.h"

namespace guideway::packet {

inline void put32(Bytes& bytes, size_t at, uint32_t value) {
  put16(bytes, at, static_cast<uint16_t>(value >> 16));
  put16(bytes, at + 2, static_cast<uint16_t>(value));
}

inline constexpr uint8_t kSyn = 0x02, kRst = 0x04, kAck = 0x10;

inline Bytes tcp(uint16_t from, uint16_t to, uint32_t sequence, uint32_t acknowledged,
                 uint8_t flags) {
  Bytes header(20);
  put16(header, 0, from);
  put16(header, 2, to);
  put32(header, 4, sequence);
  put32(header, 8, acknowledged);
  header[12] = 5 << 4;
  header[13] = flags;
  put16(header, 14, 0xffff);
  return header;
}

inline Bytes udp(uint16_t from, uint16_t to, const Bytes& payload) {
  Bytes header(8);
  put16(header, 0, from);
  put16(header, 2, to);
  put16(header, 4, static_cast<uint16_t>(8 + payload.size()));
  return header + payload;
}

// The checksum, of ICMPv4 only, is right.
inline Bytes icmp(uint8_t type, uint8_t code, const Bytes& rest) {
  Bytes message = Bytes{type, code, 0, 0, 0, 0, 0, 0} + rest;
  put16(message, 2, internet_checksum(message.data(), message.size()));
  return message;
}

// The same IP packet with the checksum of the TCP, UDP or ICMPv6 in it (RFC 1071, RFC 8200
// section 8.1), for a kernel that checks. No IPv4 options.
inline Bytes with_checksums(Bytes packet) {
  const bool v4 = packet[0] >> 4 == 4;
  const size_t header = v4 ? 20 : 40;
  const uint8_t protocol = packet[v4 ? 9 : 6];
  if (protocol == IPPROTO_ICMP) return packet;
  const size_t at = header + (protocol == IPPROTO_TCP ? 16 : protocol == IPPROTO_UDP ? 6 : 2);
  put16(packet, at, 0);
  Bytes pseudo(packet.begin() + (v4 ? 12 : 8), packet.begin() + static_cast<ptrdiff_t>(header));
  pseudo.resize(pseudo.size() + 4);
  put16(pseudo, pseudo.size() - 4, static_cast<uint16_t>(packet.size() - header));
  put16(pseudo, pseudo.size() - 2, protocol);
  pseudo.insert(pseudo.end(), packet.begin() + static_cast<ptrdiff_t>(header), packet.end());
  uint16_t sum = internet_checksum(pseudo.data(), pseudo.size());
  put16(packet, at, protocol == IPPROTO_UDP && sum == 0 ? 0xffff : sum);
  return packet;
}

// A probe that was sent from `node` to `peer`.
struct SentProbe {
  gw_probe_secret secret{};
  Address node, peer;
  uint32_t protocol = IPPROTO_TCP;
  uint16_t port = 0;  // of the peer; icmp: 0
  gw_probe_name name{};

  uint64_t proof() const {
    gw_probe_peer to{};
    std::memcpy(to.address, peer.bytes.data(), 16);
    to.port = port;
    to.protocol = protocol;
    return gw_probe_proof(&secret, &to, &name);
  }
  uint16_t own_port() const { return static_cast<uint16_t>(32768 + (proof() & 0x7fff)); }
  uint32_t sequence() const { return gw_probe_sequence(&secret, &name); }

  Bytes mark() const {
    Bytes bytes(16);
    put32(bytes, 0, name.target);
    put32(bytes, 4, name.attempt);
    put32(bytes, 8, static_cast<uint32_t>(proof() >> 32));
    put32(bytes, 12, static_cast<uint32_t>(proof()));
    return bytes;
  }
  Bytes text() const {
    Bytes letters;
    for (uint8_t byte : mark()) {
      letters.push_back(static_cast<uint8_t>('a' + byte / 16));
      letters.push_back(static_cast<uint8_t>('a' + byte % 16));
    }
    return letters;
  }
  // RFC 1035 section 4.1: a TXT query for one label.
  Bytes question(uint8_t flags_high, uint8_t flags_low) const {
    Bytes header = {0x12, 0x34, flags_high, flags_low, 0, 1, 0, 0, 0, 0, 0, 0, 32};
    return header + text() + Bytes{0, 0, 16, 0, 1};
  }

  Bytes in_frame(const Header& header, const Bytes& payload) const {
    return ethernet(type_of(header.source), ip(header, payload));
  }
  Header header(uint8_t ip_protocol) const {
    return {.source = peer, .destination = node, .protocol = ip_protocol};
  }
  uint8_t icmp_protocol() const {
    return peer.is_v4() ? uint8_t{IPPROTO_ICMP} : uint8_t{IPPROTO_ICMPV6};
  }

  // The probe itself, as an IP packet.
  Bytes packet(const Bytes& udp_payload = {}) const {
    Header there{
        .source = node,
        .destination = peer,
        .protocol = protocol == IPPROTO_ICMP ? icmp_protocol() : static_cast<uint8_t>(protocol)};
    if (protocol == IPPROTO_TCP) return ip(there, tcp(own_port(), port, sequence(), 0, kSyn));
    if (protocol == IPPROTO_UDP) return ip(there, udp(own_port(), port, udp_payload));
    return ip(there, icmp(peer.is_v4() ? 8 : 128, 0, mark()));
  }

  Bytes tcp_reply(uint8_t flags) const {
    return in_frame(header(IPPROTO_TCP), tcp(port, own_port(), 77, sequence() + 1, flags));
  }
  Bytes udp_reply(const Bytes& payload) const {
    return in_frame(header(IPPROTO_UDP), udp(port, own_port(), payload));
  }
  Bytes echo_reply(const Bytes& more = {}) const {
    return in_frame(header(icmp_protocol()), icmp(peer.is_v4() ? 0 : 129, 0, mark() + more));
  }
  // From `somebody`, around the first `size` bytes of `sent`.
  Bytes unreachable(const Address& somebody, Bytes sent, size_t size = SIZE_MAX, int type = -1,
                    int code = -1) const {
    sent.resize(std::min(size, sent.size()));
    Header from = header(icmp_protocol());
    from.source = somebody;
    if (type < 0) type = peer.is_v4() ? 3 : 1;
    if (code < 0) code = peer.is_v4() ? 3 : 4;
    return in_frame(from, icmp(static_cast<uint8_t>(type), static_cast<uint8_t>(code), sent));
  }
};

}  // namespace guideway::packet
