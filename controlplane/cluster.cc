// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cluster.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <ctime>
#include <set>
#include <utility>

#include "controlplane/json_text.h"

namespace guideway {
namespace {

constexpr std::chrono::milliseconds kLook{100};
constexpr std::chrono::milliseconds kShareLeast{300};

// etcd's leases end also while this machine is suspended, and Clock stands still then.
Cluster::Clock::time_point boot_time() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return Cluster::Clock::time_point(std::chrono::seconds(now.tv_sec) +
                                    std::chrono::nanoseconds(now.tv_nsec));
}

}  // namespace

Cluster::Cluster(EventLoop& loop, EtcdClient& client, Config config,
                 std::function<void()> on_change)
    : loop_(loop), client_(client), config_(std::move(config)), on_change_(std::move(on_change)) {}

Cluster::~Cluster() {
  *alive_ = false;
  loop_.cancel(timer_);
  if (watch_ != 0) client_.unwatch(watch_);
}

void Cluster::start() {
  if (std::exchange(started_, true)) return;
  ++run_;
  timer_ = loop_.every(kLook, [this] { look(); });
  load();
  look();
}

void Cluster::stop() {
  if (!std::exchange(started_, false)) return;
  ++run_;
  loop_.cancel(std::exchange(timer_, 0));
  if (watch_ != 0) client_.unwatch(std::exchange(watch_, 0));
  if (lease_ != 0) client_.revoke(lease_, [](const EtcdResult<bool>&) {});
  lease_ = reported_lease_ = elected_lease_ = 0;
  put_share_lease_ = 0;
  leasing_ = keeping_ = reporting_ = sharing_ = electing_ = asking_ = loading_ = watched_ = false;
  elected_there_ = false;
  sure_ = 0;
  nodes_.clear();
  shared_.clear();
  gone_.clear();
  revisions_.clear();
  elected_.clear();
  problem_.clear();
  kept_ = {};
}

void Cluster::report(const NodeReport& report) {
  report_ = report;
  if (started_) put_report();
}

void Cluster::share(std::string value) {
  share_ = std::move(value);
  put_share();
}

bool Cluster::has_lease() const {
  return lease_ != 0 && boot_time() < kept_ + config_.lease * 4 / 5;
}

bool Cluster::is_elected() const {
  return has_lease() && watched_ && elected_lease_ == lease_ && elected_ == config_.node &&
         boot_time() >= elected_since_ + config_.lease;
}

uint64_t Cluster::confirmed() const {
  return is_elected() ? std::min(sure_, run_by_all()) : 0;
}

// By what is known here.
uint64_t Cluster::run_by_all() const {
  if (!report_) return 0;
  uint64_t least = report_->revision;
  for (const auto& [name, node] : nodes_)
    if (name != config_.node && node.alive) least = std::min(least, node.report.revision);
  const auto now = boot_time();
  for (const auto& [name, gone] : gone_)
    if (now < gone.until) least = std::min(least, gone.report.revision);
  return least;
}

std::map<std::string, Cluster::Node> Cluster::nodes() const {
  std::map<std::string, Node> out = nodes_;
  const auto now = boot_time();
  for (const auto& [name, gone] : gone_)
    if (now < gone.until) out.emplace(name, Node{gone.report, false, ""});
  return out;
}

// Whatever is to be done and was not yet, or went wrong.
void Cluster::look() {
  const auto now = boot_time();
  if (lease_ != 0 && now >= kept_ + config_.lease) lost_lease();
  if (lease_ == 0) {
    if (!leasing_ && now >= asked_ + config_.lease / 5) take_lease();
  } else if (!keeping_ && now >= ask_at_) {
    keep_lease();
  }
  if (std::erase_if(gone_, [now](const auto& entry) { return now >= entry.second.until; }) != 0)
    tell();
  put_report();
  put_share();
  elect();
  make_sure();
}

void Cluster::take_lease() {
  leasing_ = true;
  asked_ = boot_time();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(config_.lease).count();
  client_.grant(seconds, [this, alive = alive_, run = run_,
                          asked = asked_](const EtcdResult<int64_t>& lease) {
    if (!*alive || run != run_) return;
    leasing_ = false;
    if (!lease) {
      problem_ = "no lease: " + lease.error().text;
      return;
    }
    lease_ = *lease;
    kept_ = asked;
    problem_.clear();
    look();
    tell();
  });
}

void Cluster::keep_lease() {
  keeping_ = true;
  asked_ = boot_time();
  ask_at_ = asked_ + config_.lease / 5;
  client_.keep_alive(lease_, [this, alive = alive_, run = run_, asked = asked_,
                              lease = lease_](const EtcdResult<int64_t>& left) {
    if (!*alive || run != run_) return;
    keeping_ = false;
    if (lease != lease_) return;
    if (!left) {
      problem_ = "the lease is not renewed: " + left.error().text;
      ask_at_ = boot_time() + config_.lease / 20;
      return;
    }
    if (*left == 0) return lost_lease();
    kept_ = asked;
    problem_.clear();
    tell();
  });
}

