// SPDX-License-Identifier: Apache-2.0
// When a port is known to have worked: the probes that were sent by it and answered. Remembers the
// last second to 0.2 ms, and the last minute to 10 ms; more, if there was less.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace guideway {

class ProbeEvidence {
 public:
  // A probe sent then was answered then (CLOCK_MONOTONIC). Roughly in order of being sent: one that
  // is much older than the newest may be left out.
  void note(uint64_t sent_ns, uint64_t received_ns);

  struct Span {  // limits included
    uint64_t from_ns, to_ns;
  };
  // Whether a probe that was sent in this span has been answered at `heard_ns` or later, and after
  // at most `within_ns`. True only if so; where the memory is coarse, it may have forgotten.
  bool holds(Span sent, uint64_t heard_ns, uint64_t within_ns) const;

  uint64_t newest_sent_ns() const { return newest_sent_; }  // 0: never
  uint64_t newest_received_ns() const { return newest_received_; }

 private:
  struct Answer {
    uint64_t begin_ns;  // the first that was sent in this span; the rest tells of its last
    uint64_t sent_ns, received_ns;
  };
  class Ring {
   public:
    explicit Ring(uint64_t span_ns) : span_ns_(span_ns) {}
    void note(uint64_t sent_ns, uint64_t received_ns);
    bool reaches(uint64_t sent_ns) const;
    bool holds(Span sent, uint64_t heard_ns, uint64_t within_ns) const;

   private:
    static constexpr size_t kAnswersMax = 8192;
    const Answer& at(size_t i) const { return answers_[(begin_ + i) % answers_.size()]; }

    uint64_t span_ns_;
    std::vector<Answer> answers_;  // a ring once it is full; ascending
    size_t begin_ = 0;
  };

  Ring fine_{200'000};
  Ring coarse_{10'000'000};
  uint64_t newest_sent_ = 0;
  uint64_t newest_received_ = 0;
};

}  // namespace guideway
