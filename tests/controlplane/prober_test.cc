// SPDX-License-Identifier: Apache-2.0
// The prober with the kernel's own network: the node's eth1, with `edge` on it, and a peer.
#include "controlplane/prober.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>
#include <thread>

#include "bpf/attachment.h"
#include "bpf/layout.h"
#include "bpf/object.h"
#include "controlplane/unique_fd.h"
#include "tests/controlplane/loop_thread.h"
#include "tests/controlplane/probe_peers.h"
#include "tests/controlplane/test_network.h"

namespace guideway {
namespace {

uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

std::string edge_object() {
  return default_bpf_dir() + "/" + kEdgeObject;
}

constexpr uint8_t kOuter[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0, 0};

class ProberTest : public testing::Test {
 protected:
  void SetUp() override {
    network_ = TestNetwork::create();
    if (!network_) GTEST_SKIP() << "needs root";
    for (const char* command :
         {"ip addr add 10.0.0.11/24 dev eth1", "ip -6 addr add fd00::11/64 dev eth1 nodad"})
      ASSERT_TRUE(network_->run(command));
    for (const char* command :
         {"ip addr add 10.0.0.21/24 dev peer0", "ip addr add 10.0.0.22/24 dev peer0",
          "ip -6 addr add fd00::21/64 dev peer0 nodad", "ip link set lo up"})
      ASSERT_TRUE(network_->peer(command));
    loop_ = std::make_unique<LoopThread>();
    auto prober = Prober::create(loop_->loop(), edge_object(),
                                 [this](const std::vector<ProbeChange>& changes) {
                                   for (const auto& change : changes) {
                                     last_[change.id] = change.change;
                                     known_ns_[change.id] = now_ns();
                                     falls_ += change.change.seen == Seen::down;
                                   }
                                 });
    ASSERT_TRUE(prober) << prober.error().text();
    prober_ = std::move(*prober);
  }
  void TearDown() override {
    prober_.reset();
    loop_.reset();
  }

  void attach_edge() {
    auto object = BpfObject::load(edge_object());
    ASSERT_TRUE(object) << object.error().text();
    std::string why;
    ASSERT_TRUE(xdp_attach(*Interface::find("eth1"), *object->program_fd(GW_EDGE_PROGRAM), &why));
  }
  static void detach_edge() {
    const auto interface = *Interface::find("eth1");
    auto there = xdp_attachment_of(interface, GW_EDGE_PROGRAM);
    ASSERT_TRUE(there && *there);
    ASSERT_TRUE(xdp_detach(interface, **there));
  }

  static ProbeTarget target(uint32_t id, ProbeKind kind, const char* to, uint16_t port = 0) {
    ProbeTarget target;
    target.id = id;
    target.probe.kind = kind;
    target.probe.port = port;
    target.probe.interval_ms = 10;
    target.probe.timeout_ms = 100;  // other tests run on this machine at the same time
    target.interface = "eth1";
    target.outer.assign(std::begin(kOuter), std::end(kOuter));
    target.destination = ip(to);
    target.source = ip(target.destination.is_v4() ? "10.0.0.11" : "fd00::11");
    return target;
  }
  void start(std::vector<ProbeTarget> targets) {
    ProbePort port;
    port.interface = "eth1";
    (*loop_)([&] {
      prober_->set_ports({port});
      prober_->set_targets(std::move(targets));
    });
  }
  bool becomes(uint32_t id, Seen seen) {
    return loop_->eventually([&, id, seen] { return last_[id].seen == seen; });
  }
  std::string reason(uint32_t id) {
    return (*loop_)([&] { return last_[id].reason; });
  }
  ProbeSight sight(uint32_t id) {
    return (*loop_)([&] {
      for (const ProbeSight& one : prober_->sights())
        if (one.id == id) return one;
      return ProbeSight{};
    });
  }
  // So many more probes of this target are answered.
  bool answers(uint32_t id, uint64_t more) {
    const uint64_t before = sight(id).answered;
    return loop_->eventually([&, before, more] {
      for (const ProbeSight& one : prober_->sights())
        if (one.id == id) return one.answered >= before + more;
      return false;
    });
  }
  // Sockets of the peer's in that state (include/net/tcp_states.h).
  size_t peer_sockets(const std::string& state) const {
    const std::string pid = std::to_string(network_->peer_pid());
    return std::stoul(TestNetwork::output("awk '$4 == \"" + state + "\" {n++} END {print n + 0}' " +
                                          "/proc/" + pid + "/net/tcp /proc/" + pid + "/net/tcp6"));
  }

