// SPDX-License-Identifier: Apache-2.0
// All that the prober's thread does, but for the thread: when to send, what an answer or its
// absence means (prober.h says by what rules), whom to ask when in doubt. Steps of a clock that is
// handed in.
//
//   step(now)   takes the answers that came, decides, sends what is due; says when to come back
//
// To come late costs time, but no verdict is wrong for it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "controlplane/probe_flights.h"
#include "controlplane/probe_path.h"
#include "controlplane/probe_port.h"
#include "controlplane/probed.h"
#include "controlplane/prober.h"

namespace guideway {

class ProbeEngine {
 public:
  struct World {
    std::function<std::unique_ptr<ProbePath>(const ProbePort&)> make_path;
    std::function<void(HttpRequest)> start_http;
  };
  ProbeEngine(const gw_probe_secret& secret, World world)
      : secret_(secret), world_(std::move(world)) {}

  // As in prober.h. Times are of CLOCK_MONOTONIC.
  void set_targets(std::vector<ProbeTarget> targets, uint64_t now_ns);
  void set_ports(std::vector<ProbePort> ports, uint64_t now_ns);
  void take_http(HttpAnswer answer);

  uint64_t step(uint64_t now_ns);

  // Those since the last call; of each target in order.
  std::vector<ProbeChange> take_changes() { return std::exchange(changes_, {}); }
  bool has_changes() const { return !changes_.empty(); }
  std::vector<ProbeSight> sights() const;
  std::map<std::string, std::string> problems() const;  // by interface; of those that have one

 private:
  // Targets and ports.
  bool is_news(const ProbeTarget& target);
  void add(ProbeTarget target, uint64_t now_ns);
  void prepare(Probed& probed);
  void link();
  void abandon(Flight& flight);
  void abandon_canaries(const PortWatch& port);
  void discard(PortWatch& port, const std::string& reason, uint64_t now_ns);

  // Answers, or none (probe_engine_verdicts.cc).
  void look(Flight& flight, uint64_t now_ns);
  void look_http(Flight& flight, uint64_t now_ns);
  void answered(Flight& flight, const Scoreboard::Reply& reply);
  void decide(Flight& flight, uint64_t now_ns);
  void decide_silent(Flight& flight, uint64_t now_ns);
  void decide_late(Flight& flight, uint64_t now_ns);
  void decide_unsure(Flight& flight, const std::string& reason, uint64_t now_ns);
  void close(Flight& flight, uint64_t now_ns);
  static void note_rtt(Probed& probed, uint64_t rtt_ns);
  bool is_believed(const Flight& flight) const;
  bool was_held_up(const Flight& flight, uint64_t until_ns) const;
  void ask_canaries(Flight& flight, uint64_t now_ns);
  void judge(Probed& probed, const Outcome& outcome);
  void finish(const Flight& flight, std::optional<Outcome> outcome);
  void unsure(Probed& probed, const std::string& reason, uint64_t sent_ns, uint64_t now_ns);

  // Sending.
  void check_ports(uint64_t now_ns);
  void send_due(uint64_t now_ns);
  void begin(Probed& probed, uint64_t now_ns);
  void queue_probe(Probed& probed);
  void queue_reset(Probed& probed, uint32_t attempt);
  void flush(PortWatch& port);
  void launched(const PortWatch::Outgoing& out, const ProbePath::Sent& sent);
  void not_launched(const PortWatch::Outgoing& out, const ProbePath::Sent& sent);

  gw_probe_secret secret_;
  World world_;
  std::vector<std::unique_ptr<Probed>> probed_;  // by id; null: none
  std::map<std::string, std::unique_ptr<PortWatch>> ports_;
  std::vector<std::pair<uint64_t, uint32_t>> due_;  // when, id: a heap, the earliest on top
  ProbeFlights flights_;
  std::vector<Flight*> overdue_;
  std::vector<ProbePath::Frame> frames_;
  std::vector<ProbeChange> changes_;
  uint64_t http_tokens_ = 0;
  unsigned launched_ = 0;      // in this step
  uint64_t expected_ns_ = 0;   // when this step should have been
  uint64_t held_up_from_ = 0;  // the last time that steps came too late
  uint64_t held_up_to_ = 0;
};

}  // namespace guideway