void Cluster::lost_lease() {
  spdlog::warn("cluster: the lease has ended: {}", problem_.empty() ? "late" : problem_);
  lease_ = 0;
  tell();
}

// The key is this node's: nobody else's with the same name, which then waits until it goes.
void Cluster::put_report() {
  if (!started_ || !report_ || reporting_ || lease_ == 0 || !watched_) return;
  if (*report_ == reported_ && reported_lease_ == lease_) return;
  const auto known = nodes_.find(config_.node);
  if (known != nodes_.end() && known->second.problem.empty() &&
      known->second.report.id != report_->id) {
    problem_ = "another node of this cluster is called " + config_.node;
    return;
  }
  reporting_ = true;
  EtcdTxn txn;
  const auto revision = revisions_.find("nodes/" + config_.node);
  const bool is_there = nodes_.count(config_.node) != 0;
  txn.compares.push_back({own_key(), is_there ? revision->second : 0});
  txn.ops.push_back(EtcdOp::put(own_key(), write_report(*report_), lease_));
  client_.txn(std::move(txn), [this, alive = alive_, run = run_, put = *report_,
                               lease = lease_](const EtcdResult<EtcdTxnResult>& result) {
    if (!*alive || run != run_) return;
    reporting_ = false;
    if (!result) {
      problem_ = "not told to the others: " + result.error().text;
      return;  // with the next look
    }
    // Somebody wrote it, or the store is another one by now (a backup).
    if (!result->succeeded) return load();
    take({own_key(), write_report(put), 0, result->revision, lease}, false);
    reported_ = put;
    reported_lease_ = lease;
    tell();
    put_report();
  });
}

// Once the node's name is known to be its own.
void Cluster::put_share() {
  const bool can = started_ && watched_ && lease_ != 0 && reported_lease_ == lease_;
  if (!can || sharing_ || share_.empty()) return;
  if ((share_ == put_share_ && put_share_lease_ == lease_) || boot_time() < share_at_) return;
  sharing_ = true;
  share_at_ = boot_time() + kShareLeast;
  EtcdTxn txn;
  txn.ops.push_back(EtcdOp::put(config_.prefix + "views/" + config_.node, share_, lease_));
  client_.txn(std::move(txn), [this, alive = alive_, run = run_, put = share_,
                               lease = lease_](const EtcdResult<EtcdTxnResult>& result) {
    if (!*alive || run != run_) return;
    sharing_ = false;
    if (!result) return;  // with the next look
    put_share_ = put;
    put_share_lease_ = lease;
  });
}

void Cluster::elect() {
  const bool can = started_ && watched_ && has_lease() && !electing_ && reported_lease_ == lease_;
  if (!can || elected_lease_ != 0) return;
  electing_ = true;
  EtcdTxn txn;
  // One without a lease would stay for ever: nobody of us wrote it.
  txn.compares.push_back({elected_key(), elected_there_ ? revisions_["elected"] : 0});
  txn.ops.push_back(EtcdOp::put(elected_key(), config_.node, lease_));
  client_.txn(std::move(txn), [this, alive = alive_, run = run_,
                               lease = lease_](const EtcdResult<EtcdTxnResult>& result) {
    if (!*alive || run != run_) return;
    electing_ = false;
    if (!result) return;  // with the next look
    if (!result->succeeded) return load();
    take({elected_key(), config_.node, 0, result->revision, lease}, false);
    tell();
  });
}

void Cluster::make_sure() {
  if (!is_elected()) sure_ = 0;
  if (asking_ || !is_elected() || run_by_all() <= sure_) return;
  asking_ = true;
  client_.range(config_.prefix + "nodes/",
                [this, alive = alive_, run = run_, ran = report_->revision,
                 lease = lease_](const EtcdResult<EtcdRange>& range) {
                  if (!*alive || run != run_) return;
                  asking_ = false;
                  if (!range || lease != lease_) return;  // with the next look
                  take_all(*range, "nodes/");
                  sure_ = std::min(ran, run_by_all());
                  tell();
                });
}

void Cluster::forget_revisions() {
  for (auto& [name, revision] : revisions_) revision = 0;
}

void Cluster::load() {
  if (loading_) return;
  loading_ = true;
  int64_t newest = 0;
  for (const auto& [name, revision] : revisions_) newest = std::max(newest, revision);
  client_.range(config_.prefix,
                [this, alive = alive_, run = run_, newest](const EtcdResult<EtcdRange>& range) {
                  if (!*alive || run != run_) return;
                  loading_ = false;
                  // Behind what was known when it was asked: its revisions began anew.
                  if (range && range->revision < newest) forget_revisions();
                  if (range) return on_loaded(*range);
                  problem_ = range.error().text;
                  loop_.after(kLook * 10, [this, alive, run] {
                    if (*alive && run == run_) load();
                  });
                });
}

