// SPDX-License-Identifier: Apache-2.0
// Nodes of a cluster and the store between them, in virtual time: requests and answers are late or
// lost, nodes are cut off from the store while their clocks run on, and restart with old intent; a
// stream of a watch dies without a word while requests go through. The steps and tables are the
// real ones (change_plan.h, hop_table.h); the rules of cluster.cc, daemon_cluster.cc and
// etcd_watches.cc are mirrored, function by function of the same name. One run is a history; it
// depends on the seed.
#pragma once

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "controlplane/change_plan.h"
#include "controlplane/hop_table.h"
#include "tests/sim/random.h"

namespace guideway {

struct ClusterRules {
  int64_t margin = 5000;             // ms after the end of a lease; that of cluster.h is one lease
  bool skips_confirmation = false;   // the elected node does not wait for the others
  bool ready_with_old = false;       // a restarted node announces before it caught up
  bool announces_uncounted = false;  // with a lease, before its report is in the store
  bool keeps_old_intent = false;     // not read anew when the others count with it again
  bool trusts_silence = false;       // a stream that tells nothing is not opened anew
  bool steps_by_the_watch = false;   // the elected node does not read the nodes before a step
};

struct ClusterReport {
  std::string failure;  // empty: all went well
  uint64_t flows = 0, packets = 0, second_chances = 0, steps = 0, conflicts = 0, lost = 0;
  uint64_t cuts = 0, restarts = 0, lapses = 0, elections = 0, silences = 0;
  uint64_t without_promise = 0;  // ticks in which only reduced nodes, one of them old, are left
};

class ClusterWorld {
 public:
  ClusterWorld(uint64_t seed, const ClusterRules& rules, std::ostream* log);
  ClusterReport run();

 private:
  // In ms. Lease and its parts: cluster.h, cluster.cc.
  static constexpr int64_t kLease = 5000;
  static constexpr int64_t kTimeLimit = 1500;  // of a request

  struct Known {  // an intent
    ChangePlan plan;
    HopTable table;
    int64_t head = 0;
  };
  using Intent = std::shared_ptr<const Known>;
  struct Entry {  // a node's key
    uint64_t revision = 0;
    int64_t lease = 0;
  };
  struct Event {
    enum class Kind { intent, node, elected } kind = Kind::intent;
    bool is_live() const { return kind != Kind::intent; }
    size_t node = 0;
    Entry entry;  // lease 0: removed
    Intent intent;
    int64_t mod = 0;
  };
  struct Gone {
    uint64_t revision = 0;
    int64_t until = 0;
  };
  // Of a watch: one of the intent, one of all that is leased.
  struct Stream {
    bool loaded = false;
    bool silent = false;
    int64_t silent_since = -1;
    int64_t reading = 0;  // until when it waits
    size_t seen = 0;
  };
  struct Node {
    uint64_t run = 0;
    Intent known, saved, runs;
    bool cut = false;
    int64_t cut_until = 0;
    Stream intent, live;
    int64_t read_under = 0;  // which lease
    uint64_t reads_wanted = 0, reads_done = 0;
    uint64_t catch_up = 0;
    bool caught_up = false, announced = false;
    uint64_t sure = 0;
    int64_t asking = 0;
    int64_t leave_at = -1, adopt_at = 0, plan_at = 0;
    int64_t lease = 0, kept = 0, asked = -100000, ask_at = 0;
    int64_t reported_lease = 0, elected_lease = 0, elected_since = 0;
    uint64_t reported = 0;
    int64_t leasing = 0, reporting = 0, electing = 0, changing = 0;  // until when it waits
    std::map<size_t, Entry> nodes;
    std::map<size_t, int64_t> mods;
    std::map<size_t, Gone> gone;
    size_t elected = 0;
    int64_t elected_mod = 0;
  };
  struct Flow {
    uint32_t hash32 = 0;
    Address server;
  };
  using Answer = std::function<void()>;

  void tick();
  void disturb();
  void look(size_t i);
  void take_lease(size_t i);
  void keep_lease(size_t i);
  void put_report(size_t i);
  void elect(size_t i);
  void make_sure(size_t i);
  void watch(size_t i, Stream Node::*stream);
  void look_for_silence(Stream& stream);
  void load(size_t i, Stream Node::*stream);
  void read_anew(size_t i);
  bool is_up_to_date(size_t i);
  void take(size_t i, const Event& event);
  void adopt(Node& node);
  void announce(size_t i);
  void plan(size_t i);
  void change(size_t i, const PlanEvent& event);
  void want(size_t i);
  void restart(size_t i);
  bool has_lease(const Node& node) const;
  bool is_elected(size_t i) const;
  uint64_t confirmed(size_t i) const;
  uint64_t run_by_all(size_t i) const;
  guideway::Answer answer_to(const RetireQuestion& question) const;
  void call(size_t i, const std::function<Answer()>& at_store);
  void store_tick();
  void log_event(Event event);
  void flows();
  void walk(const Flow& flow, const Node& node);
  void heal();
  void fail(const std::string& what);
  void say(const std::string& what);

  Random random_;
  const ClusterRules& rules_;
  std::ostream* log_;
  ClusterReport report_;
  uint64_t delay_most_ = 700;   // ms, of a message
  uint64_t adopt_most_ = 1500;  // until a dataplane runs what its node knows
  int64_t now_ = 0;
  bool healed_ = false;
  std::vector<Node> nodes_;
  std::vector<Address> servers_;
  std::vector<Flow> flows_;
  std::multimap<int64_t, std::function<void()>> messages_;

  // The store.
  Intent intent_;
  int64_t mod_ = 1;
  std::vector<Event> events_;
  std::map<int64_t, int64_t> leases_;  // when they end
  std::map<size_t, Event> keys_;
  Event elected_{Event::Kind::elected, 0, {}, nullptr, 0};
};

}  // namespace guideway
