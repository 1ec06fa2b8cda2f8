// SPDX-License-Identifier: Apache-2.0
// RUN/counters as its one writer sees it: see abi.h for the layout and for who may read what.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "controlplane/result.h"
#include "dataplane/abi.h"
#include "dataplane/flow_table.h"
#include "dataplane/frame.h"

namespace guideway {

// One worker's counters. Only that worker writes; a reader may see each value late, never torn.
struct WorkerCounters {
  gw_worker_counters* own = nullptr;
  gw_traffic* services = nullptr;  // [GW_SERVICES_MAX]
  gw_traffic* backends = nullptr;  // [GW_BACKENDS_MAX]

  static void add(uint64_t& counter, uint64_t n) {
    __atomic_store_n(&counter, counter + n, __ATOMIC_RELAXED);
  }
  void beat() { add(own->heartbeat, 1); }
  void flow_table(const FlowTable& flows) {
    __atomic_store_n(&own->flows, flows.used(), __ATOMIC_RELAXED);
    __atomic_store_n(&own->flows_max, flows.size(), __ATOMIC_RELAXED);
  }
  void flows_refused(uint64_t flows) { add(own->flows_refused, flows); }
  void received(uint64_t packets) { add(own->received, packets); }
  void verdict(Verdict v, uint64_t packets = 1) {
    add(own->verdict[static_cast<unsigned>(v)], packets);
  }
  static void add(gw_traffic& traffic, const gw_traffic& more) {
    add(traffic.packets, more.packets);
    add(traffic.bytes, more.bytes);
  }
  // The end of the frames' way: their verdicts, and the traffic of their services and backends.
  void finish(std::span<const Frame> frames) {
    uint64_t forwarded = 0;
    // Of the service that several frames in a row are for.
    uint32_t service = 0;
    gw_traffic row{};
    for (const Frame& frame : frames) {
      if (frame.verdict != Verdict::forwarded) {
        verdict(frame.verdict);
        continue;
      }
      ++forwarded;
      if (frame.service != service) {
        add(services[service], row);
        service = frame.service;
        row = {};
      }
      ++row.packets;
      row.bytes += frame.ip_bytes;
      add(backends[frame.backend], {1, frame.ip_bytes});
    }
    add(services[service], row);
    verdict(Verdict::forwarded, forwarded);
  }
};

class CountersRegion {
 public:
  // Opens or creates the file at `path`. One that an earlier dataplane left goes on with epoch + 1,
  // and packets that it had received and not judged become `lost_in_restart`; the gauges `flows`
  // and `flows_max` start from 0, `flows_refused` goes on. One of another layout, or damaged, is
  // replaced. The caller makes sure that it is the only writer. The room that `workers` write to is
  // taken at once (640 KiB each), so that a full file system is an error here and not a fault on
  // the packet path.
  static Result<CountersRegion> open(const std::string& path, uint32_t workers);

  CountersRegion(CountersRegion&& other) noexcept;
  CountersRegion& operator=(CountersRegion&&) = delete;
  ~CountersRegion();

  gw_counters& head() { return *reinterpret_cast<gw_counters*>(base_); }
  WorkerCounters worker(uint32_t index);
  // For readers; opened read-only.
  int read_only_fd() const { return read_only_fd_; }

 private:
  CountersRegion() = default;
  void touch(uint32_t workers);
  void start_epoch(uint32_t workers);

  uint8_t* base_ = nullptr;
  int read_only_fd_ = -1;
};

}  // namespace guideway
