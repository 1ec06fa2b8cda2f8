// SPDX-License-Identifier: Apache-2.0
// A backend for tests of probes: a process in a network namespace of its own, at the end of a veth
// whose end `gw1` it takes (02:00:00:00:00:21, 10.0.0.21/24, fd00::21/64). TCP 80 listens and is
// never accepted from; UDP 7 echoes; all else is closed. Gone with the object.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>

#include "tests/bpf/private_network.h"

namespace guideway {

class RealBackend {
 public:
  RealBackend() {
    int up[2], go[2];
    EXPECT_EQ(pipe2(up, O_CLOEXEC) | pipe2(go, O_CLOEXEC), 0);
    child_ = fork();
    if (child_ == 0) serve(up[1], go[0]);
    char byte;
    close(up[1]);
    close(go[0]);
    EXPECT_EQ(read(up[0], &byte, 1), 1);
    shell("ip link set gw1 netns " + std::to_string(child_));
    EXPECT_EQ(write(go[1], "g", 1), 1);
    EXPECT_EQ(read(up[0], &byte, 1), 1) << "the backend did not come up";
    close(up[0]);
    close(go[1]);
  }
  RealBackend(const RealBackend&) = delete;
  RealBackend& operator=(const RealBackend&) = delete;
  ~RealBackend() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }

 private:
  static int bound(int type, uint16_t port) {
    int fd = socket(AF_INET6, type, 0);
    sockaddr_in6 any{};
    any.sin6_family = AF_INET6;
    any.sin6_port = htons(port);
    if (bind(fd, reinterpret_cast<sockaddr*>(&any), sizeof any) != 0) _exit(2);
    return fd;
  }
  [[noreturn]] static void serve(int up, int go) {
    char byte = 'u';
    if (unshare(CLONE_NEWNET) != 0 || write(up, &byte, 1) != 1 || read(go, &byte, 1) != 1) _exit(1);
    if (std::system("ip link set lo up && ip link set gw1 address 02:00:00:00:00:21 up &&"
                    "ip addr add 10.0.0.21/24 dev gw1 && ip addr add fd00::21/64 dev gw1 nodad &&"
                    "sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0"))
      _exit(3);
    if (listen(bound(SOCK_STREAM, 80), 5) != 0) _exit(4);
    int echo = bound(SOCK_DGRAM, 7);
    if (write(up, &byte, 1) != 1) _exit(5);
    for (;;) {
      char data[512];
      sockaddr_in6 from;
      socklen_t size = sizeof from;
      ssize_t got = recvfrom(echo, data, sizeof data, 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (got > 0)
        (void)!sendto(echo, data, static_cast<size_t>(got), 0, reinterpret_cast<sockaddr*>(&from),
                      size);
    }
  }

  pid_t child_;
};

}  // namespace guideway
