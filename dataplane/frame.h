// SPDX-License-Identifier: Apache-2.0
// A frame on its way through the core: bytes in, and what became of them out. The core knows no
// mbuf; who owns the buffer copies `data` and `bytes` back to it afterwards.
#pragma once

#include <cstdint>

#include "dataplane/verdict.h"

namespace guideway {

enum class Egress : uint8_t {
  none,     // drop
  backend,  // send by `port`
  back,     // send by the port it came from
  kernel,   // hand to the kernel (ports that DPDK owns)
};

struct Frame {
  uint8_t* data = nullptr;      // the Ethernet header
  uint16_t bytes = 0;           // from `data`
  uint16_t headroom = 0;        // writable bytes before `data`
  bool header_checked = false;  // the NIC has added up the IPv4 header, and found it right

  // Results.
  Verdict verdict = Verdict::no_image;  // if sending fails the sender sets tx_full or kernel_full
  Egress egress = Egress::none;
  uint16_t port = 0;      // backend: index of the egress port
  uint16_t ip_bytes = 0;  // backend: of the packet as received, for the traffic counters
  uint32_t service = 0;   // backend: counter index
  uint32_t backend = 0;   // backend: counter index
};

}  // namespace guideway
