// SPDX-License-Identifier: Apache-2.0
// The dataplane's end of RUN/dataplane.sock in a thread of its own: says HELLO to whoever connects,
// and answers roots as the test wishes.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "controlplane/unique_fd.h"
#include "dataplane/abi.h"

namespace guideway::test {

class FakeDataplane {
 public:
  enum class Answer { adopt, refuse, hold };

  FakeDataplane(const std::string& path, const std::string& interface, uint64_t generation = 0,
                uint64_t revision = 0, uint32_t layout = GW_LAYOUT)
      : path_(path),
        interface_(interface),
        generation_(generation),
        revision_(revision),
        layout_(layout) {
    listener_ = UniqueFd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    unlink(path.c_str());
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_.get(), 4), 0);
    EXPECT_EQ(pipe(end_), 0);
    thread_ = std::thread([this] { run(); });
  }
  ~FakeDataplane() {
    EXPECT_EQ(write(end_[1], "x", 1), 1);
    thread_.join();
    close(end_[0]);
    close(end_[1]);
    unlink(path_.c_str());
  }

  void answer(Answer answer) {
    std::lock_guard lock(mutex_);
    answer_ = answer;
  }
  // Answers the root that was held.
  void release() {
    std::lock_guard lock(mutex_);
    answer_ = Answer::adopt;
    if (held_ != 0) send_ack(std::exchange(held_, 0), GW_ADOPTED);
  }
  std::vector<uint64_t> roots() {
    std::lock_guard lock(mutex_);
    return roots_;
  }
  size_t tables() {
    std::lock_guard lock(mutex_);
    return tables_;
  }
  // False after 20 s.
  bool wait_for_roots(size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20),
                             [&] { return roots_.size() >= count; });
  }

 private:
  void run() {
    for (;;) {
      pollfd items[] = {
          {end_[0], POLLIN, 0}, {listener_.get(), POLLIN, 0}, {peer_.get(), POLLIN, 0}};
      poll(items, 3, -1);
      if (items[0].revents != 0) return;
      if (items[1].revents != 0) greet();
      if (items[2].revents != 0 && !receive()) peer_.reset();
    }
  }

  void greet() {
    std::lock_guard lock(mutex_);
    peer_ = UniqueFd(accept(listener_.get(), nullptr, nullptr));
    gw_message hello = {};
    hello.magic = GW_MAGIC_MESSAGE;
    hello.type = GW_HELLO;
    hello.layout_oldest = hello.layout_newest = layout_;
    hello.generation = generation_;
    hello.revision = revision_;
    hello.pid = 77;
    hello.workers = 1;
    hello.ports = 1;
    std::memcpy(hello.port[0].interface, interface_.c_str(), interface_.size());
    send(peer_.get(), &hello, sizeof hello, MSG_NOSIGNAL);
  }

  bool receive() {
    gw_message message = {};
    iovec io = {&message, sizeof message};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr header = {};
    header.msg_iov = &io;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    if (recvmsg(peer_.get(), &header, MSG_CMSG_CLOEXEC) != sizeof message) return false;
    if (cmsghdr* rights = CMSG_FIRSTHDR(&header)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
      close(fd);
    }
    std::lock_guard lock(mutex_);
    if (message.type == GW_TABLE) ++tables_;
    if (message.type != GW_ROOT) return true;
    roots_.push_back(message.generation);
    changed_.notify_all();
    if (answer_ == Answer::hold) {
      held_ = message.generation;
    } else {
      send_ack(message.generation, answer_ == Answer::adopt ? GW_ADOPTED : GW_REFUSED);
    }
    return true;
  }

  void send_ack(uint64_t generation, uint32_t status) {
    gw_message ack = {};
    ack.magic = GW_MAGIC_MESSAGE;
    ack.type = GW_ACK;
    ack.generation = generation;
    ack.status = status;
    if (status == GW_REFUSED) std::strcpy(ack.text, "not to my taste");
    send(peer_.get(), &ack, sizeof ack, MSG_NOSIGNAL);
  }

  const std::string path_;
  const std::string interface_;
  const uint64_t generation_;
  const uint64_t revision_;
  const uint32_t layout_;
  UniqueFd listener_;
  UniqueFd peer_;
  int end_[2] = {-1, -1};
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  Answer answer_ = Answer::adopt;
  uint64_t held_ = 0;
  std::vector<uint64_t> roots_;
  size_t tables_ = 0;
  std::thread thread_;
};

}  // namespace guideway::test
