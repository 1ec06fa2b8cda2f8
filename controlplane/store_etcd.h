// SPDX-License-Identifier: Apache-2.0
// The intent of a cluster, in etcd (intent_keys.h says in which keys), with a copy in this node's
// file. Every node follows it, and any node changes it: by a transaction that takes place only if
// nobody else changed it meanwhile; else the change is applied again to what came of that.
//
// This node is
//   a member      it follows the cluster's intent; its file is a copy of that
//   alone         it left (leave()), or it has an intent of its own that differs from the cluster's
//                 and nobody said which one counts (join()); then its file is its intent
// A node without services and pools joins by itself; the first node makes its intent the cluster's.
//
// Without etcd all goes on by the copy, and changes are refused.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/etcd_client.h"
#include "controlplane/event_loop.h"
#include "controlplane/intent_keys.h"
#include "controlplane/store.h"
#include "controlplane/store_file.h"

namespace guideway {

class EtcdStore : public Store {
 public:
  struct Config {
    std::string prefix;       // of all keys: "/guideway/"
    std::string node;         // this node's name
    std::string member_file;  // STATE/cluster.json: of which cluster it is a member
  };
  struct Pace {
    std::chrono::milliseconds change{10'000};      // a change takes no longer
    std::chrono::milliseconds reconnect{3'000};    // etcd gone for longer: changes are refused
    std::chrono::milliseconds again{1'000};        // until it is asked again
    std::chrono::milliseconds unfinished{10'000};  // a change whose writer ended in the midst
  };

  enum class Membership : uint8_t { undecided, member, alone };
  struct State {
    Membership membership = Membership::undecided;
    bool left = false;                           // alone by leave()
    bool current = false;                        // member, connected, and nothing newer is known of
    uint64_t cluster = 0;                        // 0: not known
    std::string problem;                         // a sentence; empty: none
    int64_t last_contact = 0;                    // a member's, in seconds since 1970; 0: never
    std::map<std::string, std::string> refused;  // keys of etcd that are left out, and why
  };

  // Begins to follow. `copy` is loaded.
  static Result<std::unique_ptr<EtcdStore>> create(EventLoop& loop, EtcdClient& client,
                                                   std::unique_ptr<FileStore> copy, Config config,
                                                   Pace pace);
  ~EtcdStore() override;
  EtcdStore(const EtcdStore&) = delete;
  EtcdStore& operator=(const EtcdStore&) = delete;

  std::shared_ptr<const Intent> intent() const override { return intent_; }
  void on_intent(OnIntent callback) override { on_intent_ = std::move(callback); }
  void change(Change change, std::string who, std::string what, Done done) override;

  State state() const;
  // Whenever `membership` or `current` of the state changed.
  void on_state(std::function<void()> callback) { on_state_ = std::move(callback); }

  // What it shows may be old, whatever the watch says: it is current again when a read of all,
  // begun after this, has come back. To be called whenever the other nodes did not count with this
  // one.
  void read_anew();

  // Takes the cluster's intent, whatever this node's is. Done when it is followed, and durable.
  void join(std::function<void(Result<void>)> done);
  // Stays alone with the intent as it is. Durable when it returns.
  Result<void> leave();

 private:
  using Clock = EventLoop::Clock;
  struct Pending {
    Change change;
    std::string who, what;
    Done done;
    Clock::time_point until;
    std::string mark;  // of a write that etcd did not answer for: if it is there, this was done
    // What came of it on the intent that it was tried on.
    std::optional<RefusedChange> refused;
    std::shared_ptr<const Intent> before, after;
  };
  // What is being written; the batch is the first pending ones.
  struct Flight {
    std::shared_ptr<const Intent> before;
    Intent after;
    std::vector<KeyWrite> writes;
    size_t written = 0;  // of the writes
    size_t batch = 0;    // of the pending ones
    int64_t head = 0;    // etcd's revision of the head that it builds upon
    uint64_t cluster = 0;
    bool founds = false;  // not a change: the store is read anew afterwards
    std::string mark;     // goes in with the last of the writes
    Clock::time_point began = Clock::now();
  };

  EtcdStore(EventLoop& loop, EtcdClient& client, std::unique_ptr<FileStore> copy, Config config,
            Pace pace);

  // Following.
  Result<void> read_member_file();
  Result<void> write_member_file();
  void load();
  void load_later();
  void look();
  void on_loaded(EtcdResult<EtcdRange> range, uint64_t answers);
  void decide(int64_t revision);
  void found();
  void found(const Intent& there, int64_t head);
  void start_founding(Flight flight);
  void follow(int64_t revision);
  void on_events(int64_t revision, const std::vector<EtcdEvent>& events);
  void take(const EtcdKeyValue& entry, bool removed);
  void absorb();
  void absorb(const Intent& last);
  void claim();
  void become(Intent next);
  void keep_copy();
  void keep_member_file();
  void set_current();
  void found_stale(int64_t head);
  void lose(const std::string& why);
  void told();
  std::string key(const std::string& name) const { return config_.prefix + "intent/" + name; }
  std::string mark_key() const { return "writes/" + config_.node; }

  // Changes (store_etcd_change.cc).
  void pump();
  void prepare(Flight& flight, size_t limit);
  std::string newer_in_the_way(const Flight& flight) const;
  void write_next();
  void on_written(const EtcdResult<EtcdTxnResult>& result, size_t count);
  void on_write_failed(const EtcdError& failure);
  void finish(size_t batch);
  void verify(size_t batch);
  std::vector<Pending> take_settled();
  static void answer(std::vector<Pending>& settled);
  void rest(Clock::duration took);
  void answer_all(const RefusedChange& refused);
  void answer_late();
  RefusedChange no_etcd() const;
  static RefusedChange unsure(const std::string& why);
  void bump(uint64_t revision);

  EventLoop& loop_;
  EtcdClient& client_;
  std::unique_ptr<FileStore> copy_;
  const Config config_;
  const Pace pace_;
  std::shared_ptr<const Intent> intent_;
  OnIntent on_intent_;
  std::function<void()> on_state_;
  std::function<void(Result<void>)> joining_;

  Membership membership_ = Membership::undecided;
  uint64_t cluster_ = 0;   // of the member file
  bool founding_ = false;  // what it makes the cluster's may not be whole there yet
  bool left_ = false;
  bool current_ = false;
  std::string problem_ = "etcd has not answered yet";
  std::string copy_problem_;    // of the copy of the intent
  std::string member_problem_;  // of the member file
  Clock::time_point kept_at_;   // when it was last tried to write them again
  Clock::time_point lost_at_;
  IntentKeys keys_;
  std::map<std::string, int64_t> revisions_;  // etcd's, of the keys
  std::map<std::string, std::string> refused_;
  int64_t head_revision_ = 0;  // etcd's, of the head; 0: it is not there
  std::string mark_;           // of this node's last write that is in etcd
  uint64_t watch_ = 0;
  bool watch_broken_ = false;
  int64_t events_revision_ = 0;  // of the watch
  int64_t loaded_revision_ = 0;  // of the last read; the watch may still tell what was before
  uint64_t reads_wanted_ = 0;    // read_anew()'s
  uint64_t reads_done_ = 0;      // of those; a read answers all that came before it began
  bool loading_ = false;
  bool part_ = false;  // the last change is not whole yet

  std::deque<Pending> pending_;
  std::optional<Flight> flight_;
  bool verifying_ = false;
  uint64_t attempt_ = 0;  // of writing or verifying: an answer to an earlier one is void
  int64_t stale_ = -1;    // the head's revision that a transaction found to be old
  Clock::time_point stale_since_;
  Clock::time_point others_at_;     // when another node's change was last seen
  EventLoop::TimerId resting_ = 0;  // until then the others have their turn
  EventLoop::TimerId timer_ = 0;
  EventLoop::TimerId unfinished_ = 0;
  int64_t last_contact_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace guideway
