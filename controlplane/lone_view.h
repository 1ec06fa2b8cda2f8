// SPDX-License-Identifier: Apache-2.0
// A node that alone sees most of a pool as dead, while the others see it well, takes itself out:
// its VIPs of that pool are withdrawn, and the others have the traffic. Pure steps: no clock, no
// etcd.
//
// Alone: there are other nodes with fresh views of the same backends; each of them sees more than
// half of the pool up, and of those that it sees up this node has lost more than half (down, no
// way, or blind). If all see it so, nobody is alone, and all stay.
//
// Before it goes it asks. When it has been alone for as long as any node's probes need to see the
// same, it writes a number into its view; the others repeat it in theirs. A view with that number
// was written after the question was read, so it is not what a node said before it was cut off or
// died. At least one such view must be of a node that serves.
//
// Two nodes that are alone with a pool each must not leave a VIP of both to nobody: who asks is no
// witness for a node whose name comes later. Of two questions at least one side has read the
// other's before it answers, so that one of them stays.
//
// It returns when it has lost less than a quarter for kReturns; at once when nobody else with a
// fresh view serves, or nothing is known of the others (etcd away, lease lapsed).
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "controlplane/health_view.h"

namespace guideway {

class LoneView {
 public:
  using Time = std::chrono::milliseconds;  // of any clock that only goes forward
  using Views = std::map<std::string, HealthView>;

  static constexpr Time kHoldsLeast{2'000};
  static constexpr Time kReturns{5'000};

  struct Facts {
    std::string node;       // this one
    bool current = false;   // what is known of the others is not old, and this node lives
    const HealthView& own;  // uncut; `out`, `doubt` and `answers` are not looked at
    const Views& others;    // of nodes that live
    std::map<std::string, Time> holds;  // pools that services use: how long it must have been alone
  };

  // Questions are numbered from there on: not by numbers of an earlier life of this node, which
  // somebody may still repeat.
  explicit LoneView(uint64_t first) : last_(first) {}

  void step(const Facts& facts, Time now);

  // To be told to the others; 0: none.
  uint64_t question() const { return question_; }
  // Pools that this node is out of, and why: a phrase.
  const std::map<std::string, std::string>& out() const { return out_; }

  struct Comparison {
    bool alone = false;
    bool mended = true;  // so much better than alone that it may return
    uint32_t lost = 0;
    std::vector<std::string> others;  // whose views count
  };
  static Comparison compare(const std::string& pool, const PoolOutlook& own, const Views& others);

 private:
  struct Doubt {
    Time since{};          // alone; when it is out: well enough
    uint64_t asked = 0;    // the question; 0: not yet
    bool mending = false;  // out, and `since` counts
  };

  void doubt(const std::string& pool, const Comparison& seen, const Facts& facts, Time now);
  void stay_out(const std::string& pool, const Comparison& seen, const Facts& facts, Time now);
  bool may_go(const Comparison& seen, const Facts& facts, uint64_t asked) const;

  uint64_t last_;  // question
  uint64_t question_ = 0;
  std::map<std::string, Doubt> doubts_;
  std::map<std::string, std::string> out_;
};

}  // namespace guideway
