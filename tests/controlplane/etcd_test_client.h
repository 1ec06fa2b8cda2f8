// SPDX-License-Identifier: Apache-2.0
// An EtcdClient with an event loop of its own, asked from the test's thread, which waits.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "controlplane/etcd_client.h"
#include "controlplane/etcd_event_stream.h"
#include "controlplane/event_loop.h"

namespace guideway {

inline constexpr std::chrono::seconds kTestPatience{60};

// What a watch has told so far.
class Watched {
 public:
  EtcdClient::WatchCallbacks callbacks() {
    EtcdClient::WatchCallbacks out;
    out.on_events = [this](int64_t revision, std::vector<EtcdEvent> events) {
      change([&] { revisions.push_back({revision, std::move(events)}); });
    };
    out.on_compacted = [this](int64_t revision) { change([&] { compacted = revision; }); };
    out.on_state = [this](bool connected, const std::string& why) {
      change([&] { states.emplace_back(connected, why); });
    };
    return out;
  }
  template <typename Condition>
  bool wait(Condition condition, std::chrono::seconds patience = kTestPatience) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, condition);
  }
  bool wait_connected() {
    return wait([this] { return !states.empty() && states.back().first; });
  }
  bool wait_down() {
    return wait([this] { return !states.empty() && !states.back().first; });
  }
  bool wait_revision(int64_t revision) {
    return wait([&] { return !revisions.empty() && revisions.back().revision >= revision; });
  }

  // Stable while the client is not there, or within wait().
  std::vector<EtcdRevision> revisions;
  std::optional<int64_t> compacted;
  std::vector<std::pair<bool, std::string>> states;

 private:
  template <typename Fn>
  void change(Fn fn) {
    const std::lock_guard lock(mutex_);
    fn();
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
};

class TestClient {
 public:
  explicit TestClient(EtcdConfig config) {
    loop_ = std::move(*EventLoop::create());
    thread_ = std::thread([this] { loop_->run(); });
    loop_->call([&] {
      auto made = EtcdClient::create(*loop_, std::move(config));
      if (made)
        client_ = std::move(*made);
      else
        ADD_FAILURE() << made.error().text();
    });
  }
  ~TestClient() {
    end();
    loop_->stop();
    thread_.join();
  }
  void end() {
    loop_->call([&] { client_.reset(); });
  }

  // What `ask` makes the client do, and its answer.
  template <typename T, typename Ask>
  EtcdResult<T> wait(Ask ask) {
    auto promise = std::make_shared<std::promise<EtcdResult<T>>>();
    auto answer = promise->get_future();
    run([&](EtcdClient& client) {
      ask(client, [promise](EtcdResult<T> result) { promise->set_value(std::move(result)); });
    });
    if (answer.wait_for(kTestPatience) == std::future_status::ready) return answer.get();
    ADD_FAILURE() << "no answer";
    return tl::unexpected(EtcdError{EtcdFailure::unknown, "no answer"});
  }
  EtcdResult<EtcdRange> range(const std::string& prefix) {
    return wait<EtcdRange>([&](EtcdClient& client, auto done) { client.range(prefix, done); });
  }
  EtcdResult<EtcdTxnResult> txn(const EtcdTxn& txn) {
    return wait<EtcdTxnResult>([&](EtcdClient& client, auto done) { client.txn(txn, done); });
  }
  EtcdResult<EtcdTxnResult> put(const std::string& key, const std::string& value,
                                int64_t lease = 0) {
    return txn({{}, {EtcdOp::put(key, value, lease)}});
  }
  EtcdResult<int64_t> grant(int64_t ttl_s) {
    return wait<int64_t>([&](EtcdClient& client, auto done) { client.grant(ttl_s, done); });
  }
  EtcdResult<int64_t> keep_alive(int64_t lease) {
    return wait<int64_t>([&](EtcdClient& client, auto done) { client.keep_alive(lease, done); });
  }
  EtcdResult<bool> revoke(int64_t lease) {
    return wait<bool>([&](EtcdClient& client, auto done) { client.revoke(lease, done); });
  }
  uint64_t watch(const std::string& prefix, int64_t start, Watched& watched) {
    return *loop_->call([&] { return client_->watch(prefix, start, watched.callbacks()); });
  }
  template <typename Fn>
  void run(Fn fn) {
    loop_->call([&] { fn(*client_); });
  }
  std::string problem() {
    return *loop_->call([&] { return client_->problem(); });
  }
  std::string endpoint() {
    return *loop_->call([&] { return client_->endpoint(); });
  }
  // Until etcd answers, as it does some time after its start.
  bool wait_ready() {
    const auto until = std::chrono::steady_clock::now() + kTestPatience;
    while (std::chrono::steady_clock::now() < until) {
      if (range("no such prefix")) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return false;
  }

  EventLoop& loop() { return *loop_; }
  std::unique_ptr<EtcdClient>& client() { return client_; }  // in the loop

 private:
  std::unique_ptr<EventLoop> loop_;
  std::thread thread_;
  std::unique_ptr<EtcdClient> client_;
};

}  // namespace guideway
