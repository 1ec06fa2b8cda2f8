// SPDX-License-Identifier: Apache-2.0
// The `edge` program on a port's interface (edge.bpf.c). DPDK's AF_XDP driver loads and attaches
// it; Edge finds it there and keeps its list of VIPs. The prober's end of it is scoreboard.h.
//
//   Edge::clear_stale(interface)     before DPDK starts the port: the driver refuses to attach
//                                    over the program of a process that was killed
//   ... DPDK starts the port ...
//   edge = Edge::find(interface)     then edge.set_vips(...) with every adopted image
//   ... DPDK stops the port ...
//   edge.detach()
//
// From attaching to the first set_vips() VIP packets go to the kernel. While the process is dead
// and the program still attached, they are dropped.
//
// One thread at a time; needs root. Errors name the interface.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "bpf/attachment.h"
#include "bpf/layout.h"
#include "bpf/map.h"
#include "controlplane/result.h"
#include "controlplane/unique_fd.h"
#include "dataplane/address.h"

namespace guideway {

inline constexpr BpfCounterText kEdgeCounters[] = {
#define GW_X(name, meaning) {#name, meaning},
    GW_EDGE_COUNTERS(GW_X)
#undef GW_X
};
using EdgeCounters = std::array<uint64_t, GW_EDGE_COUNTERS_END>;  // packets, by gw_edge_counter

class Edge {
 public:
  // Detaches an `edge` that an earlier process left. Another program there: an error that names
  // it and says how to take it off.
  static Result<void> clear_stale(const std::string& interface);

  // The attached `edge`.
  static Result<Edge> find(const std::string& interface);

  // Makes the list of VIPs what `wanted` says (at most GW_EDGE_VIPS_MAX). A VIP that stays is
  // never missing in between.
  Result<void> set_vips(std::span<const Address> wanted);

  Result<EdgeCounters> counters() const;

  // False if it was taken off, or another put in its place, since find().
  Result<bool> attached() const;

  // Takes this very program off; no error if it is gone already.
  Result<void> detach();

  unsigned program_id() const { return attachment_.program_id; }
  XdpMode mode() const { return attachment_.mode; }

 private:
  Interface interface_;
  Attachment attachment_;
  UniqueFd vips_;
  UniqueFd counters_;
};

}  // namespace guideway
