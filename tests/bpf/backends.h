// SPDX-License-Identifier: Apache-2.0
// Three backends in network namespaces of their own, on one bridge, with `redirect` on each; and a
// client with a real TCP stack, whose packets a stand-in for a node takes from a TUN device and
// wraps as it is told.
//
//   client0 (TUN) -> StandInNode --GUE--> bridge gwbr -> gw0 of a backend, VIP on its lo
//   client's stack <----------- default route ---------- the backend's stack
#pragma once

#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "bpf/redirect.h"
#include "tests/bpf/gue_packet.h"
#include "tests/bpf/private_network.h"
#include "tests/bpf/program_run.h"
#include "tests/bpf/sockets.h"

namespace guideway {

inline UniqueFd this_namespace() {
  return UniqueFd(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
}

class Namespace {
 public:
  Namespace() {
    UniqueFd here = this_namespace();
    EXPECT_EQ(unshare(CLONE_NEWNET), 0);
    fd_ = this_namespace();
    EXPECT_EQ(setns(here.get(), CLONE_NEWNET), 0);
  }
  // As `ip` takes it.
  std::string path() const {
    return "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(fd_.get());
  }
  template <typename Do>
  auto in(Do&& what) const {
    UniqueFd here = this_namespace();
    EXPECT_EQ(setns(fd_.get(), CLONE_NEWNET), 0);
    struct Return {
      const UniqueFd& to;
      ~Return() { EXPECT_EQ(setns(to.get(), CLONE_NEWNET), 0); }
    } back{here};
    return what();
  }

 private:
  UniqueFd fd_;
};

// Raw frames on an interface of the calling thread's namespace.
class RawSocket {
 public:
  explicit RawSocket(const char* interface) : fd_(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)) {
    sockaddr_ll name{};
    name.sll_family = AF_PACKET;
    name.sll_protocol = htons(ETH_P_ALL);
    name.sll_ifindex = static_cast<int>(if_nametoindex(interface));
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
    be_patient(fd_);
  }
  void send(const packet::Bytes& frame) const {
    EXPECT_EQ(::send(fd_.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
  }
  // The next incoming frame that is what is looked for; empty if there is none for 5 s.
  packet::Bytes await(const std::function<bool(const packet::Bytes&)>& wanted) const {
    for (;;) {
      packet::Bytes frame(2000);
      sockaddr_ll from{};
      socklen_t size = sizeof from;
      ssize_t got = recvfrom(fd_.get(), frame.data(), frame.size(), 0,
                             reinterpret_cast<sockaddr*>(&from), &size);
      if (got < 0) return {};
      frame.resize(static_cast<size_t>(got));
      if (from.sll_pkttype != PACKET_OUTGOING && wanted(frame)) return frame;
    }
  }

 private:
  UniqueFd fd_;
};

// Takes the client's packets and wraps each as `route` says; what it answers nothing for is lost.
class StandInNode {
 public:
  using Route = std::function<std::optional<packet::Gue>(const packet::Bytes& inner)>;

  // In the calling thread's namespace, where client0 comes to be.
  StandInNode() : tun_(open("/dev/net/tun", O_RDWR | O_CLOEXEC)), stop_(eventfd(0, EFD_CLOEXEC)) {
    ifreq request{};
    std::strcpy(request.ifr_name, "client0");
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    EXPECT_EQ(ioctl(tun_.get(), TUNSETIFF, &request), 0) << std::strerror(errno);
  }
  ~StandInNode() {
    uint64_t one = 1;
    EXPECT_EQ(write(stop_.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
    if (pump_.joinable()) pump_.join();
  }
  void start(const char* interface, std::function<void(packet::Bytes&, const Address&)> set_mac) {
    out_.emplace(interface);
    set_mac_ = std::move(set_mac);
    pump_ = std::thread([this] { pump(); });
  }
  void route(Route route) {
    std::lock_guard lock(mutex_);
    route_ = std::move(route);
  }
  void send(const packet::Gue& gue, const packet::Bytes& inner) const {
    packet::Bytes frame = gue_frame(gue, inner);
    set_mac_(frame, gue.outer.destination);
    out_->send(frame);
  }

 private:
  void pump() {
    pollfd fds[] = {{.fd = tun_.get(), .events = POLLIN, .revents = 0},
                    {.fd = stop_.get(), .events = POLLIN, .revents = 0}};
    while (poll(fds, 2, -1) > 0 && fds[1].revents == 0) {
      packet::Bytes inner(2000);
      ssize_t size = read(tun_.get(), inner.data(), inner.size());
      if (size < 20) continue;
      inner.resize(static_cast<size_t>(size));
      std::lock_guard lock(mutex_);
      std::optional<packet::Gue> gue = route_ ? route_(inner) : std::nullopt;
      if (gue) send(*gue, inner);
    }
  }

  UniqueFd tun_;
  UniqueFd stop_;
  std::optional<RawSocket> out_;
  std::function<void(packet::Bytes&, const Address&)> set_mac_;
  std::mutex mutex_;
  Route route_;
  std::thread pump_;
};

struct Backend {
  Namespace space;
  std::optional<Redirect> redirect;
  UniqueFd listener;

  // What it counted, by name; counters at 0 are left out.
  std::map<std::string, uint64_t> counted() const {
    std::map<std::string, uint64_t> all;
    RedirectCounters now = redirect->counters().value();
    for (size_t i = 0; i < now.size(); ++i)
      if (now[i] != 0) all[std::string(kRedirectCounters[i].name)] = now[i];
    return all;
  }
  uint64_t count(gw_redirect_counter counter) const {
    return redirect->counters().value()[counter];
  }
  int run(const std::string& command) const {
    return space.in([&] { return std::system(command.c_str()); });
  }
};

}  // namespace guideway
