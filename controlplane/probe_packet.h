// SPDX-License-Identifier: Apache-2.0
// The bytes of a target's probes: built once, patched for each attempt. No clock, no sockets.
//
//   outer (Ethernet, or Ethernet + IP of a tunnel, as packets to the backend get it: encap.h)
//   inner IP (TTL 64; IPv4: DF, id 0)
//   tcp   SYN with an MSS (RFC 9293 section 3.7.1), and the RST that takes it back
//   icmp  echo request; the payload is a gw_probe_mark
//   udp   echo: the mark as text. dns: a TXT query for TEXT.guideway.invalid (RFC 1035 section 4,
//         RFC 6761 section 6.4)
//
// bpf/cookie.h says what in them names the attempt and proves the reply.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "bpf/cookie.h"
#include "controlplane/prober.h"
#include "controlplane/result.h"

namespace guideway {

class ProbePacket {
 public:
  static constexpr unsigned kBytesMax = 192;  // gue over IPv6, IPv6, UDP, a DNS query: 185

  // For tcp, icmp and udp. Fails if the outer header is none of abi.h, or if source and
  // destination are of two families.
  static Result<ProbePacket> make(const ProbeTarget& target, const gw_probe_secret& secret);

  // A frame, until the next call of the same function. `attempt` is taken modulo GW_PROBE_ATTEMPTS.
  std::span<const uint8_t> probe(uint32_t attempt);
  // tcp: what ends the half-open connection of that attempt, whether the SYN-ACK was seen or not.
  std::span<const uint8_t> reset(uint32_t attempt);

 private:
  struct Frame {
    std::array<uint8_t, kBytesMax> bytes{};
    uint16_t size = 0;
    uint16_t l4 = 0;           // where TCP, ICMP or UDP begins
    uint16_t checksum_at = 0;  // in it
    uint64_t pseudo_sum = 0;   // of the pseudo-header
  };

  ProbePacket() = default;
  Frame frame_of(const ProbeTarget& target, uint8_t protocol, std::span<const uint8_t> l4) const;
  struct TcpName {
    uint32_t attempt = UINT32_MAX;
    uint32_t sequence = 0;
    uint16_t port = 0;
  };
  const TcpName& tcp_name(uint32_t attempt);
  void write_tcp(Frame& frame, uint32_t sequence, uint16_t port) const;
  void write_udp(uint8_t* l4, const gw_probe_name& name, uint64_t proof) const;
  void write_checksum(Frame& frame) const;

  gw_probe_secret secret_{};
  gw_probe_peer peer_{};
  uint32_t id_ = 0;
  UdpQuery query_ = UdpQuery::dns;
  bool v4_ = false;
  Frame probe_, reset_;
  std::array<TcpName, 2> names_;  // of the last attempts: a reset mostly follows soon
};

}  // namespace guideway
