// SPDX-License-Identifier: Apache-2.0
// The verdicts: what became of a packet. Each received packet ends in exactly one, and each has a
// name and a counter (gw_worker_counters.verdict). Appended, never renumbered: the numbers are part
// of the shared layout.
#pragma once

#include <cstdint>
#include <string_view>

#include "dataplane/abi.h"

namespace guideway {

//    name                     meaning
#define GW_VERDICTS(X)                                                                           \
  X(forwarded, "sent to a backend")                                                              \
  X(echo_replied, "ICMP echo request to a VIP, answered")                                        \
  X(too_big_replied, "does not fit the way to the backend; the sender was told its MTU by ICMP") \
  X(to_kernel, "not for a VIP, handed to the kernel (ports that DPDK owns)")                     \
  X(from_kernel, "from the kernel, sent to the wire (ports that DPDK owns)")                     \
  X(no_image, "no forwarding image adopted yet")                                                 \
  X(not_vip, "not for a VIP, on a port that is shared with the kernel")                          \
  X(no_service, "for a VIP, but no service has this protocol and port")                          \
  X(no_backend, "the pool has no backend that is up for this slot")                              \
  X(no_next_hop, "the backends of this slot have no known next hop (route or neighbour)")        \
  X(truncated, "shorter than its headers say")                                                   \
  X(bad_header, "a header contradicts itself: version, header length or total length")           \
  X(bad_checksum, "IPv4 header checksum wrong")                                                  \
  X(extension_headers, "IPv6 extension headers that are too many, or of an unsupported kind")    \
  X(fragment, "an IP fragment: its flow cannot be told")                                         \
  X(bad_protocol, "for a VIP, neither TCP, UDP nor an ICMP message that is handled")             \
  X(icmp_unrelated, "an ICMP error whose embedded packet belongs to no service")                 \
  X(ttl_expired, "TTL or hop limit used up")                                                     \
  X(too_big, "does not fit the way to the backend, and its sender cannot be told so")            \
  X(too_big_unsaid, "does not fit the way to the backend; the ICMP answer was over its rate")    \
  X(echo_limited, "ICMP echo request to a VIP, over the rate of answers")                        \
  X(tx_full, "the egress port took no more packets")                                             \
  X(kernel_full, "the queue to the kernel took no more packets")                                 \
  X(no_headroom, "no room in front of the packet for the outer header")                          \
  X(lost_in_restart, "in flight when a dataplane process ended")                                 \
  X(bad_source, "a source address that no client can have: multicast, loopback, unspecified")    \
  X(other_mac, "for a VIP, but addressed to another station: a switch that floods")              \
  X(too_long, "longer than one packet buffer")

enum class Verdict : uint8_t {
#define GW_VERDICT_ENUM(name, meaning) name,
  GW_VERDICTS(GW_VERDICT_ENUM)
#undef GW_VERDICT_ENUM
};

struct VerdictText {
  std::string_view name;
  std::string_view meaning;
};

inline constexpr VerdictText kVerdicts[] = {
#define GW_VERDICT_TEXT(name, meaning) {#name, meaning},
    GW_VERDICTS(GW_VERDICT_TEXT)
#undef GW_VERDICT_TEXT
};

inline constexpr unsigned kVerdictCount = sizeof kVerdicts / sizeof kVerdicts[0];
static_assert(kVerdictCount <= GW_VERDICTS_MAX);

inline constexpr std::string_view verdict_name(Verdict v) {
  return kVerdicts[static_cast<unsigned>(v)].name;
}

}  // namespace guideway
