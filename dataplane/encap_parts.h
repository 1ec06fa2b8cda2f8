// SPDX-License-Identifier: Apache-2.0
// The parts of an outer header, as encap.h and encap.cc put them together; nobody else's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "dataplane/abi.h"
#include "dataplane/checksum.h"
#include "dataplane/frame.h"
#include "dataplane/headers.h"
#include "dataplane/parse.h"

namespace guideway::encap {

inline constexpr size_t kOuterV4 = sizeof(EthernetHeader) + sizeof(Ipv4Header);
inline constexpr size_t kOuterV6 = sizeof(EthernetHeader) + sizeof(Ipv6Header);

inline uint8_t traffic_class(const uint8_t* ip, bool v4) {
  if (v4) return reinterpret_cast<const Ipv4Header*>(ip)->tos;
  return static_cast<uint8_t>(reinterpret_cast<const Ipv6Header*>(ip)->version_class_flow.host() >>
                              20);
}

// What of an outer header depends on the packet.
struct Patch {
  uint16_t payload_bytes;
  uint8_t protocol;
  uint8_t tos;
};

// Ethernet and IPv4 header. Nothing is read back from `at`: what was just written in small pieces
// cannot be read as a whole without a stall.
inline void put_v4(uint8_t* at, const gw_backend& backend, const Patch& patch) {
  std::memcpy(at, backend.outer, kOuterV4);
  auto& ip = *reinterpret_cast<Ipv4Header*>(at + sizeof(EthernetHeader));
  const be16 total_bytes(static_cast<uint16_t>(sizeof ip + patch.payload_bytes));
  const uint64_t sum = uint64_t{backend.outer_sum} + be16(patch.tos).raw() + total_bytes.raw() +
                       be16(patch.protocol).raw();
  ip.tos = patch.tos;
  ip.total_bytes = total_bytes;
  ip.protocol = patch.protocol;
  ip.checksum = checksum_finish(sum);
}

// Ethernet and IPv6 header.
inline void put_v6(uint8_t* at, const uint8_t* outer, const Patch& patch, uint64_t hash) {
  std::memcpy(at, outer, kOuterV6);
  auto& ip = *reinterpret_cast<Ipv6Header*>(at + sizeof(EthernetHeader));
  ip.version_class_flow =
      be32(6u << 28 | uint32_t{patch.tos} << 20 | static_cast<uint32_t>(hash & 0xfffff));
  ip.payload_bytes = be16(patch.payload_bytes);
  ip.next_header = patch.protocol;
}

// Makes room for so many bytes in front of the client's packet, the Ethernet header included.
inline uint8_t* make_room(Frame& frame, const Packet& packet, size_t bytes) {
  const auto grow = static_cast<uint16_t>(bytes - sizeof(EthernetHeader));
  frame.data -= grow;
  frame.headroom = static_cast<uint16_t>(frame.headroom - grow);
  frame.bytes = static_cast<uint16_t>(bytes + packet.ip_bytes);
  return frame.data;
}

}  // namespace guideway::encap
