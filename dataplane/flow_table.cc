// SPDX-License-Identifier: Apache-2.0
#include "dataplane/flow_table.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string>

namespace guideway {
namespace {

// How long one sweep over all sets takes, if the worker calls often enough for kSweepSetsMost.
constexpr uint64_t kSweepNs = 4'000'000'000;
// In one call: some microseconds at most. The largest table needs 65536 calls, less than a minute
// even of a worker that rests.
constexpr size_t kSweepSetsMost = 64;

constexpr FlowState first_state(FlowSign sign) {
  switch (sign) {
    case FlowSign::syn:
      return FlowState::opening;
    case FlowSign::data:
      return FlowState::guessed;
    case FlowSign::end:
      return FlowState::closing;
    case FlowSign::datagram:
      break;
  }
  return FlowState::udp;
}

}  // namespace

void FlowTable::Unmap::operator()(Set* sets) const {
  munmap(static_cast<void*>(sets), bytes);
}

Result<FlowTable> FlowTable::make(size_t entries) {
  const size_t sets = std::bit_ceil(std::max(entries, kWays)) / kWays;
  const size_t bytes = sets * sizeof(Set);
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED)
    return fail("flow table", std::string("no memory: ") + std::strerror(errno),
                "lower [dataplane] flow_table");
  // Fewer TLB misses, if the kernel can.
  madvise(at, bytes, MADV_HUGEPAGE);
  FlowTable table;
  table.sets_ = {static_cast<Set*>(at), Unmap{bytes}};
  table.mask_ = sets - 1;
  return table;
}

void FlowTable::prefault() {
  auto* base = reinterpret_cast<volatile uint8_t*>(sets_.get());
  for (size_t at = 0; at < size() * sizeof(Flow); at += 4096) base[at] = base[at];
}

bool FlowTable::learn(uint64_t hash, uint16_t backend, FlowSign sign, uint16_t now) {
  Flow* place = nullptr;
  if (sets_) {
    // By preference: its own entry, a free one, the oldest of those that sent only one packet, one
    // that is ending. (A single FIN that nobody knows makes such a one, too.)
    unsigned best = 0;
    for (Flow& flow : sets_[hash & mask_].flow) {
      if (is_expired(flow, now) && flow.state != FlowState::none) forget(flow);
      const bool may_go = flow.state == FlowState::opening || flow.state == FlowState::guessed;
      unsigned rank = may_go ? 2u + age(flow, now) : 0u;
      if (flow.state == FlowState::closing) rank = 1;
      if (flow.hash == hash) rank = 1u << 18;
      if (flow.state == FlowState::none) rank = 1u << 17;
      if (rank > best) place = &flow;
      best = std::max(best, rank);
    }
  }
  if (!place) {
    ++refused_;
    return false;
  }
  if (place->state == FlowState::none) ++used_;
  *place = {hash, backend, now, first_state(sign), {}};
  return true;
}

void FlowTable::drop_expired(Set& set, uint16_t now) {
  for (Flow& flow : set.flow) {
    // An empty one is as old as the clock says, and no entry.
    if (is_expired(flow, now) && flow.state != FlowState::none) forget(flow);
  }
}

void FlowTable::sweep(uint64_t now_ns) {
  if (empty()) return;
  const size_t sets = mask_ + 1;
  const uint64_t per_set_ns = std::max<uint64_t>(kSweepNs / sets, 1);
  const uint64_t due = (now_ns - swept_ns_) / per_set_ns;
  const size_t count = std::min<uint64_t>({due, sets, kSweepSetsMost});
  // What is left over is not made up for: a worker that was busy elsewhere has better to do.
  swept_ns_ = count == due ? swept_ns_ + due * per_set_ns : now_ns;
  const uint16_t now = flow_second(now_ns);
  for (size_t i = 0; i < count; ++i) {
    drop_expired(sets_[next_set_], now);
    next_set_ = (next_set_ + 1) & mask_;
  }
}

}  // namespace guideway
