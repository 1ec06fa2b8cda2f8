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

// One's complement of 64 bits (RFC 1071 section 2(C)): a carry comes in again below.
uint64_t add_word(uint64_t sum, uint64_t word) {
  sum += word;
  return sum + (sum < word);
}

uint64_t word_at(const uint8_t* at) {
  uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// Whether the headers tell what the packet behind them adds up to. `bytes`: from `transport` on.
bool sum_is_known(uint8_t protocol, uint8_t icmp, const uint8_t* transport, uint16_t bytes) {
  if (protocol == kProtocolTcp || protocol == icmp) return true;
  if (protocol != kProtocolUdp) return false;
  // One that is shorter than its IP packet leaves bytes that its checksum does not cover.
  const auto& udp = *reinterpret_cast<const UdpHeader*>(transport);
  return udp.checksum.raw() != 0 && udp.bytes.raw() == be16(bytes).raw();
}

// What the client's packet adds up to, on the word of its own checksums: gw_gue_inner_sum_v4() and
// _v6(), unfolded. The complement of a sum is the sum of the complements.
std::optional<uint64_t> inner_sum(const uint8_t* inner, const Packet& packet) {
  if (packet.v4) {
    const auto& ip = *reinterpret_cast<const Ipv4Header*>(inner);
    const unsigned header_bytes = (ip.version_ihl & 0xf) * 4u;
    const auto bytes = static_cast<uint16_t>(packet.ip_bytes - header_bytes);
    if (!sum_is_known(ip.protocol, kProtocolIcmp, inner + header_bytes, bytes)) return {};
    if (ip.protocol == kProtocolIcmp) return 0;
    const auto others = static_cast<uint16_t>(~be16(ip.protocol).raw());
    return add_word(~word_at(ip.source.data()),
                    uint64_t{others} + static_cast<uint16_t>(~be16(bytes).raw()));
  }
  const auto& ip = *reinterpret_cast<const Ipv6Header*>(inner);
  const auto bytes = static_cast<uint16_t>(packet.ip_bytes - sizeof ip);
  if (!sum_is_known(ip.next_header, kProtocolIcmpv6, inner + sizeof ip, bytes)) return {};
  // Read as spend_hop() wrote it. The length is the payload's, and cancels out.
  uint32_t length_next_hops;
  std::memcpy(&length_next_hops, inner + offsetof(Ipv6Header, payload_bytes), 4);
  return uint64_t{ip.version_class_flow.raw()} + length_next_hops +
         static_cast<uint16_t>(~be16(bytes).raw()) +
         static_cast<uint16_t>(~be16(ip.next_header).raw());
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

void put_udp(uint8_t* at, be16 source, be16 bytes, be16 checksum) {
  auto& udp = *reinterpret_cast<UdpHeader*>(at);
  udp.source = source;
  udp.destination = be16(GW_GUE_PORT);
  udp.bytes = bytes;
  udp.checksum = checksum;
}

void put_gue_v4(uint8_t* at, be64 header, LaterHops later) {
  std::memcpy(at, &header, sizeof header);
  at += sizeof header;
  for (const gw_backend* hop : later) {
    std::memcpy(at, hop->address + 12, 4);
    at += 4;
  }
}

// Returns what it adds up to, by the addresses' own sums.
uint64_t put_gue_v6(uint8_t* at, be64 header, LaterHops later) {
  std::memcpy(at, &header, sizeof header);
  at += sizeof header;
  uint64_t sum = 0;
  for (const gw_backend* hop : later) {
    std::memcpy(at, hop->address, 16);
    at += 16;
    sum += hop->address_sum;
  }
  return add_word(sum, header.raw());
}

Patch patch_of(const uint8_t* inner, const Packet& packet, size_t list_bytes) {
  return {.payload_bytes = static_cast<uint16_t>(sizeof(UdpHeader) + list_bytes + packet.ip_bytes),
          .protocol = kProtocolUdp,
          .tos = traffic_class(inner, packet.v4)};
}

void gue_over_v4(Frame& frame, const Packet& packet, const gw_backend& backend, uint64_t hash,
                 LaterHops later) {
  const unsigned list_bytes = gw_gue_bytes(4, static_cast<unsigned>(later.size()));
  const Patch patch = patch_of(frame.data + sizeof(EthernetHeader), packet, list_bytes);
  uint8_t* at = make_room(frame, packet, kGueOuterV4 + list_bytes);
  put_v4(at, backend, patch);
  put_udp(at + kOuterV4, be16(gw_gue_source_port(hash)), be16(patch.payload_bytes), be16{});
  put_gue_v4(at + kGueOuterV4, gue_header(true, packet.v4, later), later);
}

void gue_over_v6(Frame& frame, const Packet& packet, const gw_backend& backend, uint64_t hash,
                 LaterHops later) {
  const uint8_t* inner = frame.data + sizeof(EthernetHeader);
  const unsigned list_bytes = gw_gue_bytes(6, static_cast<unsigned>(later.size()));
  const Patch patch = patch_of(inner, packet, list_bytes);
  const be16 source(gw_gue_source_port(hash));
  const be16 bytes(patch.payload_bytes);
  uint8_t* at = make_room(frame, packet, kGueOuterV6 + list_bytes);
  put_v6(at, backend.outer, patch, hash);
  const uint64_t list_sum =
      put_gue_v6(at + kGueOuterV6, gue_header(false, packet.v4, later), later);
  const auto sum = inner_sum(inner, packet);
  if (!sum) return put_udp(at + kOuterV6, source, bytes, be16{});
  // Local checksum offload; see gue.h. The length stands in the pseudo header and in the header.
  const uint64_t words = uint64_t{backend.outer_sum} + 2 * uint64_t{bytes.raw()} + source.raw();
  const uint64_t all = add_word(add_word(list_sum, words), *sum);
  const be16 checksum = checksum_finish(all);
  put_udp(at + kOuterV6, source, bytes, checksum == be16{} ? be16(0xffff) : checksum);
}

}  // namespace

void encap::encapsulate_gue(Frame& frame, const Packet& packet, const gw_backend& backend,
                            uint64_t hash, LaterHops later) {
  if (backend.outer_bytes == kGueOuterV4) {
    gue_over_v4(frame, packet, backend, hash, later);
  } else {
    gue_over_v6(frame, packet, backend, hash, later);
  }
}

}  // namespace guideway
