// SPDX-License-Identifier: Apache-2.0
#include "controlplane/outer_header.h"

#include <array>
#include <cstring>

#include "bpf/gue.h"
#include "dataplane/headers.h"

namespace guideway {
namespace {

constexpr uint8_t kOuterTtl = 64;

template <typename Header>
void put(uint8_t* at, const Header& header) {
  std::memcpy(at, &header, sizeof header);
}

template <size_t N>
std::array<uint8_t, N> array_of(const uint8_t* bytes) {
  std::array<uint8_t, N> out;
  std::memcpy(out.data(), bytes, N);
  return out;
}

}  // namespace

uint8_t write_outer_header(uint8_t* outer, Forwarding forwarding, const Address& backend,
                           const NextHop& hop) {
  const bool v4 = backend.is_v4();
  const uint16_t tunnel_type = v4 ? kEthernetIpv4 : kEthernetIpv6;
  const bool tunnel = forwarding != Forwarding::l2;
  const bool gue = forwarding == Forwarding::gue;
  const uint8_t protocol = gue ? kProtocolUdp : uint8_t{0};
  put(outer, EthernetHeader{.destination = hop.mac,
                            .source = hop.source_mac,
                            .type = be16(tunnel ? tunnel_type : uint16_t{0})});
  uint8_t* ip = outer + sizeof(EthernetHeader);
  if (!tunnel) return sizeof(EthernetHeader);
  if (v4) {
    put(ip, Ipv4Header{.version_ihl = 0x45,
                       .tos = 0,
                       .total_bytes = be16(0),
                       .id = be16(0),
                       .fragment = be16(kIpv4DontFragment),
                       .ttl = kOuterTtl,
                       .protocol = protocol,
                       .checksum = be16(0),
                       .source = array_of<4>(hop.source->v4()),
                       .destination = array_of<4>(backend.v4())});
    ip += sizeof(Ipv4Header);
  } else {
    put(ip, Ipv6Header{.version_class_flow = be32(6u << 28),
                       .payload_bytes = be16(0),
                       .next_header = protocol,
                       .hop_limit = kOuterTtl,
                       .source = array_of<16>(hop.source->v6()),
                       .destination = array_of<16>(backend.v6())});
    ip += sizeof(Ipv6Header);
  }
  if (gue) {
    const be16 ports[] = {be16(0), be16(GW_GUE_PORT)};
    std::memset(ip, 0, kUdpHeaderBytes);
    std::memcpy(ip, ports, sizeof ports);
    ip += kUdpHeaderBytes;
  }
  return static_cast<uint8_t>(ip - outer);
}

}  // namespace guideway
