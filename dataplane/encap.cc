// SPDX-License-Identifier: Apache-2.0
#include "dataplane/encap.h"

#include <cstring>
#include <optional>

#include "dataplane/checksum.h"
#include "dataplane/headers.h"

namespace guideway {
namespace {

uint8_t traffic_class(const uint8_t* ip, bool v4) {
  if (v4) return reinterpret_cast<const Ipv4Header*>(ip)->tos;
  return static_cast<uint8_t>(reinterpret_cast<const Ipv6Header*>(ip)->version_class_flow.host() >>
                              20);
}

void patch_v4(Ipv4Header& outer, uint16_t payload_bytes, uint8_t protocol, uint8_t tos) {
  outer.tos = tos;
  outer.total_bytes = be16(static_cast<uint16_t>(sizeof outer + payload_bytes));
  outer.protocol = protocol;
  outer.checksum = checksum_finish(checksum_add(&outer, sizeof outer));
}

void patch_v6(Ipv6Header& outer, uint16_t payload_bytes, uint8_t protocol, uint8_t tos,
              uint64_t hash) {
  outer.version_class_flow =
      be32(6u << 28 | uint32_t{tos} << 20 | static_cast<uint32_t>(hash & 0xfffff));
  outer.payload_bytes = be16(payload_bytes);
  outer.next_header = protocol;
}

// Whether the headers tell what the packet behind them adds up to. `bytes`: from `transport` on.
bool sum_is_known(uint8_t protocol, uint8_t icmp, const uint8_t* transport, uint16_t bytes) {
  if (protocol == kProtocolTcp || protocol == icmp) return true;
  if (protocol != kProtocolUdp) return false;
  // One that is shorter than its IP packet leaves bytes that its checksum does not cover.
  const auto& udp = *reinterpret_cast<const UdpHeader*>(transport);
  return udp.checksum != be16{} && udp.bytes == be16(bytes);
}

// What the client's packet adds up to, on the word of its own checksums.
std::optional<uint32_t> inner_sum(const uint8_t* inner, const Packet& packet) {
  if (packet.v4) {
    const auto& ip = *reinterpret_cast<const Ipv4Header*>(inner);
    const unsigned header_bytes = (ip.version_ihl & 0xf) * 4u;
    const auto bytes = static_cast<uint16_t>(packet.ip_bytes - header_bytes);
    if (!sum_is_known(ip.protocol, kProtocolIcmp, inner + header_bytes, bytes)) return {};
    return gw_gue_inner_sum_v4(ip.protocol == kProtocolIcmp,
                               checksum_fold(checksum_add(ip.source.data(), 8)),
                               be16(ip.protocol).raw(), be16(bytes).raw());
  }
  const auto& ip = *reinterpret_cast<const Ipv6Header*>(inner);
  const auto bytes = static_cast<uint16_t>(packet.ip_bytes - sizeof ip);
  if (!sum_is_known(ip.next_header, kProtocolIcmpv6, inner + sizeof ip, bytes)) return {};
  return gw_gue_inner_sum_v6(checksum_fold(checksum_add(inner, 8)), be16(ip.next_header).raw(),
                             be16(bytes).raw());
}

void write_list(uint8_t* at, bool outer_v4, bool inner_v4, LaterHops later) {
  const auto count = static_cast<uint8_t>(later.size());
  const gw_gue gue{.hlen = static_cast<uint8_t>(1 + count * (outer_v4 ? 1 : 4)),
                   .protocol = inner_v4 ? kProtocolIpv4 : kProtocolIpv6,
                   .flags = {},
                   .layout = GW_GUE_LAYOUT,
                   .next = 0,
                   .count = count,
                   .family = static_cast<uint8_t>(outer_v4 ? 4 : 6)};
  std::memcpy(at, &gue, sizeof gue);
  at += sizeof gue;
  for (const gw_backend* hop : later) {
    const size_t bytes = outer_v4 ? 4 : 16;
    std::memcpy(at, hop->address + sizeof hop->address - bytes, bytes);
    at += bytes;
  }
}

// Local checksum offload; see gue.h. The outer addresses, the UDP and the GUE header lie in a row.
be16 udp_checksum_v6(const Ipv6Header& outer, const UdpHeader& udp, unsigned list_bytes,
                     uint32_t inner) {
  uint64_t sum = inner;
  sum = checksum_add(outer.source.data(), 32 + sizeof udp + list_bytes, sum);
  sum += be16(kProtocolUdp).raw();
  sum += udp.bytes.raw();
  const be16 checksum = checksum_finish(sum);
  return checksum == be16{} ? be16(0xffff) : checksum;
}

// Makes room in front of the client's packet, and puts the template there.
void put_outer(Frame& frame, const Packet& packet, const gw_backend& backend, unsigned list_bytes) {
  const auto grow =
      static_cast<uint16_t>(backend.outer_bytes + list_bytes - sizeof(EthernetHeader));
  frame.data -= grow;
  frame.headroom = static_cast<uint16_t>(frame.headroom - grow);
  frame.bytes = static_cast<uint16_t>(sizeof(EthernetHeader) + grow + packet.ip_bytes);
  std::memcpy(frame.data, backend.outer, backend.outer_bytes);
}

// Out of line: what it needs costs the other kinds of forwarding nothing.
[[gnu::noinline]] void encapsulate_gue(Frame& frame, const Packet& packet,
                                       const gw_backend& backend, uint64_t hash, LaterHops later) {
  const uint8_t* inner = frame.data + sizeof(EthernetHeader);
  const uint8_t tos = traffic_class(inner, packet.v4);
  const unsigned list_bytes = gue_bytes(backend, later);
  put_outer(frame, packet, backend, list_bytes);

  const auto udp_bytes = static_cast<uint16_t>(sizeof(UdpHeader) + list_bytes + packet.ip_bytes);
  const bool outer_v4 = backend.outer_bytes == kGueOuterV4;
  uint8_t* outer = frame.data + sizeof(EthernetHeader);
  auto& udp = *reinterpret_cast<UdpHeader*>(frame.data + backend.outer_bytes - sizeof(UdpHeader));
  udp.source = be16(gw_gue_source_port(hash));
  udp.bytes = be16(udp_bytes);
  write_list(frame.data + backend.outer_bytes, outer_v4, packet.v4, later);
  if (outer_v4) {
    patch_v4(*reinterpret_cast<Ipv4Header*>(outer), udp_bytes, kProtocolUdp, tos);
    return;
  }
  auto& ip = *reinterpret_cast<Ipv6Header*>(outer);
  patch_v6(ip, udp_bytes, kProtocolUdp, tos, hash);
  if (const auto sum = inner_sum(inner, packet))
    udp.checksum = udp_checksum_v6(ip, udp, list_bytes, *sum);
}

}  // namespace

void encapsulate(Frame& frame, const Packet& packet, const gw_backend& backend, uint64_t hash,
                 LaterHops later) {
  if (is_gue(backend)) return encapsulate_gue(frame, packet, backend, hash, later);
  const uint8_t tos = traffic_class(frame.data + sizeof(EthernetHeader), packet.v4);
  put_outer(frame, packet, backend, 0);

  uint8_t* outer = frame.data + sizeof(EthernetHeader);
  const uint8_t protocol = packet.v4 ? kProtocolIpv4 : kProtocolIpv6;
  switch (backend.outer_bytes) {
    case sizeof(EthernetHeader):
      reinterpret_cast<EthernetHeader*>(frame.data)->type =
          be16(packet.v4 ? kEthernetIpv4 : kEthernetIpv6);
      break;
    case sizeof(EthernetHeader) + sizeof(Ipv4Header):
      patch_v4(*reinterpret_cast<Ipv4Header*>(outer), packet.ip_bytes, protocol, tos);
      break;
    case sizeof(EthernetHeader) + sizeof(Ipv6Header):
      patch_v6(*reinterpret_cast<Ipv6Header*>(outer), packet.ip_bytes, protocol, tos, hash);
      break;
  }
}

bool spend_hop(Frame& frame, bool v4) {
  uint8_t* ip = frame.data + sizeof(EthernetHeader);
  if (!v4) {
    auto& header = *reinterpret_cast<Ipv6Header*>(ip);
    if (header.hop_limit <= 1) return false;
    --header.hop_limit;
    return true;
  }
  auto& header = *reinterpret_cast<Ipv4Header*>(ip);
  if (header.ttl <= 1) return false;
  const be16 before(static_cast<uint16_t>(header.ttl << 8 | header.protocol));
  --header.ttl;
  const be16 after(static_cast<uint16_t>(header.ttl << 8 | header.protocol));
  header.checksum = checksum_update(header.checksum, before, after);
  return true;
}

}  // namespace guideway
