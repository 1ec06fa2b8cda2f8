// SPDX-License-Identifier: Apache-2.0
#include "controlplane/etcd_watches.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace guideway {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kStagger{200};
constexpr milliseconds kRoundPause{250};       // while an election may be under way
constexpr milliseconds kRoundPauseDown{1000};  // when it is known that there is none
constexpr milliseconds kSettled{5000};
constexpr milliseconds kReopenLeast{50};
constexpr milliseconds kReopenMost{2000};
constexpr int kFailuresTold = 3;
constexpr milliseconds kSilenceMost{60'000};

}  // namespace

EtcdWatches::EtcdWatches(CurlThread& thread, EtcdCalls& calls, const EtcdConfig& config, Out out)
    : thread_(thread), calls_(calls), config_(config), out_(std::move(out)) {}

void EtcdWatches::add(uint64_t id, std::string prefix, int64_t start_revision) {
  const bool first = watches_.empty();
  Watch& watch = watches_[id];
  watch.prefix = std::move(prefix);
  watch.next_revision = std::max<int64_t>(start_revision, 1);
  if (first) last_good_ = Clock::now();
  if (home_)
    check_soon();  // opens it
  else
    seek(calls_.current());
}

void EtcdWatches::remove(uint64_t id) {
  const auto it = watches_.find(id);
  if (it == watches_.end()) return;
  close(it->second);
  watches_.erase(it);
  if (!watches_.empty()) return;
  home_.reset();
  seeking_ = false;
  ++round_;
  checking_ = 0;
  thread_.cancel_timer(std::exchange(check_timer_, 0));
  thread_.cancel_timer(std::exchange(seek_timer_, 0));
}

// A linearizable read of no key in particular, but of one that who watches may read.
void EtcdWatches::ask(size_t endpoint, std::function<void(const EtcdPage*, std::string)> then) {
  const std::string& prefix = watches_.begin()->second.prefix;
  for (auto& [id, watch] : watches_) watch.seen = watch.next_revision - 1;
  auto page = std::make_shared<EtcdPage>();
  EtcdRequest request;
  request.path = "/v3/kv/range";
  request.what = "a check";
  request.body = etcd_range_text(prefix.empty() ? std::string(1, '\0') : prefix, "", 1, 0);
  request.answer_most = 4 << 20;  // there may be such a key
  request.take = [page](std::string_view text) -> Result<void> {
    auto read = read_etcd_page(text);
    if (!read) return tl::unexpected(std::move(read.error()));
    *page = std::move(*read);
    return {};
  };
  calls_.call_at(endpoint, std::move(request),
                 [page, then = std::move(then)](std::optional<EtcdCallError> error) {
                   then(error ? nullptr : page.get(), error ? std::move(error->text) : "");
                 });
}

void EtcdWatches::seek(size_t from) {
  if (seeking_ || watches_.empty()) return;
  seeking_ = true;
  ++round_;
  from_ = from;
  asked_ = 0;
  errors_.clear();
  thread_.cancel_timer(std::exchange(seek_timer_, 0));
  ask_next();
}

void EtcdWatches::ask_next() {
  thread_.cancel_timer(std::exchange(seek_timer_, 0));
  if (asked_ == calls_.size()) return;
  const size_t endpoint = (from_ + asked_++) % calls_.size();
  if (asked_ < calls_.size()) seek_timer_ = thread_.after(kStagger, [this] { ask_next(); });
  ask(endpoint, [this, endpoint, round = round_](const EtcdPage* page, const std::string& why) {
    if (round == round_ && seeking_) take_answer(endpoint, page, why);
  });
}

void EtcdWatches::take_answer(size_t endpoint, const EtcdPage* page, const std::string& why) {
  if (page) {
    found(endpoint, *page);
    return;
  }
  errors_.push_back(why);
  if (errors_.size() == calls_.size())
    found_none();
  else if (asked_ < calls_.size())
    ask_next();
}

void EtcdWatches::found(size_t endpoint, const EtcdPage& page) {
  thread_.cancel_timer(std::exchange(seek_timer_, 0));
  seeking_ = false;
  ++round_;
  home_ = endpoint;
  calls_.prefer(endpoint);
  last_good_ = Clock::now();
  look_at_all(page);
  if (!watches_.empty()) check_timer_ = thread_.after(config_.check_period, [this] { check(); });
}

void EtcdWatches::found_none() {
  seeking_ = false;
  std::string why;
  for (const std::string& error : errors_) why += (why.empty() ? "" : "; ") + error;
  calls_.set_problem(why);
  // An election is over before this, and nobody need hear of it.
  const bool down = Clock::now() - last_good_ >= config_.check_period + 2 * config_.request_timeout;
  for (const auto& [id, watch] : watches_)
    if (down || !watch.told) tell(id, false, why);
  seek_timer_ =
      thread_.after(down ? kRoundPauseDown : kRoundPause, [this] { seek(calls_.current()); });
}

void EtcdWatches::check() {
  thread_.cancel_timer(std::exchange(check_timer_, 0));
  if (!home_ || checking_ != 0) return;
  checking_ = next_check_++;
  ask(*home_, [this, check = checking_](const EtcdPage* page, const std::string&) {
    if (check != checking_) return;
    checking_ = 0;
    if (!page) {
      lose_home();
      return;
    }
    last_good_ = Clock::now();
    look_at_all(*page);
    if (home_ && check_timer_ == 0)
      check_timer_ = thread_.after(config_.check_period, [this] { this->check(); });
  });
}

void EtcdWatches::check_soon() {
  if (checking_ == 0) check();
}

