// SPDX-License-Identifier: Apache-2.0
#include "controlplane/judge.h"

#include <algorithm>
#include <utility>

namespace guideway {
namespace {

constexpr uint64_t kLapseLifeNs = 60'000'000'000;
constexpr uint32_t kNeededMaxLeast = 32;
constexpr uint32_t kNeededMaxMs = 10'000;
constexpr uint32_t kAfterSilenceMs = 1'000;
constexpr uint32_t kAfterSilenceDoublings = 2;
// A miss on the way up costs so many successes: one in a hundred delays a return, one in ten
// prevents it.
constexpr uint32_t kMissCost = 10;

std::string probes(uint32_t count) {
  return std::to_string(count) + (count == 1 ? " probe" : " probes");
}

}  // namespace

std::optional<Judge::Change> Judge::take(const Outcome& outcome) {
  if (outcome.kind == Outcome::Kind::unsure) {
    if (std::exchange(blind_, true)) return {};
    return Change{seen_, true, outcome.detail, outcome.decided_ns};
  }
  const bool was_blind = std::exchange(blind_, false);
  const bool success = outcome.kind == Outcome::Kind::alive;
  if (!success && last_was_success_) note_lapse(outcome.decided_ns);
  last_was_success_ = success;

  const Seen before = seen_;
  if (seen_ == Seen::down) needed_ = needed_at(outcome.decided_ns);
  if (success ? take_success() : take_failure(outcome)) {
    seen_ = success ? Seen::up : Seen::down;
    fell_silently_ = !success && outcome.kind != Outcome::Kind::refused;
    if (!success) needed_ = needed_at(outcome.decided_ns);
  }
  if (seen_ == before && !was_blind) return {};

  Change change{seen_, false, {}, outcome.decided_ns};
  if (seen_ == before) {
    change.reason = "probing works again";
  } else {
    change.reason = success ? probes(successes_) + " answered" : fall_reason(outcome);
  }
  return change;
}

bool Judge::take_success() {
  misses_ = late_misses_ = bad_misses_ = 0;
  if (successes_ < UINT32_MAX) ++successes_;
  return seen_ == Seen::unknown || (seen_ == Seen::down && successes_ >= needed_);
}

bool Judge::take_failure(const Outcome& outcome) {
  const bool forgives = seen_ == Seen::down && outcome.kind != Outcome::Kind::refused;
  successes_ = forgives && successes_ > kMissCost ? successes_ - kMissCost : 0;
  if (misses_ < UINT32_MAX) {
    ++misses_;
    late_misses_ += outcome.kind == Outcome::Kind::late;
    bad_misses_ += outcome.kind == Outcome::Kind::bad;
  }
  if (seen_ == Seen::down) return false;
  return outcome.kind == Outcome::Kind::refused || misses_ >= probe_.fall;
}

void Judge::note_lapse(uint64_t at_ns) {
  lapses_[next_lapse_] = std::max<uint64_t>(at_ns, 1);
  next_lapse_ = (next_lapse_ + 1) % kLapsesMax;
}

uint32_t Judge::needed_at(uint64_t now_ns) const {
  const auto recent = std::count_if(lapses_.begin(), lapses_.end(), [&](uint64_t at) {
    return at != 0 && now_ns < at + kLapseLifeNs;
  });
  const uint32_t most = std::max(kNeededMaxLeast, kNeededMaxMs / std::max(probe_.interval_ms, 1u));
  uint32_t needed = probe_.rise << recent;
  if (fell_silently_) {
    needed = std::max(needed, std::min(needed << kAfterSilenceDoublings,
                                       kAfterSilenceMs / std::max(probe_.interval_ms, 1u)));
  }
  return std::max(probe_.rise, std::min(needed, most));
}

std::string Judge::fall_reason(const Outcome& outcome) const {
  const std::string limit = std::to_string(probe_.timeout_ms) + " ms";
  switch (outcome.kind) {
    case Outcome::Kind::refused:
      return outcome.detail.empty() ? "refused" : outcome.detail;
    case Outcome::Kind::bad:
      return outcome.detail;
    default:
      break;
  }
  if (late_misses_ == misses_) return probes(misses_) + " answered later than " + limit;
  std::string reason = bad_misses_ == 0 ? probes(misses_) + " without an answer within " + limit
                                        : probes(misses_) +
                                              " without success, the last without "
                                              "an answer within " +
                                              limit;
  if (!outcome.detail.empty()) reason += " (" + outcome.detail + ")";
  return reason;
}

}  // namespace guideway
