// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/cluster_world.h"

#include <algorithm>
#include <limits>
#include <ostream>
#include <utility>

namespace guideway {
namespace {

// In ms. Lease and its parts: cluster.h, cluster.cc.
constexpr int64_t kTick = 100;
constexpr int64_t kLease = 5000;
constexpr int64_t kTimeLimit = 1500;  // of a request
constexpr int64_t kRouters = 3500;    // they know by then that a node is reduced
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
  for (Node& node : nodes_) node.cut = now_ < node.cut_until;
}

// ---- The network and the store

void ClusterWorld::call(size_t i, const std::function<Answer()>& at_store) {
  const auto delay = [this] { return now_ + static_cast<int64_t>(random_.below(700)); };
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

// ---- A node: cluster.cc

void ClusterWorld::look(size_t i) {
  Node& node = nodes_[i];
  if (node.lease != 0 && now_ >= node.kept + kLease) node.lease = 0;
  // store_etcd.cc: the watch is lost as well by then, so that what is known is not current.
  if (!has_lease(node)) node.loaded = node.caught_up = false;
  if (node.lease == 0) {
    if (now_ >= node.leasing && now_ >= node.asked + kLease / 5) take_lease(i);
  } else if (now_ >= node.ask_at) {
    keep_lease(i);
  }
  std::erase_if(node.gone, [this](const auto& one) { return now_ >= one.second.until; });
  watch(i);
  put_report(i);
  elect(i);
  adopt(node);
  announce(node);
  plan(i);
}

void ClusterWorld::take_lease(size_t i) {
  nodes_[i].asked = now_;
  nodes_[i].leasing = now_ + kTimeLimit;
  call(i, [=, this, asked = now_]() -> Answer {
    const int64_t lease = ++mod_;
    leases_[lease] = now_ + kLease;
    return [=, this] {
      if (nodes_[i].lease != 0) return;
      nodes_[i].lease = lease;
      nodes_[i].kept = asked;
    };
  });
}

void ClusterWorld::keep_lease(size_t i) {
  Node& node = nodes_[i];
  node.ask_at = now_ + kLease / 5;
  call(i, [=, this, asked = now_, lease = node.lease]() -> Answer {
    const auto at = leases_.find(lease);
    const bool lives = at != leases_.end();
    if (lives) at->second = now_ + kLease;
    return [=, this] {
      Node& asker = nodes_[i];
      if (asker.lease != lease) return;
      if (!lives) {
        asker.lease = 0;
      } else {
        asker.kept = std::max(asker.kept, asked);
      }
    };
  });
}

bool ClusterWorld::has_lease(const Node& node) const {
  return node.lease != 0 && now_ < node.kept + kLease * 4 / 5;
}

void ClusterWorld::put_report(size_t i) {
  Node& node = nodes_[i];
  if (!node.loaded || node.lease == 0 || now_ < node.reporting) return;
  const uint64_t revision = node.runs->plan.revision;
  if (node.reported == revision && node.reported_lease == node.lease) return;
  node.reporting = now_ + kTimeLimit;
  const Entry entry{revision, node.lease};
  call(i, [=, this, known = node.mods[i]]() -> Answer {
    const auto at = keys_.find(i);
    const bool same = (at == keys_.end() ? 0 : at->second.mod) == known;
    const bool done = same && leases_.contains(entry.lease);
    if (done) log_event({Event::Kind::node, i, entry, nullptr, 0});
    return [=, this, mod = mod_] {
      nodes_[i].reporting = 0;
      if (!done) return;
      take(i, {Event::Kind::node, i, entry, nullptr, mod});
      nodes_[i].reported = entry.revision;
      nodes_[i].reported_lease = entry.lease;
    };
  });
}

void ClusterWorld::elect(size_t i) {
  Node& node = nodes_[i];
  if (!node.loaded || !has_lease(node) || now_ < node.electing) return;
  if (node.reported_lease != node.lease || node.elected_lease != 0) return;
  node.electing = now_ + kTimeLimit;
  call(i, [=, this, lease = node.lease]() -> Answer {
    const bool done = elected_.entry.lease == 0 && leases_.contains(lease);
    if (done) log_event({Event::Kind::elected, i, {0, lease}, nullptr, 0});
    return [=, this, mod = mod_] {
      nodes_[i].electing = 0;
      if (done) take(i, {Event::Kind::elected, i, {0, lease}, nullptr, mod});
    };
  });
}

bool ClusterWorld::is_elected(size_t i) const {
  const Node& node = nodes_[i];
  return has_lease(node) && node.loaded && node.elected == i && node.elected_lease == node.lease &&
         now_ >= node.elected_since + rules_.margin;
}

uint64_t ClusterWorld::confirmed(size_t i) const {
  const Node& node = nodes_[i];
  if (rules_.skips_confirmation) return node.known->plan.revision;
  uint64_t least = node.runs->plan.revision;
  for (const auto& [other, entry] : node.nodes)
    if (other != i) least = std::min(least, entry.revision);
  for (const auto& [other, gone] : node.gone)
    if (now_ < gone.until) least = std::min(least, gone.revision);
  return least;
}

void ClusterWorld::load(size_t i) {
  Node& node = nodes_[i];
  for (const auto& [other, key] : keys_) take(i, key);
  take(i, elected_);
  take(i, {Event::Kind::intent, 0, {}, intent_, intent_->head});
  node.seen = events_.size();
  node.loaded = true;
}

void ClusterWorld::watch(size_t i) {
  Node& node = nodes_[i];
  if (node.cut || !random_.one_in(3)) return;
  if (!node.loaded || random_.one_in(50)) return load(i);  // the latter: it was compacted
  for (; node.seen < events_.size(); ++node.seen) take(i, events_[node.seen]);
}

void ClusterWorld::take(size_t i, const Event& event) {
  Node& node = nodes_[i];
  if (event.kind == Event::Kind::intent) {
    if (event.intent->head <= node.known->head) return;
    node.known = event.intent;
    node.adopt_at = now_ + static_cast<int64_t>(random_.below(1500));
    return;
  }
  if (event.kind == Event::Kind::elected) {
    if (event.mod <= node.elected_mod) return;
    const bool was = node.lease != 0 && node.elected_lease == node.lease;
    node.elected_mod = event.mod;
    node.elected = event.node;
    node.elected_lease = event.entry.lease;
    if (was || node.lease == 0 || node.elected_lease != node.lease) return;
    node.elected_since = now_;
    ++report_.elections;
    return say("node " + std::to_string(i) + " is elected");
  }
  if (event.mod <= node.mods[event.node]) return;
  node.mods[event.node] = event.mod;
  if (event.entry.lease != 0) {
    node.nodes[event.node] = event.entry;
    node.gone.erase(event.node);
  } else if (const auto at = node.nodes.find(event.node); at != node.nodes.end()) {
    node.gone[event.node] = {at->second.revision, now_ + rules_.margin};
    node.nodes.erase(at);
  }
}

void ClusterWorld::adopt(Node& node) {
  if (node.runs != node.known && now_ >= node.adopt_at) {
    node.runs = node.known;
    if (random_.one_in(2)) node.saved = node.runs;  // else it is killed before the copy is written
  }
  if (node.loaded && node.runs == node.known) node.caught_up = true;
}

// daemon_cluster.cc: set_lease_lapsing. Routers learn of the worse late, of the better at once.
void ClusterWorld::announce(Node& node) {
  const bool counted = rules_.announces_uncounted || node.reported_lease == node.lease;
  const bool ready = node.caught_up || rules_.ready_with_old;
  if (has_lease(node) && counted && ready) {
    node.announced = true;
    node.leave_at = -1;
  } else if (node.announced && node.leave_at < 0) {
    node.leave_at = now_ + static_cast<int64_t>(random_.below(kRouters));
  } else if (node.announced && now_ >= node.leave_at) {
    node.announced = false;
  }
}

void ClusterWorld::restart(size_t i) {
  Node next;
  next.run = nodes_[i].run + 1;
  next.known = next.saved = next.runs = nodes_[i].saved;
  next.cut_until = nodes_[i].cut_until;
  nodes_[i] = std::move(next);
  ++report_.restarts;
  say("node " + std::to_string(i) + " restarts with revision " +
      std::to_string(nodes_[i].runs->plan.revision));
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
  node.plan_at = now_ + 1000;
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
