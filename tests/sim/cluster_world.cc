// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/cluster_world.h"

#include <algorithm>
#include <limits>
#include <ostream>
#include <utility>

namespace guideway {
namespace {

// In ms.
constexpr int64_t kTick = 100;
constexpr int64_t kHistory = 40'000;
constexpr int64_t kToRest = 120'000;
constexpr size_t kFlowsMost = 24;
constexpr uint32_t kSlots = 251;

Address address_of(size_t i) {
  const uint8_t v4[4] = {10, 0, 0, static_cast<uint8_t>(i)};
  return Address::from_v4(v4);
}

bool in_ranges(const std::vector<HashRange>& ranges, uint32_t hash32) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const HashRange& range) {
    return range.first <= hash32 && hash32 <= range.last;
  });
}

}  // namespace

ClusterWorld::ClusterWorld(uint64_t seed, const ClusterRules& rules, std::ostream* log)
    : random_(seed), rules_(rules), log_(log) {
  if (random_.one_in(2)) delay_most_ = 50;
  if (random_.one_in(2)) adopt_most_ = 200;
  const size_t count = 3 + random_.below(4);
  PoolShape shape{kSlots, {}};
  for (size_t i = 0; i < count; ++i) {
    servers_.push_back(address_of(i + 1));
    if (i == 0 || !random_.one_in(3)) shape.members.push_back({servers_[i], 100});
  }
  const ChangePlan plan = first_plan(shape, 1);
  intent_ = std::make_shared<const Known>(Known{plan, *build_hop_table(plan.history), mod_});
  nodes_.resize(2 + random_.below(4));
  for (Node& node : nodes_) node.known = node.saved = node.runs = intent_;
}

ClusterReport ClusterWorld::run() {
  while (now_ < kHistory && report_.failure.empty()) {
    disturb();
    tick();
  }
  if (report_.failure.empty()) heal();
  return report_;
}

void ClusterWorld::tick() {
  now_ += kTick;
  while (!messages_.empty() && messages_.begin()->first <= now_) {
    const auto message = std::move(messages_.begin()->second);
    messages_.erase(messages_.begin());
    message();
  }
  store_tick();
  for (size_t i = 0; i < nodes_.size(); ++i) look(i);
  flows();
}

