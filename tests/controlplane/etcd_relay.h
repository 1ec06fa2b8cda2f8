// SPDX-License-Identifier: Apache-2.0
// Between a client and a real etcd: passes requests on, and keeps silent on watches while it is
// told to, as something does that has forgotten a connection.
#pragma once

#include <atomic>
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
  size_t watches() { return server_.count("/v3/watch"); }
  const std::string& url() const { return server_.url; }

 private:
  bool serve(const FakeEtcd::Request& request, const FakeEtcd::Peer& peer) {
    const bool is_watch = request.path == "/v3/watch";
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
      begun = true;  // the first piece says that the watch is created
      if (!peer.send(std::string(buffer, static_cast<size_t>(n)))) return false;
    }
    return false;
  }

  const uint16_t port_;
  std::atomic<bool> silent_{false};
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
