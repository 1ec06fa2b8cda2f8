// SPDX-License-Identifier: Apache-2.0
// The watches of one EtcdClient, all at one endpoint, their home. A watch says nothing while
// nothing changes, and nothing when its member has lost the others: so the home is asked, before it
// becomes one and every check_period, for a linearizable read, which takes a quorum. One that fails
// is replaced: the others are asked in turn, 200 ms apart, and the first that answers is the next.
//
// A stream may be dead although its member answers (a connection that something in between has
// forgotten). One that says nothing while the store goes on is opened anew from where it stopped:
// after silence_most, then after twice that, up to a minute, until it brings something. That may be
// in vain: what went on may have been other keys.
//
// Lives in the CurlThread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/curl_thread.h"
#include "controlplane/etcd_calls.h"
#include "controlplane/etcd_event_stream.h"
#include "controlplane/etcd_types.h"

namespace guideway {

class EtcdWatches {
 public:
  struct Out {
    std::function<void(uint64_t id, std::vector<EtcdRevision> revisions)> on_revisions;
    std::function<void(uint64_t id, int64_t compact_revision)> on_compacted;  // it is removed
    std::function<void(uint64_t id, bool connected, std::string why)> on_state;
    std::function<bool()> ready;  // for more
  };

  EtcdWatches(CurlThread& thread, EtcdCalls& calls, const EtcdConfig& config, Out out);

  void add(uint64_t id, std::string prefix, int64_t start_revision);
  void remove(uint64_t id);

 private:
  using Clock = std::chrono::steady_clock;
  struct Watch {
    std::string prefix;
    int64_t next_revision = 1;
    int64_t seen = 0;                       // the revision before it, when a check was asked
    uint64_t cluster_id = 0;                // 0: not known yet
    uint64_t call = 0;                      // 0: no stream
    std::optional<EtcdEventStream> stream;  // of that call
    uint64_t timer = 0;
    bool settled = false;              // it has stood for a while, or brought something
    int failures = 0;                  // in a row
    Clock::time_point silent_since{};  // zero: it has told all that there is
    int reopened = 0;                  // for its silence, in a row
    std::optional<bool> told;
  };

  void ask(size_t endpoint, std::function<void(const EtcdPage*, std::string why)> then);
  void seek(size_t from);
  void ask_next();
  void take_answer(size_t endpoint, const EtcdPage* page, const std::string& why);
  void found(size_t endpoint, const EtcdPage& page);
  void found_none();
  void check();
  void check_soon();
  void lose_home();
  bool is_same_store(uint64_t id, const EtcdPage& page);
  void look_at_all(const EtcdPage& page);
  void open(uint64_t id);
  void look_for_silence(uint64_t id, int64_t store_revision);
  void close(Watch& watch);
  void take(uint64_t id, std::vector<EtcdRevision> revisions);
  void stream_ended(uint64_t id, const std::string& why);
  void settle(uint64_t id);
  void tell(uint64_t id, bool connected, const std::string& why);
  void compacted(uint64_t id, int64_t compact_revision);

  CurlThread& thread_;
  EtcdCalls& calls_;
  const EtcdConfig config_;
  Out out_;
  std::map<uint64_t, Watch> watches_;
  std::optional<size_t> home_;
  Clock::time_point last_good_ = Clock::now();  // the last answer of a home
  uint64_t check_timer_ = 0;
  uint64_t checking_ = 0;  // the check under way; 0: none
  uint64_t next_check_ = 1;

  bool seeking_ = false;
  uint64_t round_ = 0;  // of seeking: what an earlier one asked is of no interest
  size_t from_ = 0;
  size_t asked_ = 0;
  std::vector<std::string> errors_;
  uint64_t seek_timer_ = 0;
};

}  // namespace guideway