void ClusterWorld::disturb() {
  const size_t i = random_.below(nodes_.size());
  if (random_.one_in(40)) want(i);
  if (random_.one_in(60)) {
    nodes_[i].cut_until = now_ + 500 + static_cast<int64_t>(random_.below(15'000));
    ++report_.cuts;
    say("node " + std::to_string(i) + " is cut off");
  }
  if (random_.one_in(150)) restart(i);
  if (random_.one_in(80)) {
    (random_.one_in(2) ? nodes_[i].intent : nodes_[i].live).silent = true;
    ++report_.silences;
    say("a stream of node " + std::to_string(i) + " is dead");
  }
  for (Node& node : nodes_) node.cut = now_ < node.cut_until;
}

// ---- The network and the store

void ClusterWorld::call(size_t i, const std::function<Answer()>& at_store) {
  const auto delay = [this] { return now_ + static_cast<int64_t>(random_.below(delay_most_)); };
  const auto is_lost = [this, i] {
    const bool lost = nodes_[i].cut || (!healed_ && random_.one_in(20));
    report_.lost += lost;
    return lost;
  };
  if (is_lost()) return;
  messages_.emplace(delay(), [=, this, run = nodes_[i].run] {
    if (nodes_[i].cut) return;
    const Answer answer = at_store();
    if (is_lost()) return;
    messages_.emplace(delay(), [=, this] {
      if (!nodes_[i].cut && nodes_[i].run == run) answer();
    });
  });
}

void ClusterWorld::log_event(Event event) {
  event.mod = ++mod_;
  if (event.kind == Event::Kind::node) keys_[event.node] = event;
  if (event.kind == Event::Kind::elected) elected_ = event;
  events_.push_back(std::move(event));
}

void ClusterWorld::store_tick() {
  for (auto lease = leases_.begin(); lease != leases_.end();) {
    if (now_ < lease->second) {
      ++lease;
      continue;
    }
    ++report_.lapses;
    for (const auto& [node, key] : std::map(keys_))
      if (key.entry.lease == lease->first) log_event({Event::Kind::node, node, {}, nullptr, 0});
    if (elected_.entry.lease == lease->first) log_event({Event::Kind::elected, 0, {}, nullptr, 0});
    lease = leases_.erase(lease);
  }
}

// ---- Changes: planner.cc, store_etcd_change.cc

void ClusterWorld::want(size_t i) {
  PoolShape shape = nodes_[i].known->plan.wanted;
  const Address address = random_.of(servers_);
  const auto at = std::find_if(shape.members.begin(), shape.members.end(),
                               [&](const auto& one) { return one.address == address; });
  if (at == shape.members.end()) {
    shape.members.push_back({address, 100});
  } else if (random_.one_in(3)) {
    at->weight = 50 + static_cast<uint32_t>(random_.below(3)) * 100;
  } else if (shape.members.size() > 1) {
    shape.members.erase(at);
  }
  change(i, Want{shape, false});
}

void ClusterWorld::plan(size_t i) {
  Node& node = nodes_[i];
  if (now_ < node.plan_at || now_ < node.changing || !is_elected(i)) return;
  const ChangePlan& plan = node.known->plan;
  const uint64_t known = confirmed(i);
  if (at_rest(plan) || known < plan.revision) return;
  node.plan_at = now_ + 250;
  if (step(plan, Confirmed{known}, plan.revision + 1).changed) return change(i, Confirmed{known});
  for (const RetireQuestion& question : retire_questions(plan, known)) {
    const Answers answers{question.revision, {answer_to(question)}};
    if (step(plan, answers, plan.revision + 1).changed) return change(i, answers);
  }
}

// Compare and swap of the head; whoever was slower tries again, on what it learns.
void ClusterWorld::change(size_t i, const PlanEvent& event) {
  Node& node = nodes_[i];
  const PlanStep result = step(node.known->plan, event, node.known->plan.revision + 1);
  if (!result.changed) return;
  node.changing = now_ + kTimeLimit;
  call(i, [=, this, head = node.known->head]() -> Answer {
    const bool done = head == intent_->head;
    report_.conflicts += !done;
    if (done) {
      const auto table = build_hop_table(result.plan.history);
      if (!table) fail("no table for a step that was taken");
      if (!table) return [] {};
      intent_ = std::make_shared<const Known>(Known{result.plan, *table, mod_ + 1});
      log_event({Event::Kind::intent, 0, {}, intent_, 0});
      ++report_.steps;
      say("revision " + std::to_string(result.plan.revision) + " by node " + std::to_string(i) +
          ": " + result.did);
    }
    return [=, this, stored = intent_] {
      nodes_[i].changing = 0;
      if (done) take(i, {Event::Kind::intent, 0, {}, stored, stored->head});
    };
  });
}

guideway::Answer ClusterWorld::answer_to(const RetireQuestion& question) const {
  guideway::Answer answer = unanswered(question);
  for (const BackendRanges& asked : question.ask) {
    uint64_t& sockets = answer.sockets[asked.address];
    for (const Flow& flow : flows_)
      sockets += flow.server == asked.address && in_ranges(asked.ranges, flow.hash32);
  }
  return answer;
}

// ---- Flows

void ClusterWorld::flows() {
  std::vector<const Node*> announcing;
  for (const Node& node : nodes_)
    if (node.announced) announcing.push_back(&node);
  if (announcing.empty()) {
    // Then routers take the reduced ones, of which one may have been left behind before.
    report_.without_promise += std::any_of(nodes_.begin(), nodes_.end(), [this](const Node& node) {
      return node.runs->plan.revision + 1 < intent_->plan.revision;
    });
    return;
  }
  if (!healed_ && flows_.size() < kFlowsMost && random_.one_in(2)) {
    const HopTable& table = random_.of(announcing)->runs->table;
    const auto hash32 = static_cast<uint32_t>(random_.next() >> 32);
    const std::vector<HopHealth> health(table.backends.size(), HopHealth::up);
    const HopList list =
        order_hops(table.slot(slot_at(hash32, table.slots)), table.owners, table.stand_ins, health);
    if (list.count > 0 && list.takes_new) {
      flows_.push_back({hash32, table.backends[list.index[0]]});
      ++report_.flows;
    }
  }
  if (!flows_.empty() && random_.one_in(3)) {
    std::swap(random_.of(flows_), flows_.back());
    if (healed_ || random_.one_in(2)) flows_.pop_back();
  }
  for (const Flow& flow : flows_)
    for (const Node* node : announcing) walk(flow, *node);
}

// `redirect`: local if there is a socket, else on to the next hop.
void ClusterWorld::walk(const Flow& flow, const Node& node) {
  const HopTable& table = node.runs->table;
  ++report_.packets;
  const auto slot = table.slot(slot_at(flow.hash32, table.slots));
  for (const uint16_t entry : slot) {
    if (table.backends[entry & kHopIndex] == flow.server) return;
    ++report_.second_chances;
  }
  fail("flow " + std::to_string(flow.hash32) + " on " + flow.server.text() +
       " is out of reach of node " + std::to_string(&node - nodes_.data()) + " at revision " +
       std::to_string(node.runs->plan.revision) + "; stored is " +
       std::to_string(intent_->plan.revision));
}

void ClusterWorld::heal() {
  healed_ = true;
  for (Node& node : nodes_) {
    node.cut = false;
    node.cut_until = 0;
  }
  const int64_t until = now_ + kToRest;
  while (now_ < until && report_.failure.empty()) {
    tick();
    const bool same = std::all_of(nodes_.begin(), nodes_.end(), [this](const Node& node) {
      return node.announced && node.runs == intent_;
    });
    if (same && at_rest(intent_->plan)) break;
  }
  if (!report_.failure.empty()) return;
  if (!at_rest(intent_->plan)) return fail("the change does not come to its end");
  for (const Node& node : nodes_) {
    // Made again from the intent that the node knows, as a node does.
    const auto table = build_hop_table(node.known->plan.history);
    const bool same = node.runs->plan.revision == intent_->plan.revision && table &&
                      table->digest() == intent_->table.digest();
    if (!same) return fail("nodes differ after the network has healed");
  }
}

void ClusterWorld::fail(const std::string& what) {
  if (report_.failure.empty()) report_.failure = what;
  say("FAILED: " + what);
}

void ClusterWorld::say(const std::string& what) {
  if (log_ != nullptr) *log_ << now_ << " ms: " << what << "\n";
}

}  // namespace guideway