void EtcdWatches::lose_home() {
  const size_t lost = *std::exchange(home_, std::nullopt);
  checking_ = 0;
  thread_.cancel_timer(std::exchange(check_timer_, 0));
  for (auto& [id, watch] : watches_) close(watch);
  seek((lost + 1) % calls_.size());
}

// A store that is behind what had been seen of it before it was asked is another one.
bool EtcdWatches::is_same_store(uint64_t id, const EtcdPage& page) {
  Watch& watch = watches_.at(id);
  const bool same =
      page.revision >= watch.seen && (watch.cluster_id == 0 || watch.cluster_id == page.cluster_id);
  watch.cluster_id = page.cluster_id;
  if (!same) compacted(id, 0);
  return same;
}

void EtcdWatches::look_at_all(const EtcdPage& page) {
  std::vector<uint64_t> ids;
  for (const auto& [id, watch] : watches_) ids.push_back(id);
  for (const uint64_t id : ids) {
    if (!is_same_store(id, page)) continue;
    const Watch& watch = watches_.at(id);
    if (watch.call == 0 && watch.timer == 0) open(id);
    look_for_silence(id, page.revision);
  }
}

void EtcdWatches::look_for_silence(uint64_t id, int64_t store_revision) {
  Watch& watch = watches_.at(id);
  const auto now = Clock::now();
  if (watch.call == 0 || watch.next_revision > store_revision) {
    watch.silent_since = {};
    return;
  }
  if (watch.silent_since == Clock::time_point{}) watch.silent_since = now;
  const auto most = std::min(config_.silence_most * (1 << std::min(watch.reopened, 8)),
                             std::max(kSilenceMost, config_.silence_most));
  if (now - watch.silent_since < most) return;
  ++watch.reopened;
  watch.silent_since = now;
  close(watch);
  open(id);
}

void EtcdWatches::open(uint64_t id) {
  Watch& watch = watches_.at(id);
  watch.stream.emplace(watch.prefix, watch.next_revision);
  watch.settled = false;
  EtcdCalls::Stream stream;
  stream.path = "/v3/watch";
  stream.body = etcd_watch_text(watch.prefix, watch.next_revision);
  stream.ready = out_.ready;
  stream.on_data = [this, id](std::string_view data) {
    take(id, watches_.at(id).stream->take(data));
  };
  stream.done = [this, id](const std::string& why, const std::string& last_piece) {
    Watch& ended = watches_.at(id);
    ended.call = 0;
    auto revisions = ended.stream->take(last_piece);
    for (EtcdRevision& revision : ended.stream->finish()) revisions.push_back(std::move(revision));
    take(id, std::move(revisions));
    // It may have said why itself, and been dealt with.
    const auto it = watches_.find(id);
    if (it != watches_.end() && it->second.stream) stream_ended(id, why);
  };
  watch.timer = thread_.after(config_.request_timeout + config_.connect_timeout, [this, id] {
    watches_.at(id).timer = 0;
    stream_ended(id, calls_.url(*home_) + ": does not begin the watch");
  });
  watch.call = calls_.open(*home_, std::move(stream));
}

void EtcdWatches::close(Watch& watch) {
  thread_.cancel(std::exchange(watch.call, 0));
  thread_.cancel_timer(std::exchange(watch.timer, 0));
  watch.stream.reset();
}

void EtcdWatches::take(uint64_t id, std::vector<EtcdRevision> revisions) {
  Watch& watch = watches_.at(id);
  const EtcdEventStream& stream = *watch.stream;
  watch.next_revision = stream.next_revision();
  const bool brought = !revisions.empty();
  if (brought) {
    watch.silent_since = {};
    watch.reopened = 0;
  }
  if (brought) out_.on_revisions(id, std::move(revisions));
  switch (stream.state()) {
    case EtcdEventStream::State::opening:
      return;
    case EtcdEventStream::State::compacted:
      compacted(id, stream.compact_revision());
      return;
    case EtcdEventStream::State::ended: {
      if (stream.wants_token()) calls_.drop_token(*home_);
      stream_ended(id, calls_.url(*home_) + ": " + stream.why());
      return;
    }
    case EtcdEventStream::State::created:
      break;
  }
  if (watch.settled) return;
  if (brought) {
    settle(id);
    return;
  }
  thread_.cancel_timer(watch.timer);
  watch.timer = thread_.after(kSettled, [this, id] {
    watches_.at(id).timer = 0;
    settle(id);
  });
  if (watch.failures < kFailuresTold) tell(id, true, calls_.url(*home_));
}

void EtcdWatches::settle(uint64_t id) {
  Watch& watch = watches_.at(id);
  thread_.cancel_timer(std::exchange(watch.timer, 0));
  watch.settled = true;
  watch.failures = 0;
  tell(id, true, calls_.url(*home_));
}

// Opened again after a pause, unless the check finds that it is the endpoint.
void EtcdWatches::stream_ended(uint64_t id, const std::string& why) {
  Watch& watch = watches_.at(id);
  close(watch);
  if (++watch.failures >= kFailuresTold) tell(id, false, why);
  const auto pause = std::min(kReopenLeast * (1 << std::min(watch.failures - 1, 8)), kReopenMost);
  watch.timer = thread_.after(pause, [this, id] {
    watches_.at(id).timer = 0;
    check_soon();
  });
  check_soon();
}

void EtcdWatches::tell(uint64_t id, bool connected, const std::string& why) {
  Watch& watch = watches_.at(id);
  if (watch.told == connected) return;
  watch.told = connected;
  out_.on_state(id, connected, connected ? "" : why);
}

void EtcdWatches::compacted(uint64_t id, int64_t compact_revision) {
  remove(id);
  out_.on_compacted(id, compact_revision);
}

}  // namespace guideway
