// SPDX-License-Identifier: Apache-2.0
// How changes get into etcd: as many as wait go in one transaction, under the condition that the
// head is the one they were applied to.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "controlplane/pool_plan.h"
#include "controlplane/random_number.h"
#include "controlplane/sealed_text.h"
#include "controlplane/store_etcd.h"

namespace guideway {
namespace {

constexpr size_t kBatch = 64;
// etcd takes 128 operations and 1.5 MiB in one transaction.
constexpr size_t kWritesAtOnce = 100;
constexpr size_t kBytesAtOnce = size_t{1} << 20;
constexpr auto kOthersAreNear = std::chrono::seconds(1);

// How many of them go together, from `first` on.
size_t count_at_once(const std::vector<KeyWrite>& writes, size_t first) {
  size_t count = 0;
  size_t bytes = 0;
  while (count < kWritesAtOnce && first + count < writes.size()) {
    bytes += writes[first + count].value.size();
    if (count > 0 && bytes > kBytesAtOnce) break;
    ++count;
  }
  return count;
}

}  // namespace

RefusedChange EtcdStore::no_etcd() const {
  return {Refusal::unavailable,
          {"cluster", "changes are refused: " + (problem_.empty() ? "etcd is busy" : problem_),
           "nothing was changed; forwarding goes on; try again when etcd is back"}};
}

void EtcdStore::change(Change change, std::string who, std::string what, Done done) {
  if (membership_ == Membership::alone && !joining_)
    return copy_->change(std::move(change), std::move(who), std::move(what), std::move(done));
  const auto now = Clock::now();
  if (!current_ && now - lost_at_ > pace_.reconnect) return done(tl::unexpected(no_etcd()));
  Pending pending;
  pending.change = std::move(change);
  pending.who = std::move(who);
  pending.what = std::move(what);
  pending.done = std::move(done);
  pending.until = now + pace_.change;
  pending_.push_back(std::move(pending));
  pump();
}

void EtcdStore::pump() {
  const bool may = current_ && !part_ && !flight_ && !verifying_ && !loading_;
  if (!may || pending_.empty() || resting_ != 0 || stale_ == head_revision_) return;
  Flight flight;
  prepare(flight, kBatch);
  if (const auto key = newer_in_the_way(flight); !key.empty()) {
    if (flight.batch > 1) prepare(flight, 1);
    if (const auto still = newer_in_the_way(flight); !still.empty()) {
      pending_.front().refused =
          RefusedChange{Refusal::conflict,
                        {this->key(still), "was written by a newer version and is not overwritten",
                         "make this change on a node of that version, or upgrade this one"}};
      return finish(1);
    }
  }
  if (flight.writes.empty()) return verify(flight.batch);
  if (flight.after.revision > kRevisionMost) {
    for (size_t i = 0; i < flight.batch; ++i)
      pending_[i].refused = RefusedChange{
          Refusal::not_stored, {key(kHeadKey), "has the last revision that there is", ""}};
    return finish(flight.batch);
  }
  flight.mark = seal("{\"mark\":" + std::to_string(random_number()) + "}", mark_key());
  flight_ = std::move(flight);
  write_next();
}

// The first pending ones, one upon the other.
void EtcdStore::prepare(Flight& flight, size_t limit) {
  flight = Flight{};
  flight.before = intent_;
  flight.head = head_revision_;
  flight.cluster = cluster_;
  std::shared_ptr<const Intent> now = intent_;
  const uint64_t revision = intent_->revision + 1;
  for (Pending& one : pending_) {
    if (flight.batch == limit) break;
    ++flight.batch;
    one.refused.reset();
    one.before = one.after = now;
    ChangeResult after = one.change(*now);
    if (!after) {
      one.refused = after.error();
      continue;
    }
    after->revision = now->revision;
    if (*after == *now) continue;
    after->revision = revision;
    now = one.after = std::make_shared<const Intent>(std::move(*after));
  }
  if (now == intent_) return;
  flight.after = *now;
  follow_plans(flight.after, *flight.before);
  flight.writes = key_writes(*flight.before, flight.after);
  for (KeyWrite& repair : keys_.repairs(flight.after, flight.writes)) {
    const bool is_written = std::any_of(flight.writes.begin(), flight.writes.end(),
                                        [&](const KeyWrite& one) { return one.key == repair.key; });
    if (!is_written) flight.writes.push_back(std::move(repair));
  }
}

std::string EtcdStore::newer_in_the_way(const Flight& flight) const {
  for (const KeyWrite& one : flight.writes)
    if (const std::string key = keys_.newer_beside(one.key); !key.empty()) return key;
  return {};
}

void EtcdStore::write_next() {
  const Flight& flight = *flight_;
  const size_t count = count_at_once(flight.writes, flight.written);
  EtcdTxn txn;
  txn.compares.push_back({key(kHeadKey), flight.head});
  for (size_t i = 0; i < count; ++i) {
    const KeyWrite& one = flight.writes[flight.written + i];
    txn.ops.push_back(one.value.empty() ? EtcdOp::remove(key(one.key))
                                        : EtcdOp::put(key(one.key), one.value));
  }
  const bool is_last = flight.written + count == flight.writes.size();
  const IntentHead head{flight.after.revision, flight.after.flow_seed, flight.cluster, config_.node,
                        !is_last};
  txn.ops.push_back(EtcdOp::put(key(kHeadKey), write_head(head)));
  if (is_last && !flight.founds) txn.ops.push_back(EtcdOp::put(key(mark_key()), flight.mark));
  client_.txn(std::move(txn), [this, alive = alive_, attempt = ++attempt_, count,
                               head](EtcdResult<EtcdTxnResult> result) {
    if (!*alive || attempt != attempt_) return;
    if (result && result->succeeded) {
      const Flight& wrote = *flight_;
      for (size_t i = 0; i < count && !wrote.founds; ++i) {
        const KeyWrite& one = wrote.writes[wrote.written + i];
        take({key(one.key), one.value, 0, result->revision, 0}, one.value.empty());
      }
      if (!wrote.founds) take({key(kHeadKey), write_head(head), 0, result->revision, 0}, false);
    }
    on_written(result, count);
  });
}

void EtcdStore::on_written(const EtcdResult<EtcdTxnResult>& result, size_t count) {
  if (!result) return on_write_failed(result.error());
  Flight& flight = *flight_;
  if (!result->succeeded) {
    // Somebody was faster. The watch tells what it is now.
    found_stale(flight.head);
    const bool founds = flight.founds;
    others_at_ = Clock::now();
    flight_.reset();
    if (founds) return load();
    // Perhaps an earlier write of this node, which etcd had not answered for.
    auto settled = take_settled();
    answer(settled);
    answer_late();
    return pump();
  }
  flight.head = result->revision;
  flight.written += count;
  if (flight.written < flight.writes.size()) return write_next();
  const Flight done = std::move(flight);
  flight_.reset();
  if (done.founds) return load();
  const std::chrono::duration<double, std::milli> took = Clock::now() - done.began;
  if (Clock::now() - others_at_ < kOthersAreNear) rest(Clock::now() - done.began);
  for (size_t i = 0; i < done.batch; ++i) {
    const Pending& one = pending_[i];
    if (one.after == one.before) continue;
    spdlog::info("changed revision={} who=\"{}\" what=\"{}\" stored_ms={:.1f}", done.after.revision,
                 one.who, one.what, took.count());
  }
  absorb();
  finish(done.batch);
}

void EtcdStore::on_write_failed(const EtcdError& failure) {
  const Flight flight = std::move(*flight_);
  flight_.reset();
  spdlog::warn("etcd: {}", failure.text);
  if (flight.founds) {
    lose("etcd: " + failure.text);
    if (joining_) std::exchange(joining_, nullptr)(fail("cluster", problem_));
    return load_later();
  }
  if (failure.kind == EtcdFailure::refused) {
    for (size_t i = 0; i < flight.batch; ++i)
      pending_[i].refused = RefusedChange{
          Refusal::not_stored, {"cluster", "etcd refuses the change: " + failure.text, ""}};
    return finish(flight.batch);
  }
  if (failure.kind == EtcdFailure::unknown) {
    for (size_t i = 0; i < flight.batch; ++i) {
      Pending& one = pending_[i];
      if (!one.refused && one.after != one.before) one.mark = flight.mark;
    }
    lose("etcd: " + failure.text);
    ++reads_wanted_;  // one that is under way may not see it
  }
  load();  // and then again
}

void EtcdStore::found_stale(int64_t head) {
  stale_ = head;
  stale_since_ = Clock::now();
}

// Nothing differs, by what is known here: is that the newest?
void EtcdStore::verify(size_t batch) {
  verifying_ = true;
  client_.range(key(kHeadKey), [this, alive = alive_, attempt = ++attempt_,
                                batch](EtcdResult<EtcdRange> range) {
    if (!*alive || attempt != attempt_) return;
    verifying_ = false;
    if (!range) {
      lose("etcd: " + range.error().text);
      return load();
    }
    const auto head = std::find_if(range->entries.begin(), range->entries.end(),
                                   [this](const auto& one) { return one.key == key(kHeadKey); });
    const bool newest = head != range->entries.end() && head->mod_revision == head_revision_;
    if (newest && batch <= pending_.size()) finish(batch);
    if (!newest && head_revision_ < range->revision) found_stale(head_revision_);
    pump();
  });
}

void EtcdStore::finish(size_t batch) {
  std::vector<Pending> done;
  for (; batch > 0; --batch) {
    done.push_back(std::move(pending_.front()));
    pending_.pop_front();
  }
  answer(done);
  pump();
}

// Those that etcd did not answer for, and that are in it.
std::vector<EtcdStore::Pending> EtcdStore::take_settled() {
  std::vector<Pending> out;
  for (auto at = pending_.begin(); at != pending_.end();) {
    if (flight_ || at->mark.empty() || at->mark != mark_) {
      ++at;
      continue;
    }
    out.push_back(std::move(*at));
    at = pending_.erase(at);
  }
  return out;
}

void EtcdStore::answer(std::vector<Pending>& settled) {
  for (Pending& one : settled) {
    if (one.refused) {
      one.done(tl::unexpected(*one.refused));
    } else {
      one.done(Changed{one.before, one.after});
    }
  }
}

RefusedChange EtcdStore::unsure(const std::string& why) {
  return {Refusal::unsure,
          {"cluster", why + ": the change may be made, now or in a moment",
           "look again when etcd is back"}};
}

// What is being written may be in etcd all the same.
void EtcdStore::answer_all(const RefusedChange& refused) {
  const size_t under_way = flight_ ? flight_->batch : 0;
  ++attempt_;
  flight_.reset();
  verifying_ = false;
  size_t at = 0;
  for (Pending& one : std::exchange(pending_, {})) {
    const bool maybe = !one.mark.empty() || (at < under_way && one.after != one.before);
    ++at;
    one.done(tl::unexpected(maybe ? unsure(refused.error.message) : refused));
  }
}

// Those whose time is over. What is being written has its own time limit, in the client.
void EtcdStore::answer_late() {
  if (flight_ || verifying_) return;
  const auto now = Clock::now();
  const bool lost = !current_ && now - lost_at_ > pace_.reconnect;
  std::deque<Pending> late;
  for (auto at = pending_.begin(); at != pending_.end();) {
    if (!lost && now < at->until) {
      ++at;
      continue;
    }
    late.push_back(std::move(*at));
    at = pending_.erase(at);
  }
  for (Pending& one : late) {
    one.done(tl::unexpected(one.mark.empty() ? no_etcd() : unsure("etcd did not answer")));
  }
}

}  // namespace guideway
