// SPDX-License-Identifier: Apache-2.0
// The pool of packet buffers, laid out as DPDK's AF_XDP driver takes for granted: it registers
// (number of buffers) * (size of a buffer) bytes with the kernel, so buffers must lie without a
// gap. DPDK's own rte_pktmbuf_pool_create() leaves gaps at 4 KiB pages; a buffer that then lies
// outside what was registered is swallowed by the kernel, and a receive queue ends dry.
#pragma once

#include "controlplane/result.h"

struct rte_mempool;

namespace guideway {

// After rte_eal_init(). The pool lives until rte_eal_cleanup(). Safe for threads that are
// descheduled in the middle of an operation: nobody spins for them (ring_mt_rts).
Result<rte_mempool*> make_packet_pool(unsigned buffers);

}  // namespace guideway
