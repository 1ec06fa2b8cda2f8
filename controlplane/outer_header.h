// SPDX-License-Identifier: Apache-2.0
// The ready-made header in front of every packet to a backend (gw_backend.outer): what the image
// carries for packets, and what probes are sent with.
#pragma once

#include <cstdint>

#include "controlplane/intent.h"
#include "controlplane/next_hops.h"
#include "dataplane/address.h"

namespace guideway {

// Writes at most GW_OUTER_MAX bytes, and says how many: an Ethernet header (l2; its ethertype is
// left 0 for the worker to patch), for ipip and gue the outer IP header behind it, whose length,
// TOS, checksum and (ipip) inner protocol are 0, and for gue a UDP header, all 0 but its
// destination. `hop` must be one that next_hop_problem() has nothing against.
uint8_t write_outer_header(uint8_t* outer, Forwarding forwarding, const Address& backend,
                           const NextHop& hop);

}  // namespace guideway
