// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/hop_world.h"

#include <algorithm>
#include <limits>
#include <ostream>
#include <set>

namespace guideway {
namespace {

constexpr uint32_t kSizes[] = {251, 257, 509};
constexpr uint32_t kWeights[] = {0, 1, 50, 100, 100, 100, 300};
constexpr size_t kFlowsMost = 80;
// More than any plan needs: a resize is three changes, each of up to four steps.
constexpr int kRoundsToRest = 40;

Address address_of(size_t i) {
  const uint8_t v4[4] = {10, 0, 0, static_cast<uint8_t>(i)};
  const uint8_t v6[16] = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0,
                          0,    0, 0,   0,    0, 0, 0, static_cast<uint8_t>(i)};
  return i % 4 == 3 ? Address::from_v6(v6) : Address::from_v4(v4);
}

bool in_ranges(const std::vector<HashRange>& ranges, uint32_t hash32) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const HashRange& range) {
    return range.first <= hash32 && hash32 <= range.last;
  });
}

}  // namespace

HopWorld::HopWorld(uint64_t seed, const SimRules& rules, std::ostream* log)
    : random_(seed), rules_(rules), log_(log) {
  patient_ = random_.one_in(2);
  const size_t count = 3 + random_.below(9);
  for (size_t i = 0; i < count; ++i) servers_.push_back({address_of(i + 1)});
  PoolShape shape{kSizes[random_.below(3)], {}};
  for (const Server& server : servers_) {
    if (!random_.one_in(3)) shape.members.push_back({server.address, 100});
  }
  random_.shuffle(shape.members);
  plan_ = first_plan(shape, last_revision_);
  nodes_.resize(2 + random_.below(3));
  publish();
  for (Node& node : nodes_) adopt(node);
}

SimReport HopWorld::run() {
  const size_t ticks = 100 + random_.below(150);
  for (size_t i = 0; i < ticks && report_.failure.empty(); ++i) {
    act();
    check_flows();
  }
  if (report_.failure.empty()) come_to_rest();
  return report_;
}

void HopWorld::act() {
  const size_t dice = random_.below(100);
  if (dice < 32) return open_flow();
  if (dice < 48) return end_flow();
  if (dice < 64) return adopt(random_.of(nodes_));
  if (dice < 76) {
    return take_step(Confirmed{rules_.steps_unconfirmed ? plan_.revision : confirmed()});
  }
  if (dice < 84) return ask_agents();
  if (dice < 89) return change_wanted();
  if (dice < 94) return believe();
  if (dice < 96) return disturb_server();
  if (dice < 98) return disturb_node();
  if (!patient_) run_out_of_patience();
}

// ---- Clients

void HopWorld::open_flow() {
  if (flows_.size() == kFlowsMost) return;
  Node& node = random_.of(nodes_);
  if (!node.alive) return;
  Flow flow{static_cast<uint32_t>(random_.next() >> 32), 0};
  const HopList list = list_at(node, flow.hash32);
  if (list.count == 0 || (!list.takes_new && !rules_.syn_to_any_hop)) {
    ++report_.refused;
    return;
  }
  flow.server = server_of(node.table.backends[list.index[0]]);
  if (!servers_[flow.server].alive) return;  // nobody answers the SYN
  flows_.push_back(flow);
  ++report_.flows;
  say("opened " + text_of(flow));
}

void HopWorld::end_flow() {
  if (flows_.empty()) return;
  // Old ones are as likely to end as young ones, so some live through many changes.
  std::swap(random_.of(flows_), flows_.back());
  say("ended " + text_of(flows_.back()));
  flows_.pop_back();
}

// `redirect`: local if there is a socket, else on to the next hop; the last one answers with an
// RST.
void HopWorld::send_packet(const Flow& flow) {
  Node& node = random_.of(nodes_);
  if (!node.alive) return;
  const HopList list = list_at(node, flow.hash32);
  ++report_.packets;
  for (uint32_t i = 0; i < list.count; ++i) {
    const size_t server = server_of(node.table.backends[list.index[i]]);
    if (!servers_[server].alive) return;  // lost, not broken: it is sent again when the node knows
    if (server == flow.server) return;
    ++report_.second_chances;
  }
  fail("RST for " + text_of(flow) + " by a node at revision " + std::to_string(node.revision));
}

// ---- The operator

void HopWorld::change_wanted() {
  PoolShape shape = plan_.wanted;
  auto& members = shape.members;
  const size_t kind = random_.below(8);
  if (kind == 0) {
    shape.slots = kSizes[random_.below(3)];
    ++report_.resizes;
  } else if (kind <= 3) {
    const Address address = random_.of(servers_).address;
    const auto at = std::find_if(members.begin(), members.end(),
                                 [&](const auto& member) { return member.address == address; });
    if (at == members.end()) {
      members.push_back({address, 100});
    } else {
      members.erase(at);
    }
  } else if (!members.empty()) {
    random_.of(members).weight = kWeights[random_.below(std::size(kWeights))];
  }
  random_.shuffle(members);
  take_step(Want{shape, false});
}