void Cluster::on_loaded(const EtcdRange& range) {
  take_all(range, "");
  EtcdClient::WatchCallbacks callbacks;
  callbacks.on_events = [this, alive = alive_, run = run_](int64_t,
                                                           const std::vector<EtcdEvent>& events) {
    if (*alive && run == run_) on_events(events);
  };
  callbacks.on_compacted = [this, alive = alive_, run = run_](int64_t) {
    if (!*alive || run != run_) return;
    watch_ = 0;
    forget_revisions();  // it may be another store
    load();
  };
  callbacks.on_state = [this, alive = alive_, run = run_](bool connected, const std::string& why) {
    if (!*alive || run != run_) return;
    watched_ = connected;
    if (!connected) problem_ = why;
    tell();
  };
  if (watch_ == 0) watch_ = client_.watch(config_.prefix, range.revision + 1, std::move(callbacks));
  watched_ = true;
  look();
  tell();
}

// All keys that begin so. Nodes that are not there any more have gone.
void Cluster::take_all(const EtcdRange& range, const std::string& stem) {
  std::set<std::string> there;
  for (const EtcdKeyValue& entry : range.entries) there.insert(entry.key);
  for (const auto& [name, revision] : std::map(revisions_))
    if (name.starts_with(stem) && !there.contains(config_.prefix + name))
      take({config_.prefix + name, "", 0, range.revision, 0}, true);
  for (const EtcdKeyValue& entry : range.entries) take(entry, false);
}

void Cluster::on_events(const std::vector<EtcdEvent>& events) {
  bool changed = false;
  for (const EtcdEvent& event : events) {
    changed = changed || event.kv.key == elected_key() ||
              event.kv.key.starts_with(config_.prefix + "nodes/") ||
              event.kv.key.starts_with(config_.prefix + "views/");
    take(event.kv, event.kind == EtcdEvent::Kind::remove);
  }
  if (!changed) return;
  look();
  tell();
}

void Cluster::take(const EtcdKeyValue& entry, bool removed) {
  if (!entry.key.starts_with(config_.prefix)) return;
  const std::string name = entry.key.substr(config_.prefix.size());
  const bool is_node = name.starts_with("nodes/");
  const bool is_shared = name.starts_with("views/");
  if (!is_node && !is_shared && name != "elected") return;
  int64_t& known = revisions_[name];
  if (entry.mod_revision <= known) return;
  known = entry.mod_revision;
  if (is_node) return take_node(name.substr(6), entry, removed);
  if (is_shared) return take_shared(name.substr(6), entry, removed);
  const bool was = elected_lease_ == lease_ && lease_ != 0;
  elected_ = removed ? "" : entry.value;
  elected_there_ = !removed;
  elected_lease_ = removed ? 0 : entry.lease;
  const bool is = elected_lease_ == lease_ && lease_ != 0;
  if (is && !was) {
    elected_since_ = boot_time();
    spdlog::info("cluster: this node is elected for planned changes");
  }
}

// Somebody else was at it.
void Cluster::rewrite_own(const std::string& name) {
  if (name == config_.node && !reporting_) reported_lease_ = 0;
}

void Cluster::take_node(const std::string& name, const EtcdKeyValue& entry, bool removed) {
  const auto before = nodes_.find(name);
  if (removed) {
    rewrite_own(name);
    if (before == nodes_.end()) return;
    spdlog::warn("cluster: node {} is gone", json_path("", name));
    gone_[name] = {before->second.report, boot_time() + config_.lease};
    nodes_.erase(before);
    return;
  }
  auto report = read_report(entry.value);
  if (!report || entry.lease == 0) rewrite_own(name);
  if (before == nodes_.end()) spdlog::info("cluster: node {} is there", json_path("", name));
  Node& node = nodes_[name];
  node.alive = entry.lease != 0;
  node.problem = report ? "" : entry.key + " cannot be read: " + report.error().text();
  if (!node.alive) node.problem = entry.key + " has no lease: no node wrote it; remove it";
  // Of one that cannot be read nothing is confirmed.
  node.report = report ? *report : NodeReport{};
  gone_.erase(name);
}

void Cluster::take_shared(const std::string& name, const EtcdKeyValue& entry, bool removed) {
  if (removed) {
    shared_.erase(name);
  } else {
    shared_[name] = {entry.key, entry.value, entry.mod_revision};
  }
  // Somebody else was at it: it is written anew.
  if (name == config_.node && !sharing_ && (removed || entry.value != put_share_))
    put_share_lease_ = 0;
}

void Cluster::tell() {
  if (on_change_) on_change_();
}

}  // namespace guideway
