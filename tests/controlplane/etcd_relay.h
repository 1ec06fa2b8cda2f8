// SPDX-License-Identifier: Apache-2.0
// Between a client and a real etcd: passes requests on, and keeps silent on watches while it is
// told to, as something does that has forgotten a connection.
#pragma once

#include <atomic>
#include <limits>
#include <string>

#include "tests/controlplane/fake_etcd.h"

namespace guideway {

class EtcdRelay {
 public:
  // `url` is etcd's: "http://127.0.0.1:2379".
  explicit EtcdRelay(const std::string& url)
      : port_(static_cast<uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)))) {}

  // Watches that are opened from now on begin, and tell nothing; also those that are open by then.
  void set_silent(bool silent) { silent_ = silent; }
  // Watches get no answer at all.
  void refuse_watches(bool refuse) { refuse_watches_ = refuse; }
  // So many more transactions are passed on; then they get no answer, and do not take place.
  void let_pass(int txns) { txns_left_ = txns; }
  // So many transactions take place, and their answers are lost.
  void lose_answers(int txns) { answers_lost_ = txns; }
  // Transactions take place, and are not answered while this is set.
  void hold_answers(bool hold) { holding_ = hold; }
  size_t txns() { return server_.count("/v3/kv/txn"); }
  size_t reads() { return server_.count("/v3/kv/range"); }
  size_t watches() { return server_.count("/v3/watch"); }
  const std::string& url() const { return server_.url; }

 private:
  bool serve(const FakeEtcd::Request& request, const FakeEtcd::Peer& peer) {
    const bool is_watch = request.path == "/v3/watch";
    const bool is_txn = request.path == "/v3/kv/txn";
    if (is_watch && refuse_watches_) return false;
    if (is_txn && txns_left_-- <= 0) return false;
    const bool loses = is_txn && answers_lost_ > 0 && answers_lost_-- > 0;
    UniqueFd etcd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(etcd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      return false;
    std::string head = request.head;
    if (!is_watch) head += "\r\nConnection: close";
    const std::string text = head + "\r\n\r\n" + request.body;
    if (::send(etcd.get(), text.data(), text.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(text.size()))
      return false;
    bool begun = false;
    while (!stopping_ && !peer.has_gone()) {
      pollfd fd{etcd.get(), POLLIN, 0};
      if (poll(&fd, 1, 10) <= 0) continue;
      char buffer[65536];
      const ssize_t n = recv(etcd.get(), buffer, sizeof buffer, 0);
      if (n <= 0) return false;
      if (is_watch && begun && silent_) continue;
      if (loses) return false;
      while (is_txn && holding_ && !stopping_ && !peer.has_gone()) poll(nullptr, 0, 1);
      begun = true;  // the first piece says that the watch is created
      if (!peer.send(std::string(buffer, static_cast<size_t>(n)))) return false;
    }
    return false;
  }

  const uint16_t port_;
  std::atomic<bool> silent_{false};
  std::atomic<bool> refuse_watches_{false};
  std::atomic<bool> holding_{false};
  std::atomic<int> txns_left_{std::numeric_limits<int>::max()};
  std::atomic<int> answers_lost_{0};
  std::atomic<bool> stopping_{false};
  struct Stop {
    std::atomic<bool>& stopping;
    ~Stop() { stopping = true; }
  };
  FakeEtcd server_{[this](const FakeEtcd::Request& request, const FakeEtcd::Peer& peer) {
    return serve(request, peer);
  }};
  Stop stop_{stopping_};  // before the server ends
};

}  // namespace guideway
