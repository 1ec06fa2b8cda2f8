// SPDX-License-Identifier: Apache-2.0
// Scoreboard on interfaces that are there, with packets that come in by them.
#include "bpf/scoreboard.h"

#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "bpf/edge.h"
#include "tests/bpf/private_network.h"
#include "tests/bpf/probe_packet.h"
#include "tests/bpf/program_run.h"
#include "tests/bpf/real_backend.h"

namespace guideway {
namespace {

using namespace packet;

const gw_probe_secret kSecret = {{0x1122334455667788, 0x99aabbccddeeff00}};

// As DPDK's driver does.
void attach_edge(const char* interface) {
  LoadedProgram edge(kEdgeObject, GW_EDGE_PROGRAM);
  ASSERT_EQ(bpf_xdp_attach(static_cast<int>(if_nametoindex(interface)), edge.fd(),
                           XDP_FLAGS_UPDATE_IF_NOEXIST, nullptr),
            0);
}

// A TAP, and our end of it: what is written comes in by the interface.
class Tap {
 public:
  explicit Tap(const char* name) : fd_(open("/dev/net/tun", O_RDWR | O_CLOEXEC)) {
    ifreq request{};
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    EXPECT_EQ(ioctl(fd_.get(), TUNSETIFF, &request), 0) << std::strerror(errno);
    shell(std::string("ip link set ") + name + " up");
  }
  void receives(const Bytes& frame) const {
    EXPECT_EQ(write(fd_.get(), frame.data(), frame.size()), static_cast<ssize_t>(frame.size()));
  }

 private:
  UniqueFd fd_;
};

class PacketSocket {
 public:
  explicit PacketSocket(const char* interface)
      : fd_(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)), to_{} {
    to_.sll_family = AF_PACKET;
    to_.sll_ifindex = static_cast<int>(if_nametoindex(interface));
  }
  void send(const Bytes& frame) const {
    EXPECT_EQ(sendto(fd_.get(), frame.data(), frame.size(), 0,
                     reinterpret_cast<const sockaddr*>(&to_), sizeof to_),
              static_cast<ssize_t>(frame.size()))
        << std::strerror(errno);
  }

