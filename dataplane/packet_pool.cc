// SPDX-License-Identifier: Apache-2.0
#include "dataplane/packet_pool.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <cstdint>
#include <string>

namespace guideway {
namespace {

constexpr unsigned kCache = 256;  // buffers that a thread keeps for itself

struct Span {
  uintptr_t first = UINTPTR_MAX;
  uintptr_t last = 0;
};

void measure(rte_mempool*, void* span, void* object, unsigned) {
  auto& s = *static_cast<Span*>(span);
  const auto at = reinterpret_cast<uintptr_t>(object);
  if (at < s.first) s.first = at;
  if (at > s.last) s.last = at;
}

bool is_dense(rte_mempool* pool) {
  Span span;
  rte_mempool_obj_iter(pool, measure, &span);
  const size_t stride = pool->header_size + pool->elt_size + pool->trailer_size;
  return span.last - span.first == (size_t{pool->populated_size} - 1) * stride;
}

}  // namespace

Result<rte_mempool*> make_packet_pool(unsigned buffers) {
  // Without physical addresses (IOVA as VA) a buffer may cross a page.
  const unsigned flags = rte_eal_iova_mode() == RTE_IOVA_VA ? RTE_MEMPOOL_F_NO_IOVA_CONTIG : 0;
  rte_mempool* pool =
      rte_mempool_create_empty("packets", buffers, sizeof(rte_mbuf) + RTE_MBUF_DEFAULT_BUF_SIZE,
                               kCache, sizeof(rte_pktmbuf_pool_private), SOCKET_ID_ANY, flags);
  const std::string what = std::to_string(buffers) + " packet buffers";
  if (!pool || rte_mempool_set_ops_byname(pool, "ring_mt_rts", nullptr) != 0)
    return fail("DPDK", "no pool for " + what + ": " + rte_strerror(rte_errno));
  rte_pktmbuf_pool_init(pool, nullptr);
  if (rte_mempool_populate_default(pool) < 0)
    return fail("DPDK", "no memory for " + what, "raise [dataplane] memory_mb");
  rte_mempool_obj_iter(pool, rte_pktmbuf_init, nullptr);
  if (!is_dense(pool))
    return fail("DPDK", "the memory for " + what + " is in several pieces",
                "set [dataplane] hugepages = true, or run on a kernel that gives DPDK virtual "
                "addresses (IOVA as VA)");
  return pool;
}

}  // namespace guideway
