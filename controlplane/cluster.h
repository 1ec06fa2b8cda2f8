// SPDX-License-Identifier: Apache-2.0
// The nodes of a cluster: which live, what each runs, and which of them does what only one may do
// (the planned changes, planner.h). In etcd, below the prefix (which nothing else uses):
//
//   nodes/edge-1   what the node says of itself, as JSON; with its lease
//   elected        the name of the elected node; with its lease
//   views/edge-1   what the node shares beside that (health_view.h); with its lease
//
// A node lives as long as its lease. One that cannot renew it knows so before the others do: it is
// lapsing (no has_lease()) from four fifths of the lease on, and the others count with it for a
// margin of one more lease after the end. So does an elected node with those that it may not have
// seen end.
//
// Lives in the loop's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/etcd_client.h"
#include "controlplane/event_loop.h"
#include "controlplane/node_report.h"

namespace guideway {

class Cluster {
 public:
  using Clock = EventLoop::Clock;
  struct Config {
    std::string prefix;  // of its keys: "/guideway/live/"
    std::string node;
    std::chrono::milliseconds lease{5'000};  // whole seconds
  };
  struct Node {
    NodeReport report;
    // false: its lease has ended, and the margin is not over; or no lease keeps its key, which then
    // no node wrote, and no step waits for it.
    bool alive = true;
    std::string problem;  // its key cannot be read, or has no lease
  };

  // Does nothing before start(). `on_change`: whatever the others or the lease are.
  Cluster(EventLoop& loop, EtcdClient& client, Config config, std::function<void()> on_change);
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  // This node is a member, or is none any more: then its keys go. Again: nothing.
  void start();
  void stop();

  // What this node says of itself; it lives from the first call on.
  void report(const NodeReport& report);

  // What this node shares: the newest, written at most every 300 ms.
  void share(std::string value);
  struct Shared {
    std::string key, value;
    int64_t revision = 0;  // of etcd's: another one, another value
  };
  // By node, this one included; a node's goes with its lease.
  const std::map<std::string, Shared>& shared() const { return shared_; }
  // What is known of the others comes from etcd as it is now, as far as this node can know.
  bool is_current() const { return has_lease() && watched_; }

  // The lease is kept, or was less than four fifths of it ago. False before the first.
  bool has_lease() const;
  // And the others know what this node runs: no step is taken without it. Before that it must not
  // announce: they could be steps ahead of it at once.
  bool is_counted() const { return counted_lease() != 0; }
  // By which lease; another one: they did not count with it in between. 0: not counted.
  int64_t counted_lease() const { return has_lease() && reported_lease_ == lease_ ? lease_ : 0; }
  bool is_elected() const;  // and may act
  const std::string& elected() const { return elected_; }
  // The revision that all nodes run, at least; 0 unless is_elected(). No more than what a read of
  // all nodes has shown that began when this one ran it: a node that the watch does not tell of
  // (yet) would be left behind by two steps.
  uint64_t confirmed() const;
  // This node included, once it is known to the others.
  std::map<std::string, Node> nodes() const;
  const std::string& problem() const { return problem_; }

 private:
  struct Gone {
    NodeReport report;
    Clock::time_point until;
  };

  std::string own_key() const { return config_.prefix + "nodes/" + config_.node; }
  std::string elected_key() const { return config_.prefix + "elected"; }
  void look();
  void take_lease();
  void keep_lease();
  void lost_lease();
  void put_report();
  void on_report_put(const NodeReport& put, const EtcdResult<EtcdTxnResult>& result);
  void put_share();
  void elect();
  uint64_t run_by_all() const;
  void make_sure();
  void load();
  void forget_revisions();
  void on_loaded(const EtcdRange& range);
  void take_all(const EtcdRange& range, const std::string& stem);
  void take(const EtcdKeyValue& entry, bool removed);
  void rewrite_own(const std::string& name);
  void take_node(const std::string& name, const EtcdKeyValue& entry, bool removed);
  void take_shared(const std::string& name, const EtcdKeyValue& entry, bool removed);
  void on_events(const std::vector<EtcdEvent>& events);
  void tell();

  EventLoop& loop_;
  EtcdClient& client_;
  const Config config_;
  std::function<void()> on_change_;

  bool started_ = false;
  uint64_t run_ = 0;  // counted up by start() and stop(): answers to an earlier one are void
  EventLoop::TimerId timer_ = 0;
  std::string problem_;

  int64_t lease_ = 0;  // 0: none
  bool leasing_ = false;
  Clock::time_point kept_{};  // when the last renewal that worked was asked for
  Clock::time_point asked_{};
  Clock::time_point ask_at_{};  // for the next renewal
  bool keeping_ = false;

  std::optional<NodeReport> report_;
  NodeReport reported_;
  int64_t reported_lease_ = 0;
  bool reporting_ = false;
  bool electing_ = false;

  std::string share_;  // empty: nothing yet
  std::string put_share_;
  int64_t put_share_lease_ = 0;
  Clock::time_point share_at_{};  // for the next
  bool sharing_ = false;
  std::map<std::string, Shared> shared_;

  uint64_t sure_ = 0;  // of what confirmed() says
  bool asking_ = false;

  uint64_t watch_ = 0;
  bool loading_ = false;
  bool watched_ = false;                      // what is known of the others is not old
  std::map<std::string, int64_t> revisions_;  // etcd's, of the keys
  std::map<std::string, Node> nodes_;
  std::map<std::string, Gone> gone_;
  std::string elected_;
  bool elected_there_ = false;  // the key
  int64_t elected_lease_ = 0;
  Clock::time_point elected_since_{};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace guideway
