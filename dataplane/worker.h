// SPDX-License-Identifier: Apache-2.0
// A worker: one poll-mode thread that runs its packets to completion. Receives from its queue of
// every port, forwards, sends, counts, passes a quiescent state. Shares nothing with other workers
// on the packet path.
#pragma once

#include <rte_rcu_qsbr.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "dataplane/counters_region.h"
#include "dataplane/forward.h"
#include "dataplane/image.h"
#include "dataplane/port.h"

namespace guideway {

class alignas(64) Worker {
 public:
  // `ports` outlive the worker; it uses queue `index` of each. Worker 0 also takes what the kernel
  // sends on owned ports. `qsbr`: this worker is its thread number `index`.
  Worker(unsigned index, std::span<const std::unique_ptr<Port>> ports, WorkerCounters counters,
         rte_rcu_qsbr* qsbr, FlowTable flows);

  // Main thread: the image used from the worker's next burst on.
  void set_image(const Image* image) { image_.store(image, std::memory_order_release); }

  // The thread's body; returns after stop().
  void run();
  // No heartbeat any more: the control plane takes this dataplane for dead. It forwards on.
  void fall_silent() { silent_.store(true, std::memory_order_relaxed); }
  void stop() { stop_.store(true, std::memory_order_relaxed); }

 private:
  unsigned poll(Port& port);
  unsigned poll_kernel(Port& port);
  size_t take_all(const Port& from, rte_mbuf** packets, unsigned count);
  void send(Port& from, std::span<Frame> frames, rte_mbuf** packets);
  void send_each(Port& from, std::span<Frame> frames, rte_mbuf** packets);
  void send_by(uint16_t port, Egress egress, std::span<Frame> frames, rte_mbuf** packets);
  void rest(unsigned idle_rounds);
  void tend_flows();
  uint64_t now_ns() const;

  std::atomic<const Image*> image_{nullptr};
  std::atomic<bool> stop_{false};
  std::atomic<bool> silent_{false};

  const unsigned index_;
  const std::span<const std::unique_ptr<Port>> ports_;
  WorkerCounters counters_;
  rte_rcu_qsbr* const qsbr_;
  const Image* current_ = nullptr;
  Forwarder forwarder_;
  std::array<Frame, kBurstMax> frames_;  // of the burst in hand
  uint64_t refused_told_ = 0;
  const double ns_per_cycle_;
};

}  // namespace guideway
