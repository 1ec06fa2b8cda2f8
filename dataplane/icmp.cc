// SPDX-License-Identifier: Apache-2.0
#include "dataplane/icmp.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "dataplane/checksum.h"
#include "dataplane/headers.h"

namespace guideway {
namespace {

constexpr uint8_t kTtl = 64;
constexpr size_t kQuoteMaxV4 = 576 - sizeof(Ipv4Header) - sizeof(IcmpHeader);   // RFC 1812, 4.3.2.3
constexpr size_t kQuoteMaxV6 = 1280 - sizeof(Ipv6Header) - sizeof(IcmpHeader);  // RFC 4443, 2.4(c)

void exchange_macs(uint8_t* frame) {
  auto& ethernet = *reinterpret_cast<EthernetHeader*>(frame);
  std::swap(ethernet.destination, ethernet.source);
}

// RFC 8200 section 8.1.
uint64_t v6_pseudo_sum(const Ipv6Header& ip, uint32_t upper_bytes, uint8_t next_header) {
  const be32 length(upper_bytes);
  const be32 next(next_header);
  uint64_t sum = checksum_add(ip.source.data(), 32);
  sum = checksum_add(&length, sizeof length, sum);
  return checksum_add(&next, sizeof next, sum);
}

void too_big_v4(Frame& frame, uint32_t mtu, size_t quote) {
  uint8_t* ip_at = frame.data + sizeof(EthernetHeader);
  const Ipv4Header asked = *reinterpret_cast<Ipv4Header*>(ip_at);
  uint8_t* icmp_at = ip_at + sizeof(Ipv4Header);
  std::memmove(icmp_at + sizeof(IcmpHeader), ip_at, quote);

  IcmpHeader icmp{kIcmpUnreachable, kIcmpFragmentationNeeded, be16{},
                  be32(std::min<uint32_t>(mtu, UINT16_MAX))};
  std::memcpy(icmp_at, &icmp, sizeof icmp);
  icmp.checksum = checksum_finish(checksum_add(icmp_at, sizeof icmp + quote));
  std::memcpy(icmp_at, &icmp, sizeof icmp);

  Ipv4Header ip{.version_ihl = 0x45,
                .tos = 0xc0,  // internetwork control (RFC 1812 section 4.3.2.5)
                .total_bytes = be16(static_cast<uint16_t>(sizeof ip + sizeof icmp + quote)),
                .id = be16{},
                .fragment = be16(kIpv4DontFragment),
                .ttl = kTtl,
                .protocol = kProtocolIcmp,
                .checksum = be16{},
                .source = asked.destination,
                .destination = asked.source};
  ip.checksum = checksum_finish(checksum_add(&ip, sizeof ip));
  std::memcpy(ip_at, &ip, sizeof ip);
}

void too_big_v6(Frame& frame, uint32_t mtu, size_t quote) {
  uint8_t* ip_at = frame.data + sizeof(EthernetHeader);
  const Ipv6Header asked = *reinterpret_cast<Ipv6Header*>(ip_at);
  uint8_t* icmp_at = ip_at + sizeof(Ipv6Header);
  std::memmove(icmp_at + sizeof(IcmpHeader), ip_at, quote);

  const auto payload = static_cast<uint16_t>(sizeof(IcmpHeader) + quote);
  const Ipv6Header ip{.version_class_flow = be32(6u << 28),
                      .payload_bytes = be16(payload),
                      .next_header = kProtocolIcmpv6,
                      .hop_limit = kTtl,
                      .source = asked.destination,
                      .destination = asked.source};
  std::memcpy(ip_at, &ip, sizeof ip);

  IcmpHeader icmp{kIcmpv6PacketTooBig, 0, be16{}, be32(mtu)};
  std::memcpy(icmp_at, &icmp, sizeof icmp);
  icmp.checksum =
      checksum_finish(checksum_add(icmp_at, payload, v6_pseudo_sum(ip, payload, kProtocolIcmpv6)));
  std::memcpy(icmp_at, &icmp, sizeof icmp);
}

}  // namespace

void make_echo_reply(Frame& frame, const Packet& packet) {
  exchange_macs(frame.data);
  uint8_t* ip_at = frame.data + sizeof(EthernetHeader);
  auto& icmp = *reinterpret_cast<IcmpHeader*>(frame.data + packet.l4_offset);
  const be16 before(static_cast<uint16_t>(icmp.type << 8 | icmp.code));
  icmp.type = packet.v4 ? kIcmpEchoReply : kIcmpv6EchoReply;
  const be16 after(static_cast<uint16_t>(icmp.type << 8 | icmp.code));
  icmp.checksum = checksum_update(icmp.checksum, before, after);

  // Source and destination exchanged leave every checksum as it was.
  if (packet.v4) {
    auto& ip = *reinterpret_cast<Ipv4Header*>(ip_at);
    std::swap(ip.source, ip.destination);
    ip.ttl = kTtl;
    ip.checksum = be16{};
    ip.checksum = checksum_finish(checksum_add(&ip, (ip.version_ihl & 0xf) * 4u));
  } else {
    auto& ip = *reinterpret_cast<Ipv6Header*>(ip_at);
    std::swap(ip.source, ip.destination);
    ip.hop_limit = kTtl;
  }
  frame.bytes = static_cast<uint16_t>(sizeof(EthernetHeader) + packet.ip_bytes);
}

void make_too_big(Frame& frame, const Packet& packet, uint32_t mtu) {
  const size_t header = (packet.v4 ? sizeof(Ipv4Header) : sizeof(Ipv6Header)) + sizeof(IcmpHeader);
  // The answer stays within the bytes that the packet had, so no tailroom is needed.
  const size_t room = packet.ip_bytes > header ? packet.ip_bytes - header : 0;
  const size_t quote = std::min(room, packet.v4 ? kQuoteMaxV4 : kQuoteMaxV6);
  exchange_macs(frame.data);
  if (packet.v4) {
    too_big_v4(frame, mtu, quote);
  } else {
    too_big_v6(frame, mtu, quote);
  }
  frame.bytes = static_cast<uint16_t>(sizeof(EthernetHeader) + header + quote);
}

}  // namespace guideway
