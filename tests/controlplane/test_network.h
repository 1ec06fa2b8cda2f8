// SPDX-License-Identifier: Apache-2.0
// For tests that need a kernel of their own: this process moves into a new network namespace, and a
// child holds a second one at the other end of a veth pair:
//
//   this process  eth1 02:00:00:00:00:01 ------ peer0 02:00:00:00:00:02  the peer
//
// Needs root; without it create() says no, and the test is skipped.
#pragma once

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>

namespace guideway {

class TestNetwork {
 public:
  static std::unique_ptr<TestNetwork> create() {
    if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0) return nullptr;
    std::unique_ptr<TestNetwork> network(new TestNetwork);
    if (!network->start_peer()) return nullptr;
    const std::string pid = std::to_string(network->peer_);
    // Link-local addresses that are usable at once: without one the kernel asks no neighbour.
    const std::string none = "sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/addr_gen_mode'";
    const bool ok =
        network->run(none) && network->peer(none) && network->run("ip link set lo up") &&
        network->run(
            "ip link add eth1 address 02:00:00:00:00:01 type veth peer name "
            "peer0 address 02:00:00:00:00:02 netns " +
            pid) &&
        network->run("ip link set eth1 up") && network->peer("ip link set lo up") &&
        network->peer("ip link set peer0 up") && network->run(up("eth1")) &&
        network->peer(up("peer0")) && network->run("ip addr add fe80::1/64 dev eth1 nodad") &&
        network->peer("ip addr add fe80::2/64 dev peer0 nodad");
    return ok ? std::move(network) : nullptr;
  }
  ~TestNetwork() {
    if (peer_ <= 0) return;
    kill(peer_, SIGKILL);
    waitpid(peer_, nullptr, 0);
  }

  // The peer's namespace is /proc/PID/ns/net.
  pid_t peer_pid() const { return peer_; }

  // Shell commands in the one and the other namespace; false if they fail.
  bool run(const std::string& command) const { return std::system(command.c_str()) == 0; }
  bool peer(const std::string& command) const {
    return run("nsenter --net=/proc/" + std::to_string(peer_) + "/ns/net " + command);
  }
  static std::string output(const std::string& command) {
    std::string text;
    FILE* pipe = popen(command.c_str(), "r");
    for (int c = pipe ? fgetc(pipe) : EOF; c != EOF; c = fgetc(pipe)) text += static_cast<char>(c);
    if (pipe) pclose(pipe);
    return text;
  }

 private:
  TestNetwork() = default;

  // A new link drops what is sent until the kernel has seen its carrier, up to a second later.
  static std::string up(const std::string& link) {
    return "timeout 10 sh -c 'until ip link show " + link +
           " | grep -q \"state UP\"; do sleep 0.01; done'";
  }

  bool start_peer() {
    int ready[2];
    if (pipe(ready) != 0) return false;
    peer_ = fork();
    if (peer_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (unshare(CLONE_NEWNET) != 0 || write(ready[1], "x", 1) != 1) _exit(1);
      while (true) pause();
    }
    close(ready[1]);
    char c;
    const bool ok = read(ready[0], &c, 1) == 1;
    close(ready[0]);
    return ok;
  }

  pid_t peer_ = -1;
};

}  // namespace guideway