  std::unique_ptr<TestNetwork> network_;
  std::unique_ptr<LoopThread> loop_;
  std::map<uint32_t, Judge::Change> last_;  // the loop's
  std::map<uint32_t, uint64_t> known_ns_;
  unsigned falls_ = 0;
  std::unique_ptr<Prober> prober_;
};

TEST_F(ProberTest, TcpLeavesNothingBehindAndSeesAClosedPortAtOnce) {
  attach_edge();
  for (const auto& [id, address] : {std::pair{1u, "10.0.0.21"}, {2u, "fd00::21"}}) {
    SCOPED_TRACE(address);
    UniqueFd listener = peer_socket(*network_, SOCK_STREAM | SOCK_NONBLOCK, address, 80);
    start({target(id, ProbeKind::tcp, address, 80)});
    ASSERT_TRUE(becomes(id, Seen::up));
    EXPECT_EQ(reason(id), "1 probe answered");
    ASSERT_TRUE(answers(id, 100));
    EXPECT_GT(sight(id).rtt_us, 0u);
    EXPECT_EQ(accept(listener.get(), nullptr, nullptr), -1);
    EXPECT_EQ(errno, EAGAIN) << "no application ever hears of it";
    // The last one's reset may be on its way.
    start({});
    bool none = false;
    for (int i = 0; i < 200 && !none; ++i) {
      none = peer_sockets("03") + peer_sockets("0C") == 0;  // SYN_RECV, NEW_SYN_RECV
      if (!none) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_TRUE(none);
    EXPECT_EQ(peer_sockets("01"), 0u) << "nor an established one";

    start({target(id, ProbeKind::tcp, address, 80)});
    ASSERT_TRUE(answers(id, 10));
    const uint64_t closed = now_ns();
    listener.reset();
    ASSERT_TRUE(becomes(id, Seen::down));
    EXPECT_EQ(reason(id), "refused");
    const uint64_t known = (*loop_)([&] { return known_ns_[id]; });
    std::printf("refused port: %.1f ms after it was closed\n",
                static_cast<double>(known - closed) / 1e6);
    start({});
  }
}

TEST_F(ProberTest, IcmpAndAHostThatIsGone) {
  attach_edge();
  start({target(1, ProbeKind::icmp, "10.0.0.21"), target(2, ProbeKind::icmp, "fd00::21"),
         target(3, ProbeKind::icmp, "10.0.0.22")});
  for (uint32_t id : {1u, 2u, 3u}) ASSERT_TRUE(becomes(id, Seen::up));
  ASSERT_TRUE(network_->peer("ip addr del 10.0.0.22/24 dev peer0"));
  ASSERT_TRUE(becomes(3, Seen::down));
  EXPECT_EQ(reason(3), "3 probes without an answer within 100 ms");
  ASSERT_TRUE(network_->peer("ip addr add 10.0.0.22/24 dev peer0"));
  ASSERT_TRUE(becomes(3, Seen::up));
  EXPECT_EQ((*loop_)([&] { return falls_; }), 1u);
}

TEST_F(ProberTest, UdpEchoAndDns) {
  attach_edge();
  std::vector<ProbeTarget> targets;
  std::vector<std::unique_ptr<DatagramServer>> servers;
  for (const char* address : {"10.0.0.21", "fd00::21"}) {
    for (const bool dns : {false, true}) {
      const uint16_t port = dns ? 53 : 7;
      servers.push_back(
          std::make_unique<DatagramServer>(peer_socket(*network_, SOCK_DGRAM, address, port), dns));
      targets.push_back(
          target(static_cast<uint32_t>(targets.size()), ProbeKind::udp, address, port));
      targets.back().probe.query = dns ? UdpQuery::dns : UdpQuery::echo;
    }
  }
  start(targets);
  for (uint32_t id = 0; id < targets.size(); ++id) ASSERT_TRUE(becomes(id, Seen::up)) << id;
  servers.clear();
  for (uint32_t id = 0; id < targets.size(); ++id) {
    ASSERT_TRUE(becomes(id, Seen::down)) << id;
    EXPECT_EQ(reason(id), "refused");
  }
}

TEST_F(ProberTest, WithoutEdgeItIsBlindAndNobodyFalls) {
  start({target(1, ProbeKind::icmp, "10.0.0.21")});
  ASSERT_TRUE(loop_->eventually([&] { return last_[1].blind; }));
  EXPECT_EQ(reason(1), "eth1: the edge program is not attached");
  EXPECT_EQ((*loop_)([&] { return prober_->problem("eth1"); }),
            "eth1: the edge program is not attached");
  EXPECT_EQ((*loop_)([&] { return prober_->problem("eth9"); }), "");
  for (int i = 0; i < 5; ++i) {
    attach_edge();
    ASSERT_TRUE(loop_->eventually([&] { return last_[1].seen == Seen::up && !last_[1].blind; }));
    ASSERT_TRUE(answers(1, 5));
    EXPECT_EQ((*loop_)([&] { return prober_->problem("eth1"); }), "");
    detach_edge();
    ASSERT_TRUE(loop_->eventually([&] { return last_[1].blind; }));
  }
  EXPECT_EQ((*loop_)([&] { return falls_; }), 0u);
}

TEST_F(ProberTest, HttpGoesByTheKernel) {
  attach_edge();
  UniqueFd listener = peer_socket(*network_, SOCK_STREAM, "10.0.0.21", 8080);
  std::atomic<bool> stop{false};
  std::atomic<bool> well{true};
  std::thread server([&] {
    while (!stop) {
      pollfd poll_fd{listener.get(), POLLIN, 0};
      if (poll(&poll_fd, 1, 10) <= 0) continue;
      const UniqueFd fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      char bytes[2048];
      (void)!recv(fd.get(), bytes, sizeof bytes, 0);
      const std::string answer = well ? "HTTP/1.1 200 OK\r\n\r\n" : "HTTP/1.1 503 No\r\n\r\n";
      (void)!send(fd.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
    }
  });
  ProbeTarget http = target(9, ProbeKind::http, "10.0.0.21", 8080);
  http.probe.path = "/healthz";
  http.probe.timeout_ms = 1000;
  http.outer.clear();
  start({http});
  EXPECT_TRUE(becomes(9, Seen::up));
  well = false;
  EXPECT_TRUE(becomes(9, Seen::down));
  EXPECT_EQ(reason(9), "GET /healthz: status 503");
  stop = true;
  server.join();
}

TEST_F(ProberTest, AnOwnedPortIsItsTap) {
  Tap tap("tap9");
  if (!tap.ok) GTEST_SKIP() << "no TAP here";
  ASSERT_TRUE(network_->run("ip link set tap9 up"));
  ProbeTarget one = target(1, ProbeKind::icmp, "10.9.0.21");
  one.interface = "tap9";
  ProbePort port;
  port.interface = "tap9";
  port.owned = true;
  (*loop_)([&] {
    prober_->set_ports({port});
    prober_->set_targets({one});
  });
  ASSERT_TRUE(loop_->eventually([&] { return last_[1].blind; }));
  EXPECT_EQ(reason(1), "tap9: no dataplane is connected");
  for (port.connection = 1; port.connection <= 5; ++port.connection) {
    tap.answers = true;
    (*loop_)([&] { prober_->set_ports({port}); });
    ASSERT_TRUE(loop_->eventually([&] { return last_[1].seen == Seen::up && !last_[1].blind; }));
    ASSERT_TRUE(answers(1, 5));
    // It dies, which is known a little later.
    tap.answers = false;
    const uint64_t sent = sight(1).sent;
    ASSERT_TRUE(loop_->eventually([&] { return prober_->sights()[0].sent > sent + 3; }));
    ProbePort none = port;
    none.connection = 0;
    (*loop_)([&] { prober_->set_ports({none}); });
    ASSERT_TRUE(loop_->eventually([&] { return last_[1].blind; }));
  }
  EXPECT_EQ((*loop_)([&] { return falls_; }), 0u);
}

TEST_F(ProberTest, EndsInTheMiddleOfThings) {
  attach_edge();
  std::vector<ProbeTarget> targets;
  for (uint32_t id = 0; id < 200; ++id) {
    targets.push_back(target(id, ProbeKind::tcp, "10.0.0.21", static_cast<uint16_t>(1000 + id)));
    targets.back().probe.interval_ms = 1;
  }
  start(targets);
  ASSERT_TRUE(becomes(0, Seen::down));
  (*loop_)([&] { prober_.reset(); });
  const auto changes = (*loop_)([&] { return last_.size(); });
  EXPECT_GE(changes, 1u);
}

}  // namespace
}  // namespace guideway
