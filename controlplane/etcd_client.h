// SPDX-License-Identifier: Apache-2.0
// A client of etcd 3.4's JSON gateway (HTTP/1.1), in a thread of its own (libcurl). Its methods are
// called, and its callbacks come, in the loop's thread; none waits, and none calls back before it
// has returned.
//
// A request goes to the endpoint that worked last. One that can be repeated without harm (range,
// keep_alive, revoke) goes on to the next until each was asked; txn and grant only if the request
// surely was not carried out (no connection, or a member without a leader). Where members answer
// but have no leader (an election takes a second or two) they are asked again for up to twice the
// request_timeout. With one member of three gone no request fails for that, but for a txn or grant
// that was under way.
//
// With a user, a token is fetched from each endpoint, and renewed when it is no longer taken. A
// server without authentication is used without a token, as etcd's own client does.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "controlplane/etcd_types.h"
#include "controlplane/event_loop.h"
#include "controlplane/result.h"

namespace guideway {

class EtcdClient {
 public:
  using Config = EtcdConfig;
  using KeyValue = EtcdKeyValue;
  using Range = EtcdRange;
  using Compare = EtcdCompare;
  using Op = EtcdOp;
  using Txn = EtcdTxn;
  using TxnResult = EtcdTxnResult;
  using Event = EtcdEvent;
  template <typename T>
  using Done = std::function<void(EtcdResult<T>)>;

  // Starts the thread, in the network namespace of the caller. Nothing is sent yet, so etcd need
  // not be there.
  static Result<std::unique_ptr<EtcdClient>> create(EventLoop& loop, Config config);
  // What is under way is dropped, without an answer; no callback after it. May be called in a
  // callback.
  ~EtcdClient();
  EtcdClient(const EtcdClient&) = delete;
  EtcdClient& operator=(const EtcdClient&) = delete;

  // All keys with the prefix, linearizable: read in pages, all of the same revision of the store.
  // At most 512 MiB.
  void range(std::string prefix, Done<Range> done);

  // Never sent twice, unless it surely was not carried out the first time. EtcdFailure::unknown:
  // look before trying again.
  void txn(Txn txn, Done<TxnResult> done);

  // The lease's id. A failure that is `unknown` leaves at worst a lease that nobody keeps.
  void grant(int64_t ttl_s, Done<int64_t> done);
  // Seconds left; 0: the lease is gone. Count them from when it was asked, not from the answer.
  void keep_alive(int64_t lease, Done<int64_t> done);
  // True: it was there. Its keys go with it.
  void revoke(int64_t lease, Done<bool> done);

  struct WatchCallbacks {
    // All events of one revision of the store, revisions in order, none twice and none left out.
    std::function<void(int64_t revision, std::vector<Event> events)> on_events;
    // The watch has ended for good: range() anew. What it wants is no longer kept below that
    // revision; 0 if the store is another one than before (restored, or contradicting itself).
    std::function<void(int64_t compact_revision)> on_compacted;
    // True: served by a member that has its quorum (asked every check_period). False, with the
    // reason: no endpoint does. A move from one endpoint to another is not told. First call: when
    // it is known.
    std::function<void(bool connected, std::string why)> on_state;
  };
  // From that revision on (inclusive, at least 1: range()'s + 1), until unwatch() or on_compacted.
  // Goes on by itself at another endpoint when the present one ends, is silent, or has lost its
  // quorum. Events wait in etcd while the loop is behind.
  uint64_t watch(std::string prefix, int64_t start_revision, WatchCallbacks callbacks);
  // No callback of it afterwards; does nothing for an id that has ended.
  void unwatch(uint64_t id);

  // Why there is no endpoint, in a sentence; empty if the last exchange went well.
  std::string problem() const;
  // The one used last or, before the first answer, the first.
  std::string endpoint() const;

 private:
  class Impl;
  explicit EtcdClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace guideway