void HopWorld::run_out_of_patience() {
  if (random_.one_in(4)) {
    ++report_.forced;
    return take_step(Force{});
  }
  if (plan_.history.earlier.empty()) return;
  ++report_.deadlines;
  take_step(Deadline{confirmed(), random_.of(plan_.history.earlier).number});
}

// ---- Faults

void HopWorld::disturb_server() {
  const size_t i = random_.below(servers_.size());
  Server& server = servers_[i];
  if (random_.one_in(3)) {
    server.agent = !server.agent;
    return;
  }
  server.alive = !server.alive;
  say(server.address.text() + (server.alive ? " is back" : " is dead"));
  // A crash takes its sockets along; when the network failed, they are there when it is back.
  if (!server.alive && random_.one_in(2)) {
    std::erase_if(flows_, [&](const Flow& flow) { return flow.server == i; });
  }
  if (!server.alive) return;
  for (Node& node : nodes_) {
    HopHealth& belief = node.belief[server.address];
    if (belief == HopHealth::gone) belief = HopHealth::lingers;
  }
}

void HopWorld::disturb_node() {
  Node& node = random_.of(nodes_);
  const auto living = std::count_if(nodes_.begin(), nodes_.end(), [](auto& n) { return n.alive; });
  if (node.alive && living == 1) return;
  node.alive = !node.alive;
  say(std::string("a node is ") + (node.alive ? "back" : "dead"));
  if (node.alive) adopt(node);  // before it takes packets, as a restarted node does
}

void HopWorld::believe() {
  Node& node = random_.of(nodes_);
  const Server& server = random_.of(servers_);
  // Any opinion, but `gone`: that takes down_linger, and all nodes' agreement.
  HopHealth health = random_.one_in(2) ? HopHealth::up : HopHealth::lingers;
  if (!server.alive && random_.one_in(2)) health = HopHealth::gone;
  node.belief[server.address] = health;
}

// ---- The control plane

void HopWorld::take_step(const PlanEvent& event) {
  const PlanStep result = step(plan_, event, last_revision_ + 1);
  report_.waits += result.waits.starts_with("slot ");
  if (!result.waits.empty()) say("waits: " + result.waits);
  if (!result.changed) return;
  if (random_.one_in(8)) {  // killed before the store had it; whoever asked gets no answer
    ++report_.restarts;
    if (rules_.forgets_earlier) plan_.history.earlier.clear();
    return publish();
  }
  const uint64_t before = plan_.revision;
  plan_ = result.plan;
  if (plan_.revision == before) return;
  last_revision_ = plan_.revision;
  ++report_.steps;
  report_.commits += result.did.starts_with("committed");
  report_.kept += plan_.history.incoming && !plan_.history.incoming->kept_stand_ins.empty();
  say("revision " + std::to_string(plan_.revision) + ": " + result.did);
  publish();
  const bool loses =
      std::holds_alternative<Deadline>(event) || result.did.find("gave up") != std::string::npos;
  if (loses) lose_flows_without_epoch();
}

void HopWorld::ask_agents() {
  const uint64_t known = rules_.asks_unconfirmed ? plan_.revision : confirmed();
  const std::vector<RetireQuestion> questions = retire_questions(plan_, known);
  for (const RetireQuestion& question : questions) {
    const uint64_t before = plan_.revision;
    take_step(Answers{question.revision, {answer_to(question)}});
    if (plan_.revision != before) return;
  }
}

Answer HopWorld::answer_to(const RetireQuestion& question) const {
  Answer answer = unanswered(question);
  for (const BackendRanges& asked : question.ask) {
    const size_t i = server_of(asked.address);
    if (!servers_[i].alive || !servers_[i].agent || rules_.agents_are_silent) continue;
    uint64_t& sockets = answer.sockets[asked.address];
    for (const Flow& flow : flows_) {
      if (rules_.agents_say_empty) break;
      sockets += flow.server == i && in_ranges(asked.ranges, flow.hash32);
    }
  }
  return answer;
}

void HopWorld::adopt(Node& node) {
  if (!node.alive || node.revision == plan_.revision) return;
  const std::optional<HopTable> table = rules_.build(in_other_order(plan_.history));
  if (!table || table->digest() != table_.digest()) {
    return fail("another table on another node at revision " + std::to_string(plan_.revision));
  }
  node.table = *table;
  node.revision = plan_.revision;
  say("node " + std::to_string(&node - nodes_.data()) + " at " + std::to_string(node.revision));
}

void HopWorld::publish() {
  const std::optional<HopTable> table = rules_.build(plan_.history);
  if (!table) return fail("no table for revision " + std::to_string(plan_.revision));
  table_ = *table;
  check_table(table_);
}