 private:
  UniqueFd fd_;
  sockaddr_ll to_;
};

// Looks until there is something, or for long.
Scoreboard::Reply awaited_reply(const Scoreboard& board, const gw_probe_name& name) {
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  for (;;) {
    Scoreboard::Reply reply = board.read(name.target, name.attempt);
    if (reply.kind != GW_REPLY_none || std::chrono::steady_clock::now() > end) return reply;
    std::this_thread::yield();
  }
}

uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

SentProbe probe(uint32_t target, uint32_t attempt, uint32_t protocol = IPPROTO_TCP) {
  return {.secret = kSecret,
          .node = address("10.0.0.11"),
          .peer = address("10.0.0.21"),
          .protocol = protocol,
          .port = static_cast<uint16_t>(protocol == IPPROTO_ICMP ? 0 : 443),
          .name = {target, attempt}};
}

class ScoreboardTest : public PrivateNetwork {};

TEST_F(ScoreboardTest, OnATap) {
  Tap tap("gwtap0");
  Result<Scoreboard> board = Scoreboard::attach_tap("gwtap0", object_path(kEdgeObject), kSecret);
  ASSERT_TRUE(board) << board.error().text();
  EXPECT_TRUE(board->attached().value());
  EXPECT_EQ(Edge::find("gwtap0")->mode(), XdpMode::native);

  SentProbe sent = probe(7, 3);
  board->expect(7, 3, 1);
  EXPECT_EQ(board->read(7, 3).kind, GW_REPLY_none);
  uint64_t before = now_ns();
  tap.receives(sent.tcp_reply(kSyn | kAck));
  Scoreboard::Reply reply = awaited_reply(*board, sent.name);
  EXPECT_EQ(reply.kind, GW_REPLY_alive);
  EXPECT_GE(reply.received_ns + 64, before);
  EXPECT_LE(reply.received_ns, now_ns());
  EXPECT_EQ(Edge::find("gwtap0")->counters().value()[GW_EDGE_probe_reply], 1u);
}

TEST_F(ScoreboardTest, TakesOverFromAnEarlierControlPlane) {
  Tap tap("gwtap0");
  Result<Scoreboard> old = Scoreboard::attach_tap("gwtap0", object_path(kEdgeObject), kSecret);
  ASSERT_TRUE(old) << old.error().text();
  gw_probe_secret other = {{5, 6}};
  Result<Scoreboard> board = Scoreboard::attach_tap("gwtap0", object_path(kEdgeObject), other);
  ASSERT_TRUE(board) << board.error().text();
  EXPECT_FALSE(old->attached().value());
  EXPECT_TRUE(board->attached().value());
  EXPECT_NE(old->program_id(), board->program_id());
  EXPECT_EQ(Edge::find("gwtap0")->program_id(), board->program_id());

  // The new one's secret, and only that.
  SentProbe forgotten = probe(7, 3), sent = probe(7, 3);
  sent.secret = other;
  old->expect(7, 3, 1);
  board->expect(7, 3, 1);
  tap.receives(forgotten.tcp_reply(kSyn | kAck));
  tap.receives(sent.tcp_reply(kRst | kAck));
  EXPECT_EQ(awaited_reply(*board, sent.name).kind, GW_REPLY_refused);
  EXPECT_EQ(old->read(7, 3).kind, GW_REPLY_none);
}

TEST_F(ScoreboardTest, ReplacesAGenericOneInItsMode) {
  Tap tap("gwtap0");
  LoadedProgram edge(kEdgeObject, GW_EDGE_PROGRAM);
  ASSERT_EQ(bpf_xdp_attach(static_cast<int>(if_nametoindex("gwtap0")), edge.fd(),
                           XDP_FLAGS_SKB_MODE, nullptr),
            0);
  Result<Scoreboard> board = Scoreboard::attach_tap("gwtap0", object_path(kEdgeObject), kSecret);
  ASSERT_TRUE(board) << board.error().text();
  EXPECT_EQ(Edge::find("gwtap0")->mode(), XdpMode::generic);
  board->expect(7, 3, 1);
  tap.receives(probe(7, 3, IPPROTO_ICMP).echo_reply());
  EXPECT_EQ(awaited_reply(*board, {7, 3}).kind, GW_REPLY_alive);
}

TEST_F(ScoreboardTest, StaysAttachedAtTheEnd) {
  Tap tap("gwtap0");
  { ASSERT_TRUE(Scoreboard::attach_tap("gwtap0", object_path(kEdgeObject), kSecret)); }
  EXPECT_TRUE(Edge::find("gwtap0"));
}

TEST_F(ScoreboardTest, FindsTheDriversAndClearsIt) {
  add_veth("gw0", "gw1");
  EXPECT_EQ(Scoreboard::find("gw9", kSecret).error().text(), "gw9: no such interface (ip link)");
  EXPECT_EQ(Scoreboard::find("gw0", kSecret).error().text(),
            "gw0: the edge program is not attached");
  attach_edge("gw0");
  PacketSocket wire("gw1");
  Result<Scoreboard> old = Scoreboard::find("gw0", kSecret);
  ASSERT_TRUE(old) << old.error().text();
  old->expect(7, 3, 4);
  // Another start of the control plane; the program is the same.
  Result<Scoreboard> board = Scoreboard::find("gw0", kSecret);
  ASSERT_TRUE(board);
  EXPECT_TRUE(old->attached().value() && board->attached().value());
  wire.send(probe(7, 3).tcp_reply(kSyn | kAck));  // nobody waits for it now
  board->expect(8, 3, 1);
  wire.send(probe(8, 3).tcp_reply(kSyn | kAck));
  EXPECT_EQ(awaited_reply(*board, {8, 3}).kind, GW_REPLY_alive);
  EXPECT_EQ(board->read(7, 3).kind, GW_REPLY_none);

  shell("ip link set dev gw0 xdp off");
  EXPECT_FALSE(board->attached().value());
  EXPECT_EQ(board->read(8, 3).kind, GW_REPLY_alive) << "what is mapped stays readable";
  Scoreboard moved = std::move(*board);
  EXPECT_EQ(moved.read(8, 3).kind, GW_REPLY_alive);
  *old = std::move(moved);
  EXPECT_EQ(old->read(8, 3).kind, GW_REPLY_alive);
  shell("ip link del gw0");
  EXPECT_FALSE(old->attached().value());
}

TEST_F(ScoreboardTest, RefusesAForeignProgram) {
  Tap tap("gwtap0");
  LoadedProgram foreign(kRedirectObject, GW_REDIRECT_PROGRAM);
  ASSERT_EQ(bpf_xdp_attach(static_cast<int>(if_nametoindex("gwtap0")), foreign.fd(), 0, nullptr),
            0);
  for (const Result<Scoreboard>& board :
       {Scoreboard::find("gwtap0", kSecret),
        Scoreboard::attach_tap("gwtap0", object_path(kEdgeObject), kSecret)}) {
    ASSERT_FALSE(board);
    EXPECT_NE(board.error().text().find("runs the XDP program 'guideway_redir'"),
              std::string::npos);
  }
}

TEST_F(ScoreboardTest, RefusesAnEdgeWithoutAScoreboard) {
  add_veth("gw0", "gw1");
  const bpf_insn pass[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = XDP_PASS},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  UniqueFd older(bpf_prog_load(BPF_PROG_TYPE_XDP, GW_EDGE_PROGRAM, "GPL", pass, 2, nullptr));
  ASSERT_TRUE(older);
  ASSERT_EQ(bpf_xdp_attach(static_cast<int>(if_nametoindex("gw0")), older.get(), 0, nullptr), 0);
  Result<Scoreboard> board = Scoreboard::find("gw0", kSecret);
  ASSERT_FALSE(board);
  EXPECT_EQ(board.error().field, "gw0");
  EXPECT_NE(board.error().text().find("has no map 'scoreboard'"), std::string::npos);
}

// The numbers of attempts come round, and a target's number is given to another backend: what stood
// there before is no answer to what is asked now.
TEST_F(ScoreboardTest, WhatCameBeforeIsNoAnswer) {
  add_veth("gw0", "gw1");
  attach_edge("gw0");
  PacketSocket wire("gw1");
  Result<Scoreboard> board = Scoreboard::find("gw0", kSecret);
  ASSERT_TRUE(board);
  auto answered = [&](uint32_t attempt) {
    wire.send(probe(7, attempt).tcp_reply(kSyn | kAck));
    return awaited_reply(*board, {7, attempt}).kind == GW_REPLY_alive;
  };
  for (uint32_t attempt = 0; attempt < 20; ++attempt) {
    board->expect(7, attempt, 4);
    EXPECT_TRUE(answered(attempt));
    for (uint32_t back = 1; back < 4 && back <= attempt; ++back)
      EXPECT_EQ(board->read(7, attempt - back).kind, GW_REPLY_alive);
  }
  // Another backend, with the same numbers.
  board->forget(7);
  for (uint32_t attempt = 12; attempt < 20; ++attempt) {
    board->expect(7, attempt, 4);
    EXPECT_EQ(board->read(7, attempt).kind, GW_REPLY_none);
  }
  EXPECT_TRUE(answered(18));
  EXPECT_TRUE(answered(19));
  // Down for as long as it takes to come round.
  for (uint32_t i = 1; i <= GW_PROBE_ATTEMPTS; ++i) {
    board->expect(7, 19 + i, 4);
    ASSERT_EQ(board->read(7, 19 + i).kind, GW_REPLY_none) << i;
  }
  EXPECT_TRUE(answered(19));
}

// A writer that overwrites the places as fast as it can; what a reader believes must be one reply's
// kind and time, never the time of the one that takes its place.
TEST_F(ScoreboardTest, ReadsAreWholeWhileRepliesComeIn) {
  Tap tap("gwtap0");
  Result<Scoreboard> board = Scoreboard::attach_tap("gwtap0", object_path(kEdgeObject), kSecret);
  ASSERT_TRUE(board);
  constexpr uint32_t kAttempts = 20000;
  std::vector<std::atomic<uint64_t>> sent(kAttempts), taken(kAttempts);
  std::atomic<uint32_t> newest = 0;
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> wrong = 0, whole = 0;
  std::thread reader([&] {
    while (!stop) {
      uint32_t now = newest;
      for (uint32_t back = 0; back < 2 * GW_SCORE_REPLIES && back <= now; ++back) {
        uint32_t attempt = now - back;
        Scoreboard::Reply reply = board->read(7, attempt);
        if (reply.kind == GW_REPLY_none || taken[attempt] == 0) continue;
        gw_reply_kind kind = attempt % 3 == 0 ? GW_REPLY_refused : GW_REPLY_alive;
        bool right = reply.kind == kind && reply.received_ns + 64 >= sent[attempt] &&
                     reply.received_ns <= taken[attempt];
        ++(right ? whole : wrong);
      }
    }
  });
  for (uint32_t attempt = 0; attempt < kAttempts; ++attempt) {
    board->expect(7, attempt, 16);
    newest = attempt;
    Bytes frame = probe(7, attempt).tcp_reply((attempt % 3 == 0 ? kRst : kSyn) | kAck);
    sent[attempt] = now_ns();
    tap.receives(frame);
    if (awaited_reply(*board, {7, attempt}).kind == GW_REPLY_none) break;
    taken[attempt] = now_ns();
  }
  stop = true;
  reader.join();
  EXPECT_NE(taken[kAttempts - 1], 0u);
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(whole, 0u);
}

// A kernel answers, not this test.
TEST_F(ScoreboardTest, ARealBackendAnswers) {
  add_veth("gw0", "gw1");
  shell("ip link set gw0 address 02:00:00:00:00:11");
  shell("ip addr add 10.0.0.11/24 dev gw0 && ip addr add fd00::11/64 dev gw0 nodad");
  RealBackend backend;
  attach_edge("gw0");
  Result<Scoreboard> board = Scoreboard::find("gw0", kSecret);
  ASSERT_TRUE(board) << board.error().text();
  PacketSocket wire("gw0");

  struct {
    uint32_t protocol;
    uint16_t port;
    gw_reply_kind kind;
  } const cases[] = {{IPPROTO_TCP, 80, GW_REPLY_alive},
                     {IPPROTO_TCP, 81, GW_REPLY_refused},
                     {IPPROTO_UDP, 7, GW_REPLY_alive},
                     {IPPROTO_UDP, 9, GW_REPLY_refused},
                     {IPPROTO_ICMP, 0, GW_REPLY_alive}};
  uint32_t attempt = 0;
  for (bool v4 : {true, false}) {
    for (const auto& one : cases) {
      ++attempt;
      SCOPED_TRACE(std::to_string(one.protocol) + " " + std::to_string(one.port) +
                   (v4 ? " v4" : " v6"));
      SentProbe sent = probe(7, attempt, one.protocol);
      sent.port = one.port;
      if (!v4) sent.node = address("fd00::11"), sent.peer = address("fd00::21");
      Bytes frame = ethernet(type_of(sent.peer), with_checksums(sent.packet(sent.text())));
      const Bytes macs = {2, 0, 0, 0, 0, 0x21, 2, 0, 0, 0, 0, 0x11};
      std::copy(macs.begin(), macs.end(), frame.begin());
      board->expect(7, attempt, 4);
      uint64_t before = now_ns();
      wire.send(frame);
      Scoreboard::Reply reply = awaited_reply(*board, sent.name);
      EXPECT_EQ(reply.kind, one.kind);
      EXPECT_GE(reply.received_ns + 64, before);
    }
  }
}

}  // namespace
}  // namespace guideway
