// SPDX-License-Identifier: Apache-2.0
#include "dataplane/encap.h"

#include <cstddef>
#include <cstring>
#include <optional>

#include "dataplane/checksum.h"
#include "dataplane/encap_parts.h"
#include "dataplane/headers.h"

namespace guideway {

using namespace encap;

namespace {

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

}  // namespace

void encap::encapsulate_gue(Frame& frame, const Packet& packet, const gw_backend& backend,
                            uint64_t hash, LaterHops later) {
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

}  // namespace guideway
