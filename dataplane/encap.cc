// SPDX-License-Identifier: Apache-2.0
#include "dataplane/encap.h"

#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <optional>

#include "dataplane/checksum.h"
#include "dataplane/headers.h"

namespace guideway {
namespace {

constexpr size_t kOuterV4 = sizeof(EthernetHeader) + sizeof(Ipv4Header);
constexpr size_t kOuterV6 = sizeof(EthernetHeader) + sizeof(Ipv6Header);

uint8_t traffic_class(const uint8_t* ip, bool v4) {
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

// Of the template's IPv4 header, without the fields that are patched.
uint64_t fixed_sum_v4(const uint8_t* ip) {
  static constexpr std::array<uint8_t, 8> kFirst = {0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};
  static constexpr std::array<uint8_t, 8> kSecond = {0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};
  uint64_t first, second;
  uint32_t third;
  std::memcpy(&first, ip, 8);
  std::memcpy(&second, ip + 8, 8);
  std::memcpy(&third, ip + 16, 4);
  first &= std::bit_cast<uint64_t>(kFirst);
  second &= std::bit_cast<uint64_t>(kSecond);
  return (first & UINT32_MAX) + (first >> 32) + (second & UINT32_MAX) + (second >> 32) + third;
}

// Ethernet and IPv4 header. Nothing is read back from `at`: what was just written in small pieces
// cannot be read as a whole without a stall.
void put_v4(uint8_t* at, const uint8_t* outer, const Patch& patch) {
  std::memcpy(at, outer, kOuterV4);
  auto& ip = *reinterpret_cast<Ipv4Header*>(at + sizeof(EthernetHeader));
  const be16 total_bytes(static_cast<uint16_t>(sizeof ip + patch.payload_bytes));
  const uint64_t sum = fixed_sum_v4(outer + sizeof(EthernetHeader)) + be16(patch.tos).raw() +
                       total_bytes.raw() + be16(patch.protocol).raw();
  ip.tos = patch.tos;
  ip.total_bytes = total_bytes;
  ip.protocol = patch.protocol;
  ip.checksum = checksum_finish(sum);
}

// Ethernet and IPv6 header.
void put_v6(uint8_t* at, const uint8_t* outer, const Patch& patch, uint64_t hash) {
  std::memcpy(at, outer, kOuterV6);
  auto& ip = *reinterpret_cast<Ipv6Header*>(at + sizeof(EthernetHeader));
  ip.version_class_flow =
      be32(6u << 28 | uint32_t{patch.tos} << 20 | static_cast<uint32_t>(hash & 0xfffff));
  ip.payload_bytes = be16(patch.payload_bytes);
  ip.next_header = patch.protocol;
}

// `count`: of 8-byte words.
uint64_t sum_of_words(const uint8_t* at, unsigned count, uint64_t sum) {
  for (unsigned i = 0; i < count; ++i) {
    uint64_t word;
    std::memcpy(&word, at + i * sizeof word, sizeof word);
    sum += (word & UINT32_MAX) + (word >> 32);
  }
  return sum;
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
                               checksum_fold(sum_of_words(ip.source.data(), 1, 0)),
                               be16(ip.protocol).raw(), be16(bytes).raw());
  }
  const auto& ip = *reinterpret_cast<const Ipv6Header*>(inner);
  const auto bytes = static_cast<uint16_t>(packet.ip_bytes - sizeof ip);
  if (!sum_is_known(ip.next_header, kProtocolIcmpv6, inner + sizeof ip, bytes)) return {};
  // Field by field: the hop limit was just written.
  const be16 next_and_hops(static_cast<uint16_t>(ip.next_header << 8 | ip.hop_limit));
  const uint64_t first8 =
      uint64_t{ip.version_class_flow.raw()} + ip.payload_bytes.raw() + next_and_hops.raw();
  return gw_gue_inner_sum_v6(checksum_fold(first8), be16(ip.next_header).raw(), be16(bytes).raw());
}

// The GUE header as one number: it is added up, and written at once.
be64 gue_header(bool outer_v4, bool inner_v4, LaterHops later) {
  const uint64_t count = later.size();
  const uint64_t hlen = 1 + count * (outer_v4 ? 1 : 4);
  const uint64_t protocol = inner_v4 ? kProtocolIpv4 : kProtocolIpv6;
  return be64(hlen << 56 | protocol << 48 | uint64_t{GW_GUE_LAYOUT} << 24 | count << 8 |
              (outer_v4 ? 4 : 6));
}
static_assert(offsetof(gw_gue, hlen) == 0 && offsetof(gw_gue, protocol) == 1 &&
              offsetof(gw_gue, layout) == 4 && offsetof(gw_gue, count) == 6 &&
              offsetof(gw_gue, family) == 7);

void write_list(uint8_t* at, be64 header, bool outer_v4, LaterHops later) {
  std::memcpy(at, &header, sizeof header);
  at += sizeof header;
  for (const gw_backend* hop : later) {
    if (outer_v4) {
      std::memcpy(at, hop->address + 12, 4);
      at += 4;
    } else {
      std::memcpy(at, hop->address, 16);
      at += 16;
    }
  }
}

// Local checksum offload; see gue.h. Added up where the parts come from, not from the packet, to
// which they have just been written. `udp_words`: sum of the UDP header.
be16 udp_checksum_v6(const gw_backend& backend, uint64_t udp_words, be16 udp_bytes, be64 gue,
                     LaterHops later, uint32_t inner) {
  const uint8_t* addresses = backend.outer + sizeof(EthernetHeader) + offsetof(Ipv6Header, source);
  uint64_t sum = inner + udp_words + be16(kProtocolUdp).raw() + udp_bytes.raw();
  sum = sum_of_words(addresses, 4, sum);
  sum += (gue.raw() & UINT32_MAX) + (gue.raw() >> 32);
  for (const gw_backend* hop : later) sum = sum_of_words(hop->address, 2, sum);
  const be16 checksum = checksum_finish(sum);
  return checksum == be16{} ? be16(0xffff) : checksum;
}

// Makes room for so many bytes in front of the client's packet, the Ethernet header included.
uint8_t* make_room(Frame& frame, const Packet& packet, size_t bytes) {
  const auto grow = static_cast<uint16_t>(bytes - sizeof(EthernetHeader));
  frame.data -= grow;
  frame.headroom = static_cast<uint16_t>(frame.headroom - grow);
  frame.bytes = static_cast<uint16_t>(bytes + packet.ip_bytes);
  return frame.data;
}

// Out of line: what it needs costs the other kinds of forwarding nothing.
[[gnu::noinline]] void encapsulate_gue(Frame& frame, const Packet& packet,
                                       const gw_backend& backend, uint64_t hash, LaterHops later) {
  const uint8_t* inner = frame.data + sizeof(EthernetHeader);
  const unsigned list_bytes = gue_bytes(backend, later);
  const Patch patch{
      .payload_bytes = static_cast<uint16_t>(sizeof(UdpHeader) + list_bytes + packet.ip_bytes),
      .protocol = kProtocolUdp,
      .tos = traffic_class(inner, packet.v4)};
  uint8_t* at = make_room(frame, packet, backend.outer_bytes + list_bytes);
  const bool outer_v4 = backend.outer_bytes == kGueOuterV4;
  const be64 gue = gue_header(outer_v4, packet.v4, later);
  write_list(at + backend.outer_bytes, gue, outer_v4, later);
  auto& udp = *reinterpret_cast<UdpHeader*>(at + backend.outer_bytes - sizeof(UdpHeader));
  const be16 source(gw_gue_source_port(hash));
  const be16 destination(GW_GUE_PORT);
  const be16 bytes(patch.payload_bytes);
  udp.source = source;
  udp.destination = destination;
  udp.bytes = bytes;
  udp.checksum = be16{};
  if (outer_v4) return put_v4(at, backend.outer, patch);
  put_v6(at, backend.outer, patch, hash);
  const auto sum = inner_sum(inner, packet);
  if (!sum) return;
  const uint64_t udp_words = uint64_t{source.raw()} + destination.raw() + bytes.raw();
  udp.checksum = udp_checksum_v6(backend, udp_words, bytes, gue, later, *sum);
}

}  // namespace

void encapsulate(Frame& frame, const Packet& packet, const gw_backend& backend, uint64_t hash,
                 LaterHops later) {
  if (is_gue(backend)) return encapsulate_gue(frame, packet, backend, hash, later);
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
      put_v4(make_room(frame, packet, kOuterV4), backend.outer, patch);
      break;
    case kOuterV6:
      put_v6(make_room(frame, packet, kOuterV6), backend.outer, patch, hash);
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
