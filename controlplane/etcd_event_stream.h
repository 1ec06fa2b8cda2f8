// SPDX-License-Identifier: Apache-2.0
// The body of one watch, as its pieces come in: messages cut at the line ends, events gathered by
// revision. Pure.
//
// etcd sends the revisions in order and each whole, but in several messages if they are large
// ("fragment"): a revision is complete when the next one begins, or with the last fragment.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/etcd_json.h"
#include "controlplane/etcd_types.h"

namespace guideway {

struct EtcdRevision {
  int64_t revision = 0;
  std::vector<EtcdEvent> events;
  bool operator==(const EtcdRevision&) const = default;
};

class EtcdEventStream {
 public:
  static constexpr size_t kMessageMost = 16 << 20;
  static constexpr size_t kRevisionMost = 64 << 20;  // keys and values of one revision

  EtcdEventStream(std::string prefix, int64_t next_revision)
      : prefix_(std::move(prefix)), next_(next_revision) {}

  enum class State : uint8_t {
    opening,
    created,    // etcd has taken it on
    compacted,  // ended: etcd has forgotten the revision asked for, or contradicts itself
    ended,      // for why()
  };
  // The revisions that are complete now. Nothing more comes once it is compacted or ended.
  std::vector<EtcdRevision> take(std::string_view data);
  // There is no more.
  std::vector<EtcdRevision> finish();

  State state() const { return state_; }
  const std::string& why() const { return why_; }
  bool wants_token() const { return wants_token_; }  // it has ended for want of rights
  int64_t compact_revision() const { return compact_revision_; }
  // From where another stream must go on.
  int64_t next_revision() const { return next_; }

 private:
  using Revisions = std::vector<EtcdRevision>;

  bool over() const { return state_ == State::compacted || state_ == State::ended; }
  void take_line(std::string_view line, Revisions& out);
  void take_message(EtcdWatchMessage message, Revisions& out);
  void take_events(EtcdWatchMessage& message, Revisions& out);
  void complete(Revisions& out);
  void end(std::string why);

  std::string prefix_;
  int64_t next_;
  State state_ = State::opening;
  std::string why_;
  bool wants_token_ = false;
  int64_t compact_revision_ = 0;
  std::string rest_;  // of a line
  EtcdRevision held_;
  size_t held_bytes_ = 0;
};

}  // namespace guideway
