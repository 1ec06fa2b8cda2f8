// SPDX-License-Identifier: Apache-2.0
// A node: how it lives, what it knows, when it announces.
#include <algorithm>
#include <utility>

#include "tests/sim/cluster_world.h"

namespace guideway {
namespace {

constexpr int64_t kSilenceMost = 5000;
constexpr int64_t kRouters = 3500;  // they know by then that a node is reduced

}  // namespace

void ClusterWorld::look(size_t i) {
  Node& node = nodes_[i];
  if (node.lease != 0 && now_ >= node.kept + kLease) node.lease = 0;
  if (node.lease == 0) {
    if (now_ >= node.leasing && now_ >= node.asked + kLease / 5) take_lease(i);
  } else if (now_ >= node.ask_at) {
    keep_lease(i);
  }
  std::erase_if(node.gone, [this](const auto& one) { return now_ >= one.second.until; });
  watch(i, &Node::intent);
  watch(i, &Node::live);
  put_report(i);
  elect(i);
  make_sure(i);
  adopt(node);
  announce(i);
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
  if (!node.live.loaded || node.lease == 0 || now_ < node.reporting) return;
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
  if (!node.live.loaded || !has_lease(node) || now_ < node.electing) return;
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
  return has_lease(node) && node.live.loaded && node.elected == i &&
         node.elected_lease == node.lease && now_ >= node.elected_since + rules_.margin;
}

uint64_t ClusterWorld::confirmed(size_t i) const {
  const Node& node = nodes_[i];
  if (rules_.skips_confirmation) return node.known->plan.revision;
  return rules_.steps_by_the_watch ? run_by_all(i) : std::min(node.sure, run_by_all(i));
}

uint64_t ClusterWorld::run_by_all(size_t i) const {
  const Node& node = nodes_[i];
  uint64_t least = node.runs->plan.revision;
  for (const auto& [other, entry] : node.nodes)
    if (other != i) least = std::min(least, entry.revision);
  for (const auto& [other, gone] : node.gone)
    if (now_ < gone.until) least = std::min(least, gone.revision);
  return least;
}

void ClusterWorld::make_sure(size_t i) {
  Node& node = nodes_[i];
  if (!is_elected(i)) node.sure = 0;
  if (now_ < node.asking || !is_elected(i) || run_by_all(i) <= node.sure) return;
  node.asking = now_ + kTimeLimit;
  call(i, [=, this, lease = node.lease, ran = node.runs->plan.revision]() -> Answer {
    return [=, this, keys = keys_] {
      Node& asker = nodes_[i];
      asker.asking = 0;
      if (asker.lease != lease) return;
      for (const auto& [other, key] : keys) take(i, key);
      asker.sure = std::min(ran, run_by_all(i));
    };
  });
}

void ClusterWorld::load(size_t i, Stream Node::*stream) {
  Node& node = nodes_[i];
  (node.*stream).reading = now_ + kTimeLimit;
  const bool live = stream == &Node::live;
  call(i, [=, this, answers = node.reads_wanted]() -> Answer {
    auto keys = live ? keys_ : std::map<size_t, Event>{};
    return [=, this, keys = std::move(keys), elected = elected_, intent = intent_,
            seen = events_.size()] {
      Node& reader = nodes_[i];
      (reader.*stream).loaded = true;
      (reader.*stream).reading = 0;
      (reader.*stream).seen = std::max((reader.*stream).seen, seen);
      if (live) {
        for (const auto& [other, key] : keys) take(i, key);
        return take(i, elected);
      }
      take(i, {Event::Kind::intent, 0, {}, intent, intent->head});
      reader.reads_done = std::max(reader.reads_done, answers);
    };
  });
}

void ClusterWorld::read_anew(size_t i) {
  ++nodes_[i].reads_wanted;
  nodes_[i].intent.reading = 0;
}

void ClusterWorld::watch(size_t i, Stream Node::*which) {
  Node& node = nodes_[i];
  Stream& stream = node.*which;
  const bool live = which == &Node::live;
  const bool reads = !stream.loaded || (!live && node.reads_done != node.reads_wanted) ||
                     random_.one_in(150);  // it was compacted
  if (reads && now_ >= stream.reading) load(i, which);
  if (!stream.loaded || node.cut || !random_.one_in(3)) return;
  if (stream.silent) return look_for_silence(stream);
  for (; stream.seen < events_.size(); ++stream.seen)
    if (events_[stream.seen].is_live() == live) take(i, events_[stream.seen]);
}

// etcd_watches.cc. What is opened instead may be dead as well.
void ClusterWorld::look_for_silence(Stream& stream) {
  if (rules_.trusts_silence || stream.seen == events_.size()) return;
  if (stream.silent_since < 0) stream.silent_since = now_;
  if (now_ < stream.silent_since + kSilenceMost) return;
  stream.silent = !healed_ && random_.one_in(4);
  stream.silent_since = -1;
}

void ClusterWorld::take(size_t i, const Event& event) {
  Node& node = nodes_[i];
  if (event.kind == Event::Kind::intent) {
    if (event.intent->head <= node.known->head) return;
    node.known = event.intent;
    node.adopt_at = now_ + static_cast<int64_t>(random_.below(adopt_most_));
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
}

bool ClusterWorld::is_up_to_date(size_t i) {
  Node& node = nodes_[i];
  const bool counted = rules_.announces_uncounted || node.reported_lease == node.lease;
  if (!has_lease(node) || !counted) return false;
  const bool again = node.read_under == 0 || !rules_.keeps_old_intent;
  if (again && std::exchange(node.read_under, node.lease) != node.lease) {
    node.catch_up = 0;
    node.caught_up = false;
    read_anew(i);
  }
  if (node.reads_done != node.reads_wanted && !rules_.ready_with_old) return false;
  if (node.catch_up == 0) node.catch_up = node.known->plan.revision;
  node.caught_up = node.caught_up || node.runs->plan.revision >= node.catch_up;
  return node.caught_up || rules_.ready_with_old;
}

// Routers learn of the worse late, of the better at once.
void ClusterWorld::announce(size_t i) {
  Node& node = nodes_[i];
  if (is_up_to_date(i)) {
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

}  // namespace guideway