// All flows end, all are well again: then everything that waits must be released.
void HopWorld::come_to_rest() {
  flows_.clear();
  for (Server& server : servers_) server = {server.address};
  for (int i = 0; i < kRoundsToRest && report_.failure.empty(); ++i) {
    for (Node& node : nodes_) {
      node.alive = true;
      adopt(node);
    }
    if (at_rest(plan_)) break;
    take_step(Confirmed{confirmed()});
    for (Node& node : nodes_) adopt(node);
    ask_agents();
  }
  if (!report_.failure.empty()) return;
  if (!at_rest(plan_)) return fail("a change that nothing holds up does not come to its end");
  const PoolShape reached{plan_.history.current.slots, plan_.history.current.members};
  if (reached != plan_.wanted) fail("what was wanted is not what is");
}

// ---- Looking at it

uint64_t HopWorld::confirmed() const {
  uint64_t lowest = std::numeric_limits<uint64_t>::max();
  for (const Node& node : nodes_) {
    if (node.alive) lowest = std::min(lowest, node.revision);
  }
  return lowest;
}

HopList HopWorld::list_at(Node& node, uint32_t hash32) const {
  const HopTable& table = node.table;
  std::vector<HopHealth> health;
  for (const Address& address : table.backends) {
    const auto at = node.belief.find(address);
    health.push_back(at == node.belief.end() ? HopHealth::up : at->second);
  }
  const auto slot = table.slot(slot_at(hash32, table.slots));
  return order_hops(slot, table.owners, table.stand_ins, health);
}

size_t HopWorld::server_of(const Address& address) const {
  size_t i = 0;
  while (servers_[i].address != address) ++i;
  return i;
}

PoolHistory HopWorld::in_other_order(PoolHistory history) {
  random_.shuffle(history.current.members);
  if (history.incoming) random_.shuffle(history.incoming->members);
  for (Epoch& epoch : history.earlier) random_.shuffle(epoch.members);
  return history;
}

// Each flow is in the lists of all revisions that are about; and its next packet really arrives.
void HopWorld::check_flows() {
  for (const Flow& flow : flows_) {
    const Server& server = servers_[flow.server];
    if (!server.alive) continue;
    for (const Node& node : nodes_) {
      if (node.alive && !node.table.reaches(flow.hash32, server.address)) {
        return fail(text_of(flow) + " is not in the lists of revision " +
                    std::to_string(node.revision));
      }
    }
    if (!table_.reaches(flow.hash32, server.address)) {
      return fail(text_of(flow) + " is not in the lists of revision " +
                  std::to_string(plan_.revision) + ", just stored");
    }
  }
  if (flows_.empty()) return;
  const Flow& flow = random_.of(flows_);
  if (servers_[flow.server].alive) send_packet(flow);
}

void HopWorld::check_table(const HopTable& table) {
  if (table.hops > GW_HOPS_MAX) return fail("too many hops");
  report_.full_lists += table.hops == GW_HOPS_MAX;
  for (uint32_t slot = 0; slot < table.slots; ++slot) {
    std::set<uint16_t> seen;
    for (const uint16_t entry : table.slot(slot)) {
      const uint16_t index = entry & kHopIndex;
      if (index >= table.backends.size()) return fail("an entry that is no backend");
      if (!seen.insert(index).second) return fail("a hop twice in slot " + std::to_string(slot));
    }
  }
}

// What a deadline or force costs is known and accepted: a flow that no epoch left accounts for is
// not promised anything, though a list may have its backend for the sake of a neighbouring range.
void HopWorld::lose_flows_without_epoch() {
  const PoolHistory& history = plan_.history;
  std::vector<Epoch> epochs = history.earlier;
  epochs.push_back(history.current);
  if (history.incoming) epochs.push_back(*history.incoming);
  const std::vector<Address> addresses = pool_addresses(history);
  std::set<uint32_t> accounted;
  for (const Epoch& epoch : epochs) {
    const EpochHops hops = epoch_hops(epoch, addresses);
    for (const Flow& flow : flows_) {
      const uint32_t slot = slot_at(flow.hash32, hops.slots);
      for (const uint16_t index : {hops.owner(slot), hops.stand_in(slot)}) {
        const bool here = index != GW_NO_HOP && addresses[index] == servers_[flow.server].address;
        if (here) accounted.insert(flow.hash32);
      }
    }
  }
  std::erase_if(flows_, [&](const Flow& flow) { return !accounted.contains(flow.hash32); });
}

void HopWorld::fail(const std::string& what) {
  if (report_.failure.empty()) report_.failure = what;
  say("FAILED: " + what);
}

void HopWorld::say(const std::string& what) {
  if (log_ != nullptr) *log_ << what << "\n";
}

std::string HopWorld::text_of(const Flow& flow) const {
  return "flow " + std::to_string(flow.hash32) + " on " + servers_[flow.server].address.text();
}

}  // namespace guideway
