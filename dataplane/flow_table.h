// SPDX-License-Identifier: Apache-2.0
// One worker's flow table: which backend a flow of an unsettled slot went to (see gw_backend in
// abi.h). In a quiet pool it is empty, and costs nothing. Fixed memory, taken once; one thread.
//
// Set-associative: 4 entries of 16 bytes, one cache line, are all the places that a flow can have.
// A flow that finds no free or expired place may take that of an `opening` or `guessed` one, the
// oldest; never that of one in another state. So a flood of packets from random sources costs no
// established flow its entry. What a flood can do is to fill the table: flows are then not learned,
// and counted as refused. They are forwarded all the same, by the slot alone.
//
// Only the client's packets are seen here (the replies go straight to it), so that a state is a
// guess from one side.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "controlplane/result.h"

namespace guideway {

enum class FlowState : uint8_t {
  none,         // no entry
  opening,      // only SYNs seen
  guessed,      // one packet that opens nothing, of a flow that nobody knows
  established,  // a packet without SYN after its SYN, or a second or more after the guess
  closing,      // FIN or RST seen
  udp,
};

// What a packet says about its flow.
enum class FlowSign : uint8_t {
  syn,       // TCP: SYN without ACK, FIN, RST: a new connection
  data,      // TCP: anything else
  end,       // TCP: FIN or RST
  datagram,  // UDP
};

// Idle times, in seconds, after which an entry is gone.
// A client sends its SYN again after 1, 3 and 7 s (RFC 6298 section 2): three tries.
inline constexpr unsigned kOpeningIdle = 10;
// Twice what a change of an `l2` or `ipip` pool is remembered for (pool_plan.h); until then a
// forgotten one is guessed again, and alike.
inline constexpr unsigned kGuessedIdle = 120;
inline constexpr unsigned kGuessProven = 1;
// Longer than applications usually let a connection be silent. RFC 5382's two hours are for NATs,
// which break a connection that they forget; we only fall back to the slot.
inline constexpr unsigned kEstablishedIdle = 3600;
// The last ACKs, and what was lost of them and comes again.
inline constexpr unsigned kClosingIdle = 15;
// Above QUIC's usual 30 s; a flow that is forgotten falls back to the slot.
inline constexpr unsigned kUdpIdle = 60;

// By state.
inline constexpr std::array<uint16_t, 6> kIdle = {
    0, kOpeningIdle, kGuessedIdle, kEstablishedIdle, kClosingIdle, kUdpIdle};

struct Flow {
  uint64_t hash;     // flow_hash()
  uint16_t backend;  // gw_backend.counter
  uint16_t seen;     // flow_second() of its last packet
  FlowState state;
  uint8_t unused[3];
};
static_assert(sizeof(Flow) == 16);

// Time as the table has it: seconds modulo 2^16. Ages up to 18 hours are told right; the sweep
// makes sure that no entry gets so old.
inline uint16_t flow_second(uint64_t now_ns) {
  return static_cast<uint16_t>(now_ns / 1'000'000'000);
}

// In seconds.
inline uint16_t age(const Flow& flow, uint16_t now) {
  return static_cast<uint16_t>(now - flow.seen);
}
inline bool is_expired(const Flow& flow, uint16_t now) {
  return age(flow, now) > kIdle[static_cast<size_t>(flow.state)];
}

class FlowTable {
 public:
  static constexpr size_t kWays = 4;

  FlowTable() = default;  // no memory: learns nothing

  // `entries`: rounded up to a power of two, at least kWays.
  static Result<FlowTable> make(size_t entries);

  // Touches all its memory, by the thread that will use it: no page fault with a packet in hand.
  void prefault();

  bool empty() const { return used_ == 0; }
  size_t used() const { return used_; }
  size_t size() const { return (mask_ + 1) * (sets_ ? kWays : 0); }
  uint64_t refused() const { return refused_; }

  // All times: flow_second().
  void prefetch(uint64_t hash) const {
    if (sets_) __builtin_prefetch(&sets_[hash & mask_]);
  }
  // Null: unknown, or expired. The entry stays valid until the next learn() or sweep().
  Flow* find(uint64_t hash, uint16_t now);
  // Its backend got another packet of it.
  static void see(Flow& flow, FlowSign sign, uint16_t now);
  // Enters the flow, or changes its entry. False: no room; counted.
  bool learn(uint64_t hash, uint16_t backend, FlowSign sign, uint16_t now);
  void forget(Flow& flow);

  // Drops what has expired in some sets, so that each is looked at every few seconds. For every
  // round of polling; cheap however often it is called.
  void sweep(uint64_t now_ns);

 private:
  struct alignas(64) Set {
    Flow flow[kWays];
  };
  static_assert(sizeof(Set) == 64);
  struct Unmap {
    size_t bytes;
    void operator()(Set* sets) const;
  };

  void drop_expired(Set& set, uint16_t now);

  std::unique_ptr<Set[], Unmap> sets_;
  size_t mask_ = 0;  // number of sets - 1
  size_t used_ = 0;
  uint64_t refused_ = 0;
  size_t next_set_ = 0;    // of the sweep
  uint64_t swept_ns_ = 0;  // up to when the sweep has kept its pace
};

inline Flow* FlowTable::find(uint64_t hash, uint16_t now) {
  if (!sets_) return nullptr;
  for (Flow& flow : sets_[hash & mask_].flow) {
    if (flow.hash != hash || flow.state == FlowState::none) continue;
    if (!is_expired(flow, now)) return &flow;
    forget(flow);
    return nullptr;
  }
  return nullptr;
}

inline void FlowTable::see(Flow& flow, FlowSign sign, uint16_t now) {
  if (flow.state == FlowState::guessed && sign != FlowSign::end) {
    // `seen` stays that of the guess.
    if (sign != FlowSign::data || age(flow, now) < kGuessProven) return;
    flow.state = FlowState::established;
  }
  // Not written without need: the line would have to go back to memory.
  if (flow.seen != now) flow.seen = now;
  if (sign == FlowSign::end) {
    flow.state = FlowState::closing;
  } else if (sign == FlowSign::data && flow.state == FlowState::opening) {
    flow.state = FlowState::established;
  }
}

inline void FlowTable::forget(Flow& flow) {
  flow = {};
  --used_;
}

}  // namespace guideway
