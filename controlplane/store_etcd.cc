// SPDX-License-Identifier: Apache-2.0
#include "controlplane/store_etcd.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <utility>

#include "controlplane/json_text.h"
#include "controlplane/random_number.h"

namespace guideway {
namespace {

constexpr std::chrono::milliseconds kLook{250};
constexpr int64_t kSaveContact = 10;  // seconds
// No cluster makes so many changes. A head that a slip of somebody's pen has sent far ahead would
// else be every node's, and nothing could come after it.
constexpr uint64_t kAheadMost = uint64_t{1} << 32;
constexpr const char* kDiffers =
    "this node's intent and the cluster's differ, so it is not a member";

bool is_empty(const Intent& intent) {
  return intent.pools.empty() && intent.services.empty();
}

// But for their revisions.
bool same_content(const Intent& a, Intent b) {
  b.revision = a.revision;
  return a == b;
}

// As the operator wants it: a plan is how a pool goes there.
Intent settings_of(Intent intent) {
  for (auto& [name, pool] : intent.pools) pool.plan.reset();
  return intent;
}

// Nodes that all have changes: whoever was first rests for up to so many times what its write took.
// Without that a node further from etcd's leader may lose each race, and its changes never get in.
// The most is a few writes of an etcd that is slow: a shorter rest than the others' way is none.
constexpr auto kRestMost = std::chrono::seconds(2);
constexpr int kRestFactor = 4;

}  // namespace

EtcdStore::EtcdStore(EventLoop& loop, EtcdClient& client, std::unique_ptr<FileStore> copy,
                     Config config, Pace pace)
    : loop_(loop),
      client_(client),
      copy_(std::move(copy)),
      config_(std::move(config)),
      pace_(pace),
      intent_(copy_->intent()),
      lost_at_(Clock::now()) {}

EtcdStore::~EtcdStore() {
  *alive_ = false;
  if (watch_ != 0) client_.unwatch(watch_);
  loop_.cancel(timer_);
  loop_.cancel(unfinished_);
  loop_.cancel(resting_);
}

Result<std::unique_ptr<EtcdStore>> EtcdStore::create(EventLoop& loop, EtcdClient& client,
                                                     std::unique_ptr<FileStore> copy, Config config,
                                                     Pace pace) {
  std::unique_ptr<EtcdStore> store(
      new EtcdStore(loop, client, std::move(copy), std::move(config), pace));
  if (auto read = store->read_member_file(); !read) return tl::unexpected(read.error());
  store->copy_->on_intent([raw = store.get()](std::shared_ptr<const Intent> intent) {
    raw->intent_ = std::move(intent);
    if (raw->on_intent_) raw->on_intent_(raw->intent_);
  });
  store->timer_ = loop.every(kLook, [raw = store.get()] { raw->look(); });
  if (!store->left_) store->load();
  return store;
}

void EtcdStore::look() {
  answer_late();
  pump();
  // The watch should have told who was faster long since.
  if (stale_ == head_revision_ && Clock::now() - stale_since_ > pace_.again) load();
  if (!copy_problem_.empty() || !member_problem_.empty()) {
    // The disk was full, perhaps. Meanwhile the copy is as old as its time says.
    if (Clock::now() - kept_at_ < pace_.again) return;
    kept_at_ = Clock::now();
    if (!copy_problem_.empty()) keep_copy();
    if (!member_problem_.empty()) keep_member_file();
    return;
  }
  const int64_t now = std::time(nullptr);
  const bool is_time = std::abs(now - last_contact_) >= kSaveContact;
  if (!current_ || membership_ != Membership::member || !is_time) return;
  last_contact_ = now;
  // Its time says how old the copy is, should etcd not be there at the next start.
  (void)utimensat(AT_FDCWD, config_.member_file.c_str(), nullptr, AT_SYMLINK_NOFOLLOW);
}

// ---------------------------------------------------------------- following

void EtcdStore::rest(Clock::duration took) {
  const auto most = std::min<Clock::duration>(took * kRestFactor, kRestMost);
  loop_.cancel(resting_);
  resting_ = loop_.after(most * static_cast<int64_t>(random_number() % 1024) / 1024, [this] {
    resting_ = 0;
    pump();
  });
}

void EtcdStore::read_anew() {
  if (membership_ == Membership::alone && !joining_) return;
  ++reads_wanted_;
  problem_ = "the intent is read anew";
  load();  // if one is under way: once more after it
  if (!std::exchange(current_, false)) return;
  lost_at_ = Clock::now();
  told();
}

void EtcdStore::load() {
  if (loading_) return;
  loading_ = true;
  client_.range(config_.prefix + "intent/",
                [this, alive = alive_, answers = reads_wanted_](EtcdResult<EtcdRange> range) {
                  if (*alive) on_loaded(std::move(range), answers);
                });
}

void EtcdStore::load_later() {
  loop_.after(pace_.again, [this, alive = alive_] {
    if (*alive && !left_) load();
  });
}

void EtcdStore::on_loaded(EtcdResult<EtcdRange> range, uint64_t answers) {
  loading_ = false;
  if (left_ && !joining_) return;
  if (!range) {
    lose("etcd: " + range.error().text);
    if (joining_) std::exchange(joining_, nullptr)(fail("cluster", problem_));
    if (!left_) load_later();
    return;
  }
  // The watch was faster, or read_anew() came meanwhile.
  if (range->revision < events_revision_ || answers != reads_wanted_) return load();
  reads_done_ = answers;
  loaded_revision_ = range->revision;
  stale_ = -1;
  keys_.restart(*intent_);
  revisions_.clear();
  mark_.clear();
  head_revision_ = 0;
  for (const EtcdKeyValue& entry : range->entries) take(entry, false);
  auto settled = take_settled();
  decide(range->revision);
  answer(settled);
}

void EtcdStore::decide(int64_t revision) {
  if (!keys_.has_head()) {
    if (cluster_ == 0 || joining_ || founding_) return found();
    lose("etcd holds no intent below " + config_.prefix + ": it was wiped, or the prefix is wrong");
    return follow(revision);
  }
  auto head = keys_.head();
  if (!head) {
    lose("etcd: " + key(kHeadKey) + " " + head.error().message);
    if (joining_) std::exchange(joining_, nullptr)(fail("cluster", problem_));
    return follow(revision);
  }
  const bool known = cluster_ == head->cluster;
  const Intent last = known ? *intent_ : Intent{};
  IntentKeys trial = keys_;
  auto next = trial.intent(last);
  if (!next) return;  // cannot be: the head is good
  if (head->part && founding_ && known) return found(*next, head_revision_);
  if (head->part && !known) {
    // Nobody joins a half one.
    lose("etcd: the cluster's intent is being written by " + json_path("", head->by) +
         ": it must finish, or all below " + key("") + " be deleted");
    if (joining_) std::exchange(joining_, nullptr)(fail("cluster", problem_));
    return load_later();
  }
  const bool takes = known || joining_ || is_empty(*intent_) ||
                     same_content(settings_of(*intent_), settings_of(*next));
  if (!takes) {
    if (membership_ != Membership::alone)
      spdlog::warn("cluster: {}; `guideway cluster join` takes the cluster's", kDiffers);
    membership_ = Membership::alone;
    problem_ = kDiffers;
    told();
    return load_later();
  }
  const bool is_older = head->revision < intent_->revision ||
                        (head->revision == intent_->revision && !same_content(*intent_, *next));
  if (is_older && !head->part) return bump(intent_->revision + 1);
  membership_ = Membership::member;
  if (!known || left_ || founding_) {
    left_ = founding_ = false;
    cluster_ = head->cluster;
    keep_member_file();
    spdlog::info("member of cluster {:016x} revision={}", cluster_, head->revision);
  }
  follow(revision);
  absorb(known ? *intent_ : Intent{});
  if (joining_) std::exchange(joining_, nullptr)({});
}

void EtcdStore::follow(int64_t revision) {
  if (watch_ != 0) return;
  EtcdClient::WatchCallbacks callbacks;
  callbacks.on_events = [this, alive = alive_](int64_t at, std::vector<EtcdEvent> events) {
    if (*alive) on_events(at, events);
  };
  callbacks.on_compacted = [this, alive = alive_](int64_t) {
    if (!*alive) return;
    watch_ = 0;
    // It may be another store (a backup), whose revisions begin anew.
    events_revision_ = loaded_revision_ = 0;
    lose("etcd: what the watch would tell is compacted: the intent is read anew");
    load();
  };
  callbacks.on_state = [this, alive = alive_](bool connected, const std::string& why) {
    if (!*alive) return;
    watch_broken_ = !connected;
    if (!connected) return lose("etcd: " + why);
    if (!current_) load();  // what it shows may be old
  };
  watch_broken_ = false;
  watch_ = client_.watch(config_.prefix + "intent/", revision + 1, std::move(callbacks));
}

void EtcdStore::take(const EtcdKeyValue& entry, bool removed) {
  const std::string prefix = key("");
  if (!entry.key.starts_with(prefix)) return;
  const std::string name = entry.key.substr(prefix.size());
  int64_t& known = revisions_[name];
  if (entry.mod_revision <= known) return;
  known = entry.mod_revision;
  if (name == mark_key()) mark_ = removed ? "" : entry.value;
  if (name == kHeadKey) head_revision_ = removed ? 0 : entry.mod_revision;
  if (removed) {
    keys_.remove(name);
  } else {
    keys_.set(name, entry.value);
  }
}

void EtcdStore::on_events(int64_t revision, const std::vector<EtcdEvent>& events) {
  events_revision_ = std::max(events_revision_, revision);
  if (revision <= loaded_revision_) return;
  const int64_t before = head_revision_;
  for (const EtcdEvent& event : events) take(event.kv, event.kind == EtcdEvent::Kind::remove);
  // Its own is known from etcd's answer, before the watch tells.
  if (head_revision_ != before && !flight_) others_at_ = Clock::now();
  if (loading_) return;  // it will show this, too
  // What it is could not be told from the head as it was.
  if (membership_ == Membership::undecided && head_revision_ != before) return load();
  auto settled = take_settled();
  absorb();
  answer(settled);
  pump();
}

void EtcdStore::absorb() {
  absorb(*intent_);
}

// `last`: what stays of that which cannot be read.
void EtcdStore::absorb(const Intent& last) {
  if (membership_ != Membership::member) return;
  auto head = keys_.head();
  if (!head) {
    return lose("etcd: " + key(kHeadKey) + " " + head.error().message +
                ": the intent stays as it was");
  }
  if (head->cluster != cluster_) {
    return lose("etcd: " + key(kHeadKey) + " is of another cluster: the intent stays as it was");
  }
  if (last.revision != 0 && head->revision > last.revision + kAheadMost) {
    return lose("etcd: " + key(kHeadKey) + " has revision " + std::to_string(head->revision) +
                ", far ahead of " + std::to_string(last.revision) + ": the intent stays as it was");
  }
  part_ = head->part;
  loop_.cancel(std::exchange(unfinished_, 0));
  if (part_) {
    unfinished_ = loop_.after(pace_.unfinished, [this] { claim(); });
    return;
  }
  auto next = keys_.intent(last);
  if (next) become(std::move(*next));
  set_current();
}

void EtcdStore::become(Intent next) {
  for (const auto& [name, why] : keys_.refused())
    if (refused_.count(name) == 0) spdlog::error("etcd: {} {}: left as it was", key(name), why);
  refused_ = keys_.refused();
  if (next == *intent_) return;
  intent_ = std::make_shared<const Intent>(std::move(next));
  keep_copy();
  if (on_intent_) on_intent_(intent_);
}

void EtcdStore::keep_copy() {
  auto saved = copy_->save(*intent_);
  const std::string before = std::exchange(copy_problem_, saved ? "" : saved.error().text());
  if (!saved && before != copy_problem_)
    spdlog::error("no copy of the intent is kept: {}", copy_problem_);
}

void EtcdStore::set_current() {
  if (reads_done_ != reads_wanted_ || watch_broken_) return;
  problem_.clear();
  if (std::exchange(current_, true)) return;
  spdlog::info("cluster: following etcd revision={}", intent_->revision);
  told();
}

void EtcdStore::lose(const std::string& why) {
  if (problem_ != why) spdlog::warn("cluster: {}", why);
  problem_ = why;
  if (!std::exchange(current_, false)) return;
  lost_at_ = Clock::now();
  told();
}

void EtcdStore::told() {
  if (on_state_) on_state_();
}

EtcdStore::State EtcdStore::state() const {
  State out;
  out.membership = membership_;
  out.left = left_;
  out.current = current_ && membership_ == Membership::member;
  out.cluster = cluster_;
  for (const std::string* one : {&problem_, &copy_problem_, &member_problem_})
    if (!one->empty()) out.problem += (out.problem.empty() ? "" : "; ") + *one;
  out.last_contact = out.current ? int64_t{std::time(nullptr)} : last_contact_;
  for (const auto& [name, why] : refused_) out.refused[key(name)] = why;
  return out;
}

}  // namespace guideway
