// SPDX-License-Identifier: Apache-2.0
// Whom the prober's tests probe: sockets in the peer's network namespace, and a TAP with a NIC made
// up.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "controlplane/unique_fd.h"
#include "dataplane/address.h"
#include "tests/controlplane/test_network.h"

namespace guideway {

inline Address ip(const char* text) {
  return *Address::parse(text);
}

// A socket of the peer's: it stays there.
inline UniqueFd peer_socket(const TestNetwork& network, int type, const char* address,
                            uint16_t port) {
  UniqueFd fd;
  std::thread([&] {
    const std::string path = "/proc/" + std::to_string(network.peer_pid()) + "/ns/net";
    const UniqueFd there(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(setns(there.get(), CLONE_NEWNET), 0);
    const bool v4 = ip(address).is_v4();
    fd.reset(socket(v4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, 0));
    const int on = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_port = htons(port);
    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(port);
    std::memcpy(&four.sin_addr, ip(address).v4(), 4);
    std::memcpy(&six.sin6_addr, ip(address).v6(), 16);
    auto* at = v4 ? reinterpret_cast<sockaddr*>(&four) : reinterpret_cast<sockaddr*>(&six);
    EXPECT_EQ(bind(fd.get(), at, v4 ? sizeof four : sizeof six), 0) << std::strerror(errno);
    EXPECT_TRUE((type & SOCK_STREAM) == 0 || listen(fd.get(), 128) == 0);
  }).join();
  return fd;
}

// Answers each datagram with what it says; of a DNS query with the response bit set.
class DatagramServer {
 public:
  DatagramServer(UniqueFd fd, bool dns) : fd_(std::move(fd)), dns_(dns) {
    thread_ = std::thread([this] { run(); });
  }
  ~DatagramServer() {
    stopping_ = true;
    thread_.join();
  }

 private:
  void run() {
    while (!stopping_) {
      pollfd poll_fd{fd_.get(), POLLIN, 0};
      if (poll(&poll_fd, 1, 10) <= 0) continue;
      uint8_t bytes[512];
      sockaddr_storage from;
      socklen_t size = sizeof from;
      const ssize_t n =
          recvfrom(fd_.get(), bytes, sizeof bytes, 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (n < 12) continue;
      if (dns_) {
        bytes[2] |= 0x80;
        bytes[3] = 3;  // NXDOMAIN
      }
      (void)!sendto(fd_.get(), bytes, static_cast<size_t>(n), 0, reinterpret_cast<sockaddr*>(&from),
                    size);
    }
  }
  UniqueFd fd_;
  bool dns_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

// The TAP of a port that DPDK owns: what is written to it is what came in by the NIC.
class Tap {
 public:
  explicit Tap(const char* name) {
    fd_.reset(open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
    ifreq request{};
    std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    ok = fd_ && ioctl(fd_.get(), TUNSETIFF, &request) == 0;
    if (ok) thread_ = std::thread([this] { run(); });
  }
  ~Tap() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
  }
  bool ok = false;
  std::atomic<bool> answers{true};

 private:
  void run() {
    while (!stopping_) {
      pollfd poll_fd{fd_.get(), POLLIN, 0};
      if (poll(&poll_fd, 1, 10) <= 0) continue;
      uint8_t frame[2048];
      const ssize_t n = read(fd_.get(), frame, sizeof frame);
      const bool echo =
          n >= 42 && frame[12] == 8 && frame[13] == 0 && frame[23] == 1 && frame[34] == 8;
      if (!echo || !answers) continue;
      frame[34] = 0;
      for (int i = 0; i < 4; ++i) std::swap(frame[26 + i], frame[30 + i]);
      (void)!write(fd_.get(), frame, static_cast<size_t>(n));
    }
  }
  UniqueFd fd_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace guideway
