// SPDX-License-Identifier: Apache-2.0
// The prober: a thread of its own, of raised priority, that sends probes, takes their replies from
// the scoreboards (bpf/scoreboard.h), and judges (judge.h). The loop's thread hears of changes
// only.
//
//   tcp, icmp, udp   frames over a packet socket, with the outer header and the next hop that
//                    packets to this backend get; the reply is taken by `edge`
//   http             libcurl, in another thread (http_prober.h)
//
// Each target's probes are `interval` apart, and the targets' phases are spread over it. A probe is
// decided when its reply is there, or its time-out is over by the stamps of sending and receiving,
// however late somebody looks.
//
// A probe without answer is only believed if the way there and back is known to have worked
// meanwhile: some probe that was sent by the same port at the same time or later was answered, and
// took no longer than this one may. So with an answer that came too late: if everybody's did, it is
// the way that was slow. A probe that is alone with its doubt asks a canary (an echo request to the
// port's gateways) after half its time-out. Nothing came back in time: the outcome is `unsure`. The
// same if the frame could not be sent, `edge` is not attached (or was attached anew since), or the
// port is owned and no dataplane is connected (or another than when it was sent).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bpf/cookie.h"
#include "controlplane/event_loop.h"
#include "controlplane/intent.h"
#include "controlplane/judge.h"
#include "controlplane/result.h"
#include "dataplane/address.h"

namespace guideway {

// The prober keeps the last few of the scoreboard's for canaries.
inline constexpr uint32_t kProbeTargetsMax = GW_PROBE_TARGETS_MAX - 8;

// One backend to probe. Its id is the caller's choice, below kProbeTargetsMax, and is not given to
// another backend within a minute.
struct ProbeTarget {
  uint32_t id = 0;
  Probe probe;            // kind not none
  std::string interface;  // the port that it is reached by; http: for the canary
  std::vector<uint8_t>
      outer;            // tcp, icmp, udp: what gw_backend.outer would be (14, 34 or 54 bytes)
  Address source;       // of the inner packet: this node's, of the destination's family
  Address destination;  // of the inner packet; http: the backend
  // What was known when it was probed last, for one that was not probed in between. No part of what
  // the target is.
  struct Before {
    bool is_down = false;
    bool operator==(const Before&) const { return true; }
  };
  Before before;
  bool operator==(const ProbeTarget&) const = default;
};

struct ProbePort {
  std::string interface;
  bool owned = false;       // by DPDK: `interface` is its TAP
  uint64_t connection = 0;  // owned: which connection of a dataplane this is; 0: none is connected
  struct Canary {
    std::vector<uint8_t> outer;  // Ethernet alone
    Address source, destination;
    bool operator==(const Canary&) const = default;
  };
  std::vector<Canary> canaries;  // gateways; at most 4 are asked
  bool operator==(const ProbePort&) const = default;
};

struct ProbeChange {
  uint32_t id = 0;
  Judge::Change change;
};

// For status: of each target, in order of id.
struct ProbeSight {
  uint32_t id = 0;
  Seen seen = Seen::unknown;
  bool blind = false;
  uint32_t rtt_us = 0;                           // smoothed (RFC 6298, alpha 1/8); 0: no answer yet
  uint64_t sent = 0, answered = 0;               // probes
  uint32_t successes = 0, successes_needed = 0;  // while down
};

class Prober {
 public:
  // In the loop's thread; of each target in order.
  using OnChanges = std::function<void(const std::vector<ProbeChange>&)>;

  // `edge_object`: for TAPs. Starts the threads, in the network namespace of the caller; fails
  // without CAP_NET_RAW. The priority: SCHED_FIFO 10 if it may, else nice -10, else as it is.
  static Result<std::unique_ptr<Prober>> create(EventLoop& loop, std::string edge_object,
                                                OnChanges on_changes);
  ~Prober();
  Prober(const Prober&) = delete;
  Prober& operator=(const Prober&) = delete;

  // What to probe from now on. A target that was there before with the same probe keeps its verdict
  // and its schedule, also if its way changed (interface, outer, addresses); what it had under way
  // is then unsure. From the loop's thread; does not wait.
  void set_targets(std::vector<ProbeTarget> targets);
  void set_ports(std::vector<ProbePort> ports);

  // A copy of what is known now. From the loop's thread.
  std::vector<ProbeSight> sights() const;
  // Why probing by a port is broken ("edge is not attached to eth1"); empty: it is not.
  std::string problem(const std::string& interface) const;

 private:
  class Impl;
  explicit Prober(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace guideway
