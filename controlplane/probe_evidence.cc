// SPDX-License-Identifier: Apache-2.0
#include "controlplane/probe_evidence.h"

#include <algorithm>

namespace guideway {

void ProbeEvidence::note(uint64_t sent_ns, uint64_t received_ns) {
  newest_sent_ = std::max(newest_sent_, sent_ns);
  newest_received_ = std::max(newest_received_, received_ns);
  fine_.note(sent_ns, received_ns);
  coarse_.note(sent_ns, received_ns);
}

bool ProbeEvidence::holds(Span sent, uint64_t heard_ns, uint64_t within_ns) const {
  if (newest_sent_ < sent.from_ns || newest_received_ < heard_ns) return false;
  return fine_.reaches(sent.from_ns) ? fine_.holds(sent, heard_ns, within_ns)
                                     : coarse_.holds(sent, heard_ns, within_ns);
}

void ProbeEvidence::Ring::note(uint64_t sent_ns, uint64_t received_ns) {
  const bool full = answers_.size() == kAnswersMax;
  Answer* last = nullptr;
  if (!answers_.empty())
    last = full ? &answers_[(begin_ + kAnswersMax - 1) % kAnswersMax] : &answers_.back();
  if (last && sent_ns < last->begin_ns + span_ns_) {
    if (sent_ns < last->sent_ns || received_ns < last->received_ns) return;
    // In one span the last tells most: it proves more of the past, and was heard later. Unless it
    // took longer, which proves less.
    if (received_ns - sent_ns <= last->received_ns - last->sent_ns + span_ns_) {
      *last = {last->begin_ns, sent_ns, received_ns};
      return;
    }
  }
  const Answer fresh{sent_ns, sent_ns, received_ns};
  if (!full) {
    answers_.push_back(fresh);
    return;
  }
  answers_[begin_] = fresh;
  begin_ = (begin_ + 1) % kAnswersMax;
}

bool ProbeEvidence::Ring::reaches(uint64_t sent_ns) const {
  return answers_.size() < kAnswersMax || at(0).begin_ns <= sent_ns;
}

bool ProbeEvidence::Ring::holds(Span sent, uint64_t heard_ns, uint64_t within_ns) const {
  size_t low = 0;
  size_t high = answers_.size();
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (at(middle).sent_ns < sent.from_ns) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  for (size_t i = low; i < answers_.size() && at(i).sent_ns <= sent.to_ns; ++i)
    if (at(i).received_ns >= heard_ns && at(i).received_ns <= at(i).sent_ns + within_ns)
      return true;
  return false;
}

}  // namespace guideway
