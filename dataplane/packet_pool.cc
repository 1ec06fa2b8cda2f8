// SPDX-License-Identifier: Apache-2.0
#include "dataplane/packet_pool.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_memzone.h>

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

void free_zone(rte_mempool_memhdr*, void* zone) {
  rte_memzone_free(static_cast<const rte_memzone*>(zone));
}

// Where IOVA is VA, one piece of virtual memory is one piece for the NIC as well. DPDK's own
// rte_mempool_populate_default() gives buffers that need not be contiguous no address for DMA at
// all, as if no NIC was to see them.
int populate(rte_mempool* pool) {
  if (rte_eal_iova_mode() != RTE_IOVA_VA) return rte_mempool_populate_default(pool);
  size_t least = 0;
  size_t align = 0;
  const ssize_t bytes = rte_mempool_op_calc_mem_size_default(pool, pool->size, 0, &least, &align);
  if (bytes < 0) return static_cast<int>(bytes);
  const rte_memzone* zone = rte_memzone_reserve_aligned(
      "packets", static_cast<size_t>(bytes), SOCKET_ID_ANY, 0, static_cast<unsigned>(align));
  if (!zone) return -rte_errno;
  return rte_mempool_populate_iova(pool, static_cast<char*>(zone->addr), zone->addr_64, zone->len,
                                   free_zone, const_cast<rte_memzone*>(zone));
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
  if (populate(pool) != static_cast<int>(buffers))
    return fail("DPDK", "no memory for " + what, "raise [dataplane] memory_mb");
  rte_mempool_obj_iter(pool, rte_pktmbuf_init, nullptr);
  if (!is_dense(pool))
    return fail("DPDK", "the memory for " + what + " is in several pieces",
                "set [dataplane] hugepages = true, or run on a kernel that gives DPDK virtual "
                "addresses (IOVA as VA)");
  return pool;
}

}  // namespace guideway
