// SPDX-License-Identifier: Apache-2.0
// A server on loopback that answers requests as a test says: well, badly, or not at all.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "controlplane/unique_fd.h"

namespace guideway {

class FakeEtcd {
 public:
  struct Request {
    std::string path, head, body;
  };
  // One connection's side of the server.
  class Peer {
   public:
    Peer(FakeEtcd& server, int fd) : server_(server), fd_(fd) {}
    bool send(const std::string& text) const {
      for (size_t at = 0; at < text.size();) {
        const ssize_t n = ::send(fd_, text.data() + at, text.size() - at, MSG_NOSIGNAL);
        if (n <= 0) return false;
        at += static_cast<size_t>(n);
      }
      return true;
    }
    bool answer(const std::string& body, const std::string& status = "200 OK") const {
      return send("HTTP/1.1 " + status + "\r\nContent-Length: " + std::to_string(body.size()) +
                  "\r\n\r\n" + body);
    }
    // A body without a length, for a stream.
    bool begin() const { return send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"); }
    // Says nothing until the other side has gone, or the server ends.
    void wait_for_end() const {
      pollfd fd{fd_, POLLIN, 0};
      while (!server_.stopping_ && poll(&fd, 1, 10) == 0) continue;
    }

    // And asks for nothing more.
    bool has_gone() const {
      pollfd fd{fd_, POLLIN, 0};
      return poll(&fd, 1, 0) != 0;
    }

   private:
    FakeEtcd& server_;
    int fd_;
  };
  // False: the connection is closed. Called in threads of the server, one per connection.
  using Serve = std::function<bool(const Request&, const Peer&)>;

  explicit FakeEtcd(Serve serve) : serve_(std::move(serve)) {
    listener_.reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(listener_.get(), generic, size) == 0 && listen(listener_.get(), 64) == 0 &&
        getsockname(listener_.get(), generic, &size) == 0)
      url = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    thread_ = std::thread([this] { run(); });
  }
  ~FakeEtcd() {
    stopping_ = true;
    thread_.join();
    for (std::thread& one : connections_) one.join();
  }

  // How many requests have had this path.
  size_t count(const std::string& path) {
    const std::lock_guard lock(mutex_);
    size_t out = 0;
    for (const Request& request : requests_) out += request.path == path;
    return out;
  }
  std::vector<Request> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  template <typename Condition>
  bool wait(Condition condition) {
    std::unique_lock lock(mutex_);
    return came_.wait_for(lock, std::chrono::seconds(30), [&] { return condition(requests_); });
  }

  std::string url;

 private:
  void run() {
    while (!stopping_) {
      pollfd poll_fd{listener_.get(), POLLIN, 0};
      if (poll(&poll_fd, 1, 10) <= 0) continue;
      const int fd = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd >= 0) connections_.emplace_back([this, fd] { serve_connection(UniqueFd(fd)); });
    }
  }
  void serve_connection(UniqueFd fd) {
    Request request;
    std::string rest;
    while (read(fd.get(), rest, request)) {
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(request);
        came_.notify_all();
      }
      if (!serve_(request, Peer(*this, fd.get()))) return;
    }
  }
  bool read(int fd, std::string& rest, Request& request) {
    size_t head = 0, length = 0;
    while (true) {
      head = rest.find("\r\n\r\n");
      if (head != rest.npos) {
        const size_t at = rest.find("Content-Length: ");
        length = at < head ? std::stoul(rest.substr(at + 16)) : 0;
        if (rest.size() >= head + 4 + length) break;
      }
      pollfd poll_fd{fd, POLLIN, 0};
      while (!stopping_ && poll(&poll_fd, 1, 10) == 0) continue;
      char buffer[65536];
      const ssize_t n = stopping_ ? 0 : recv(fd, buffer, sizeof buffer, 0);
      if (n <= 0) return false;
      rest.append(buffer, static_cast<size_t>(n));
    }
    const size_t space = rest.find(' ');
    request.path = rest.substr(space + 1, rest.find(' ', space + 1) - space - 1);
    request.head = rest.substr(0, head);
    request.body = rest.substr(head + 4, length);
    rest.erase(0, head + 4 + length);
    return true;
  }

  Serve serve_;
  UniqueFd listener_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;  // guards requests_
  std::condition_variable came_;
  std::vector<Request> requests_;
  std::list<std::thread> connections_;  // the listening thread's, and then the destructor's
  std::thread thread_;
};

}  // namespace guideway
