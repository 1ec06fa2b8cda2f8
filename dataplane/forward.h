// SPDX-License-Identifier: Apache-2.0
// The packet path: a burst of frames in, a verdict for each out. Free of DPDK, allocation, locks,
// logging and system calls. A burst gives the same results as its frames one by one.
#pragma once

#include <cstdint>
#include <span>

#include "dataplane/flow_table.h"
#include "dataplane/frame.h"
#include "dataplane/headers.h"
#include "dataplane/image.h"
#include "dataplane/rate_limit.h"

namespace guideway {

inline constexpr unsigned kBurstMax = 64;

// How a port deals with packets that are not for a VIP.
enum class PortKind : uint8_t {
  shared,  // the NIC belongs to the kernel, which has its own packets already: drop
  owned,   // DPDK owns the NIC: hand them to the kernel
};

// Where a burst came in.
struct Ingress {
  PortKind kind = PortKind::shared;
  Mac mac{};  // the port's own
};

// What one worker keeps between bursts.
struct Forwarder {
  // ICMP that we send ourselves, for all VIPs, per worker (RFC 1812 section 4.3.2.8).
  RateLimit too_big_limit{1000, 100};
  RateLimit echo_limit{10000, 1000};
  FlowTable flows;

  // frames.size() <= kBurstMax. `image` may be null. now_ns: any monotonic clock.
  void forward(const Image* image, const Ingress& ingress, uint64_t now_ns,
               std::span<Frame> frames);
};

}  // namespace guideway
