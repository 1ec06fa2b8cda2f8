// SPDX-License-Identifier: Apache-2.0
// What the probes of one backend say: pure steps, `take(outcome)`, no clock, no sockets.
//
// - up > down: `fall` probes in a row without success, or one that was refused.
// - down > up: `rise` probes in a row with success.
// - unknown (the beginning) > up by the first success; > down as from up.
// - Damping: each lapse (a probe without success after one with) of the last minute doubles what
//   `rise` asks for, up to 2^10 times; never more than max(32, as many as take 10 s), unless `rise`
//   itself is more. So a process that was restarted is back at once, and a backend behind a link
//   that loses packets, or one that comes and goes, falls once and stays out until it has been good
//   for a while.
// - After a fall for want of answers (nobody refused) it is doubled twice more, as far as that
// takes
//   no longer than a second: a link that loses packets may have had no time for lapses.
// - An unsure probe (see Outcome) counts for nothing and makes it blind, until a sure one.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "controlplane/intent.h"

namespace guideway {

// Of one probe, once it is decided.
struct Outcome {
  enum class Kind : uint8_t {
    alive,    // answered in time
    refused,  // RST, port unreachable, connection refused
    late,     // answered after the time-out
    silent,   // no answer
    bad,      // http: a status that is not 200 to 399, or no HTTP; `detail` says what
    unsure,   // cannot tell, for a reason on this side: not sent, no `edge`, nothing came back from
              // anybody by that port; `detail` says why
  };
  Kind kind = Kind::unsure;
  uint64_t sent_ns = 0;     // CLOCK_MONOTONIC
  uint64_t decided_ns = 0;  // when the answer came, or the time-out was over
  uint32_t rtt_us = 0;      // alive and late
  std::string detail;
};

enum class Seen : uint8_t { unknown, up, down };

class Judge {
 public:
  // `is_down`: known from before, so that it takes `rise` to come up.
  explicit Judge(const Probe& probe, bool is_down = false)
      : probe_(probe),
        seen_(is_down ? Seen::down : Seen::unknown),
        needed_(is_down ? probe.rise : 1) {}

  struct Change {
    Seen seen = Seen::unknown;
    bool blind = false;
    std::string reason;  // a sentence without a full stop: "refused", "3 probes without an answer
                         // within 10 ms", "2 probes answered", "GET /healthz: status 500"
    uint64_t at_ns = 0;  // Outcome::decided_ns
  };
  // Nothing: as before. Outcomes come in order of being decided.
  std::optional<Change> take(const Outcome& outcome);

  Seen seen() const { return seen_; }
  bool blind() const { return blind_; }
  uint32_t successes_needed() const { return needed_; }  // while down; with damping
  // So far; while down a miss takes ten of them.
  uint32_t successes() const { return successes_; }

 private:
  static constexpr unsigned kLapsesMax = 10;

  bool take_success();
  bool take_failure(const Outcome& outcome);
  void note_lapse(uint64_t at_ns);
  uint32_t needed_at(uint64_t now_ns) const;
  std::string fall_reason(const Outcome& outcome) const;

  Probe probe_;
  Seen seen_;
  bool blind_ = false;
  bool last_was_success_ = false;
  bool fell_silently_ = false;
  uint32_t misses_ = 0;       // in a row
  uint32_t late_misses_ = 0;  // of these
  uint32_t bad_misses_ = 0;
  uint32_t successes_ = 0;
  uint32_t needed_;
  std::array<uint64_t, kLapsesMax> lapses_{};  // when, a ring; 0: none
  unsigned next_lapse_ = 0;
};

}  // namespace guideway
