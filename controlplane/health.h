// SPDX-License-Identifier: Apache-2.0
// Which backends may take flows: brings together the intent (what to probe, what was ordered), the
// next hops (where probes go) and the prober (what came back), and keeps a PoolState for each pool.
//
//   prober > judged() > PoolState > release() > image
//
// Lives in the loop's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "controlplane/event_log.h"
#include "controlplane/event_loop.h"
#include "controlplane/intent.h"
#include "controlplane/next_hops.h"
#include "controlplane/pool_state.h"
#include "controlplane/prober.h"
#include "dataplane/node_config.h"

namespace guideway {

class Health {
 public:
  using NextHopOf = std::function<const NextHopState&(const Address&)>;

  // `on_change(released)`: the state of a pool changed, or settled() became true; `released`: some
  // release is another than before. `edge_object`: for TAPs (bpf/scoreboard.h).
  Health(EventLoop& loop, const NodeConfig& config, std::string edge_object, NextHopOf next_hop,
         std::function<void(bool released)> on_change);
  ~Health();
  Health(const Health&) = delete;
  Health& operator=(const Health&) = delete;

  // What the intent wants. Before the first call there are no pools; that first intent's backends
  // are not new.
  void set_intent(std::shared_ptr<const Intent> intent);
  // The addresses whose next hops are needed beside those of backends: they lie beyond the default
  // gateways, which are the canaries.
  static std::set<Address> watched(const Intent& intent);
  // Next hops of these addresses are other than before; of any.
  void ways_changed(const std::vector<Address>& changed);
  void all_ways_changed();
  // Which connection of a dataplane there is, counted from 1; 0: none.
  void set_dataplane(uint64_t connection);

  // By pool, the backends that all living nodes of the cluster see down.
  void set_agreed_down(const std::map<std::string, std::set<Address>>& agreed);

  // Each backend that can be probed has been judged, or this has taken too long.
  bool settled() const;
  Release release(const std::string& pool, const Address& backend) const;

  struct BackendView {
    PoolState::View state;
    std::optional<ProbeSight> sight;  // none: not probed
  };
  // Nothing for one that is not in the newest intent.
  std::optional<BackendView> backend(const std::string& pool, const Address& address) const;
  const PoolState* pool(const std::string& name) const;  // null: there is none
  // Look at the prober's counts once for many calls of backend().
  void refresh_sights() const;

  // An image with all releases so far goes out; it was adopted.
  void published(uint64_t generation) { events_.published(generation); }
  void adopted(uint64_t generation) { events_.adopted(generation, monotonic_ns()); }
  const EventLog& events() const { return events_; }

  // What keeps it from probing at all; empty: nothing.
  const std::string& problem() const { return problem_; }

 private:
  using Name = std::pair<std::string, Address>;  // pool, backend

  void on_changes(const std::vector<ProbeChange>& changes);
  void settle(const std::set<std::string>& pools, const std::map<Name, uint64_t>& decided_ns = {});
  void log_transition(const std::string& pool, const PoolTransition& transition) const;
  void schedule_slow_starts();
  void schedule_targets();
  void send_targets();
  void ensure_prober();
  std::optional<uint32_t> id_of(const Name& name);
  std::set<Name> probed() const;
  void release_ids(const std::set<Name>& wanted);
  std::optional<ProbeTarget> target_of(const std::string& name, const Pool& pool,
                                       const Address& backend);
  std::vector<ProbePort> ports() const;
  std::optional<Address> source_for(const NextHop& hop, bool v4) const;
  void add_canary(const NextHop& hop, std::vector<ProbePort>& ports) const;
  bool anything_probed() const;

  EventLoop& loop_;
  const NodeConfig config_;
  std::string edge_object_;
  NextHopOf next_hop_;
  std::function<void(bool)> on_change_;

  std::shared_ptr<const Intent> intent_;
  std::map<std::string, PoolState> pools_;
  std::map<std::string, std::set<Address>> agreed_down_;
  std::map<std::string, Address> vips_;       // that a pool's probes go to
  std::unordered_map<uint32_t, Name> names_;  // by target id
  std::map<Name, uint32_t> ids_;
  std::deque<std::pair<EventLoop::Clock::time_point, uint32_t>>
      retired_;  // ids not to be reused yet
  uint32_t next_id_ = 0;
  std::set<uint32_t> unjudged_;  // targets without any verdict
  uint64_t connection_ = 0;
  std::unique_ptr<Prober> prober_;
  std::string problem_;
  EventLog events_;
  mutable std::vector<ProbeSight> sights_;

  bool begun_ = false;
  bool patience_over_ = false;
  EventLoop::TimerId patience_timer_ = 0;
  EventLoop::TimerId slow_timer_ = 0;
  EventLoop::TimerId targets_timer_ = 0;
};

}  // namespace guideway
