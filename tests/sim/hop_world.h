// SPDX-License-Identifier: Apache-2.0
// A world in which the promise of docs/design/hops.md can fail: nodes that are not at the same
// revision and have opinions of their own about health, backends that die and return, agents that
// are silent, routes that flip, an operator who changes his mind, and a control plane that is
// killed. One run is a history; it depends on the seed alone.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/change_plan.h"
#include "controlplane/hop_table.h"
#include "tests/sim/random.h"

namespace guideway {

// The rules that a test breaks on purpose, to see that the simulation notices.
struct SimRules {
  std::optional<HopTable> (*build)(const PoolHistory&) = [](const PoolHistory& history) {
    return build_hop_table(history);
  };
  bool steps_unconfirmed = false;  // the next step does not wait for the nodes
  bool asks_unconfirmed = false;   // agents are asked while a node is a revision behind
  bool agents_say_empty = false;   // an epoch goes although it is in use
  bool agents_are_silent = false;  // to the end: nothing is ever released
  bool syn_to_any_hop = false;     // takes_new is ignored
  bool forgets_earlier = false;    // a restart loses the earlier epochs
};

struct SimReport {
  std::string failure;  // empty: all went well
  uint64_t flows = 0, packets = 0, second_chances = 0, refused = 0;
  uint64_t steps = 0, commits = 0, resizes = 0, waits = 0, deadlines = 0, forced = 0, restarts = 0;
  uint64_t kept = 0;        // changes that kept a stand-in where its successor had no room
  uint64_t full_lists = 0;  // tables with a list of four hops
};

class HopWorld {
 public:
  HopWorld(uint64_t seed, const SimRules& rules, std::ostream* log);
  SimReport run();

 private:
  struct Server {
    Address address;
    bool alive = true;
    bool agent = true;
  };
  struct Flow {
    uint32_t hash32 = 0;
    size_t server = 0;
  };
  struct Node {
    bool alive = true;
    uint64_t revision = 0;
    HopTable table;
    std::map<Address, HopHealth> belief;  // not in it: up
  };

  void act();
  void open_flow();
  void send_packet(const Flow& flow);
  void end_flow();
  void change_wanted();
  void disturb_server();
  void disturb_node();
  void believe();
  void adopt(Node& node);
  void take_step(const PlanEvent& event);
  void ask_agents();
  void run_out_of_patience();
  void come_to_rest();

  Answer answer_to(const RetireQuestion& question) const;
  uint64_t confirmed() const;
  HopList list_at(Node& node, uint32_t hash32) const;
  size_t server_of(const Address& address) const;
  PoolHistory in_other_order(PoolHistory history);
  void publish();
  void check_flows();
  void check_table(const HopTable& table);
  void lose_flows_without_epoch();
  void fail(const std::string& what);
  void say(const std::string& what);
  std::string text_of(const Flow& flow) const;

  Random random_;
  const SimRules& rules_;
  std::ostream* log_;
  SimReport report_;
  std::vector<Server> servers_;
  std::vector<Node> nodes_;
  std::vector<Flow> flows_;
  bool patient_ = false;  // no deadline, no force: no flow may be lost at all
  ChangePlan plan_;       // the store: all that survives a restart of the control plane
  HopTable table_;        // of plan_.revision
  uint64_t last_revision_ = 1;
};

}  // namespace guideway
