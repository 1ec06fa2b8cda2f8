// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker.h"

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "dataplane/kernel_path.h"

namespace guideway {
namespace {

// A worker without packets spins for a while (more usually come), then sleeps, longer each time;
// after about a second without any, longer still, but so that the first packet waits less than 1
// ms.
constexpr unsigned kSpinRounds = 256;
constexpr unsigned kSleepFirstUs = 20;
constexpr unsigned kSleepMostUs = 250;
constexpr unsigned kRestedRounds = 4000;
constexpr unsigned kSleepRestedUs = 800;

// Its results are written by Forwarder::forward().
void take(Frame& frame, const rte_mbuf& packet, bool checks_headers) {
  frame.data = static_cast<uint8_t*>(packet.buf_addr) + packet.data_off;
  frame.bytes = packet.data_len;
  frame.headroom = packet.data_off;
  // Drivers that check nothing may leave the flags of a buffer's packet before. Those that know
  // tunnels may mean the inner header by the good word, and say of ours that it is bad.
  frame.header_checked =
      checks_headers &&
      (packet.ol_flags & (RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_OUTER_IP_CKSUM_BAD)) ==
          RTE_MBUF_F_RX_IP_CKSUM_GOOD;
}

void write_back(rte_mbuf& packet, const Frame& frame) {
  packet.data_off = frame.headroom;
  packet.data_len = frame.bytes;
  packet.pkt_len = frame.bytes;
}

// Whether all go to backends by the port that the first one goes by.
bool go_by_one_port(std::span<const Frame> frames) {
  return std::all_of(frames.begin(), frames.end(), [&](const Frame& frame) {
    return frame.egress == Egress::backend && frame.port == frames[0].port;
  });
}

}  // namespace

Worker::Worker(unsigned index, std::span<const std::unique_ptr<Port>> ports,
               WorkerCounters counters, rte_rcu_qsbr* qsbr, FlowTable flows)
    : index_(index),
      ports_(ports),
      counters_(counters),
      qsbr_(qsbr),
      ns_per_cycle_(1e9 / static_cast<double>(rte_get_tsc_hz())) {
  forwarder_.flows = std::move(flows);
}

uint64_t Worker::now_ns() const {
  return static_cast<uint64_t>(static_cast<double>(rte_rdtsc()) * ns_per_cycle_);
}

void Worker::run() {
  forwarder_.flows.prefault();
  rte_rcu_qsbr_thread_register(qsbr_, index_);
  rte_rcu_qsbr_thread_online(qsbr_, index_);
  unsigned idle_rounds = 0;
  while (!stop_.load(std::memory_order_relaxed)) {
    current_ = image_.load(std::memory_order_acquire);
    unsigned packets = 0;
    for (const auto& port : ports_) {
      packets += poll(*port);
      if (index_ == 0 && port->kernel()) packets += poll_kernel(*port);
    }
    tend_flows();
    if (!silent_.load(std::memory_order_relaxed)) counters_.beat();
    rte_rcu_qsbr_quiescent(qsbr_, index_);
    idle_rounds = packets ? 0 : idle_rounds + 1;
    if (idle_rounds > kSpinRounds) rest(idle_rounds - kSpinRounds);
  }
  rte_rcu_qsbr_thread_offline(qsbr_, index_);
  rte_rcu_qsbr_thread_unregister(qsbr_, index_);
}

void Worker::tend_flows() {
  FlowTable& flows = forwarder_.flows;
  if (!flows.empty()) flows.sweep(now_ns());
  counters_.flow_table(flows);
  if (flows.refused() == refused_told_) return;
  counters_.flows_refused(flows.refused() - refused_told_);
  refused_told_ = flows.refused();
}

// Offline, so that a swap of images does not wait for a sleeper.
void Worker::rest(unsigned idle_rounds) {
  const unsigned us = idle_rounds > kRestedRounds
                          ? kSleepRestedUs
                          : std::min(kSleepMostUs, kSleepFirstUs * idle_rounds);
  const timespec pause{0, static_cast<long>(us) * 1000};
  rte_rcu_qsbr_thread_offline(qsbr_, index_);
  clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
  rte_rcu_qsbr_thread_online(qsbr_, index_);
}

unsigned Worker::poll(Port& port) {
  rte_mbuf* packets[kBurstMax];
  const uint16_t received =
      rte_eth_rx_burst(port.id(), static_cast<uint16_t>(index_), packets, kBurstMax);
  if (received == 0) return 0;
  counters_.received(received);
  const std::span<Frame> frames(frames_.data(), take_all(port, packets, received));
  forwarder_.forward(current_, port.ingress(), now_ns(), frames);
  send(port, frames, packets);
  counters_.finish(frames);
  return received;
}

// One frame for each packet; but packets that are chains of buffers, which no step knows, are freed
// and counted. The others keep their order.
size_t Worker::take_all(const Port& from, rte_mbuf** packets, unsigned count) {
  size_t n = 0;
  for (unsigned i = 0; i < count; ++i) {
    rte_mbuf* packet = packets[i];
    if (packet->nb_segs != 1) {
      rte_pktmbuf_free(packet);
      counters_.verdict(Verdict::too_long);
      continue;
    }
    take(frames_[n], *packet, from.checks_headers());
    rte_prefetch0(frames_[n].data);
    packets[n++] = packet;
  }
  return n;
}

// What the kernel sends through its TAP goes to the wire as it is.
unsigned Worker::poll_kernel(Port& port) {
  rte_mbuf* packets[kBurstMax];
  const unsigned n = port.kernel()->from_kernel(packets, kBurstMax);
  if (n == 0) return 0;
  counters_.received(n);
  const uint16_t sent =
      rte_eth_tx_burst(port.id(), static_cast<uint16_t>(index_), packets, static_cast<uint16_t>(n));
  rte_pktmbuf_free_bulk(packets + sent, n - sent);
  counters_.verdict(Verdict::from_kernel, sent);
  counters_.verdict(Verdict::tx_full, n - sent);
  return n;
}

void Worker::send(Port& from, std::span<Frame> frames, rte_mbuf** packets) {
  for (size_t i = 0; i < frames.size(); ++i) write_back(*packets[i], frames[i]);
  if (frames.empty()) return;
  if (!go_by_one_port(frames)) return send_each(from, frames, packets);
  const auto n = static_cast<uint16_t>(frames.size());
  const uint16_t sent =
      rte_eth_tx_burst(ports_[frames[0].port]->id(), static_cast<uint16_t>(index_), packets, n);
  rte_pktmbuf_free_bulk(packets + sent, n - sent);
  for (Frame& frame : frames.subspan(sent)) frame.verdict = Verdict::tx_full;
}

void Worker::send_each(Port& from, std::span<Frame> frames, rte_mbuf** packets) {
  for (const auto& port : ports_) send_by(port->index(), Egress::backend, frames, packets);

  rte_mbuf* kept[kBurstMax];
  Frame* owners[kBurstMax];
  unsigned kernel = 0;
  for (size_t i = 0; i < frames.size(); ++i) {
    switch (frames[i].egress) {
      case Egress::none:
        rte_pktmbuf_free(packets[i]);
        break;
      case Egress::back:
        if (rte_eth_tx_burst(from.id(), static_cast<uint16_t>(index_), &packets[i], 1) == 0) {
          rte_pktmbuf_free(packets[i]);
          frames[i].verdict = Verdict::tx_full;
        }
        break;
      case Egress::kernel:
        owners[kernel] = &frames[i];
        kept[kernel++] = packets[i];
        break;
      case Egress::backend:
        break;
    }
  }
  if (kernel == 0) return;
  for (unsigned i = from.kernel()->to_kernel(kept, kernel); i < kernel; ++i) {
    rte_pktmbuf_free(kept[i]);
    owners[i]->verdict = Verdict::kernel_full;
  }
}

void Worker::send_by(uint16_t port, Egress egress, std::span<Frame> frames, rte_mbuf** packets) {
  rte_mbuf* out[kBurstMax];
  Frame* owners[kBurstMax];
  uint16_t n = 0;
  for (size_t i = 0; i < frames.size(); ++i) {
    if (frames[i].egress != egress || frames[i].port != port) continue;
    owners[n] = &frames[i];
    out[n++] = packets[i];
  }
  if (n == 0) return;
  const uint16_t sent = rte_eth_tx_burst(ports_[port]->id(), static_cast<uint16_t>(index_), out, n);
  for (uint16_t i = sent; i < n; ++i) {
    rte_pktmbuf_free(out[i]);
    owners[i]->verdict = Verdict::tx_full;
  }
}

}  // namespace guideway
