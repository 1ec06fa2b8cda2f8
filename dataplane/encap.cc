// SPDX-License-Identifier: Apache-2.0
#include "dataplane/encap.h"

#include <cstring>

#include "dataplane/checksum.h"
#include "dataplane/headers.h"

namespace guideway {
namespace {

uint8_t traffic_class(const uint8_t* ip, bool v4) {
  if (v4) return reinterpret_cast<const Ipv4Header*>(ip)->tos;
  return static_cast<uint8_t>(reinterpret_cast<const Ipv6Header*>(ip)->version_class_flow.host() >>
                              20);
}

void patch_v4(uint8_t* at, uint16_t inner_bytes, bool inner_v4, uint8_t tos) {
  auto& outer = *reinterpret_cast<Ipv4Header*>(at);
  outer.tos = tos;
  outer.total_bytes = be16(static_cast<uint16_t>(sizeof outer + inner_bytes));
  outer.protocol = inner_v4 ? kProtocolIpv4 : kProtocolIpv6;
  outer.checksum = checksum_finish(checksum_add(&outer, sizeof outer));
}

void patch_v6(uint8_t* at, uint16_t inner_bytes, bool inner_v4, uint8_t tos, uint64_t hash) {
  auto& outer = *reinterpret_cast<Ipv6Header*>(at);
  outer.version_class_flow =
      be32(6u << 28 | uint32_t{tos} << 20 | static_cast<uint32_t>(hash & 0xfffff));
  outer.payload_bytes = be16(inner_bytes);
  outer.next_header = inner_v4 ? kProtocolIpv4 : kProtocolIpv6;
}

}  // namespace

void encapsulate(Frame& frame, const Packet& packet, const gw_backend& backend, uint64_t hash) {
  const uint8_t* inner = frame.data + sizeof(EthernetHeader);
  const uint8_t tos = traffic_class(inner, packet.v4);
  const auto grow = static_cast<uint16_t>(backend.outer_bytes - sizeof(EthernetHeader));
  frame.data -= grow;
  frame.headroom = static_cast<uint16_t>(frame.headroom - grow);
  frame.bytes = static_cast<uint16_t>(backend.outer_bytes + packet.ip_bytes);
  std::memcpy(frame.data, backend.outer, backend.outer_bytes);

  uint8_t* outer = frame.data + sizeof(EthernetHeader);
  switch (backend.outer_bytes) {
    case sizeof(EthernetHeader):
      reinterpret_cast<EthernetHeader*>(frame.data)->type =
          be16(packet.v4 ? kEthernetIpv4 : kEthernetIpv6);
      break;
    case sizeof(EthernetHeader) + sizeof(Ipv4Header):
      patch_v4(outer, packet.ip_bytes, packet.v4, tos);
      break;
    case sizeof(EthernetHeader) + sizeof(Ipv6Header):
      patch_v6(outer, packet.ip_bytes, packet.v4, tos, hash);
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
