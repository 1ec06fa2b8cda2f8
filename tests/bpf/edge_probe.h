// SPDX-License-Identifier: Apache-2.0
// `edge` with a secret, one target with four awaited attempts, and every kind of reply to it.
#pragma once

#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <algorithm>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "tests/bpf/probe_packet.h"
#include "tests/bpf/program_run.h"

namespace guideway {

using namespace packet;  // NOLINT(google-build-using-namespace)

struct ProbeFamily {
  const char* name;
  const char* node;
  const char* peer;
  const char* router;
  const char* vip;
};

class EdgeProbeTest : public testing::TestWithParam<ProbeFamily> {
 protected:
  EdgeProbeTest() {
    std::vector<Address> vips = {address("203.0.113.10"), address("2001:db8::10")};
    EXPECT_TRUE(set_addresses(program_.map("vips"), vips));
    set_secret(secret_);
    await(kTarget, kAttempt, 4);
  }

  void set_secret(const gw_probe_secret& secret) {
    uint32_t only = 0;
    EXPECT_EQ(bpf_map_update_elem(program_.map("probe_secret"), &only, &secret, 0), 0);
  }
  gw_score score(uint32_t target) const {
    gw_score score;
    EXPECT_EQ(bpf_map_lookup_elem(program_.map("scoreboard"), &target, &score), 0);
    return score;
  }
  void await(uint32_t target, uint32_t attempt, uint32_t count) {
    gw_score now = score(target);
    now.awaited = gw_awaited(attempt, count);
    EXPECT_EQ(bpf_map_update_elem(program_.map("scoreboard"), &target, &now, 0), 0);
  }
  static std::string text_of(const gw_score& score) {
    return {reinterpret_cast<const char*>(&score), sizeof score};
  }

  SentProbe probe(uint32_t protocol, uint32_t attempt = kAttempt) const {
    return {.secret = secret_,
            .node = address(GetParam().node),
            .peer = address(GetParam().peer),
            .protocol = protocol,
            .port = static_cast<uint16_t>(protocol == IPPROTO_ICMP ? 0 : 443),
            .name = {kTarget, attempt}};
  }

  static uint64_t now_ns() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
  }

  // Taken, counted, stamped; nothing else in the score changed.
  void expect_taken(const Bytes& frame, gw_reply_kind kind, uint32_t attempt = kAttempt) {
    gw_score want = score(kTarget);
    uint64_t before = now_ns() & ~63ull;
    expect_action(frame, XDP_DROP, GW_EDGE_probe_reply);
    uint64_t after = now_ns();
    gw_score got = score(kTarget);
    uint64_t word = got.reply[attempt % GW_SCORE_REPLIES];
    EXPECT_EQ(gw_reply_attempt(word), attempt);
    EXPECT_EQ(gw_reply_kind_of(word), static_cast<uint32_t>(kind));
    EXPECT_GE(gw_reply_received_ns(word, after), before);
    EXPECT_LE(gw_reply_received_ns(word, after), after);
    want.reply[attempt % GW_SCORE_REPLIES] = word;
    EXPECT_EQ(text_of(got), text_of(want));
  }
  // As above, from a clean place, which is clean again afterwards.
  void expect_taken_once(const Bytes& frame, gw_reply_kind kind) {
    expect_taken(frame, kind);
    gw_score clean = score(kTarget);
    std::memset(clean.reply, 0, sizeof clean.reply);
    EXPECT_EQ(bpf_map_update_elem(program_.map("scoreboard"), &kTarget, &clean, 0), 0);
  }
  void expect_left(const Bytes& frame) {
    gw_score before = score(kTarget);
    expect_action(frame, XDP_PASS, GW_EDGE_kernel);
    EXPECT_EQ(text_of(score(kTarget)), text_of(before));
  }
  void expect_dropped_unwritten(const Bytes& frame) {
    gw_score before = score(kTarget);
    expect_action(frame, XDP_DROP, GW_EDGE_probe_reply);
    EXPECT_EQ(text_of(score(kTarget)), text_of(before));
  }
  void expect_action(const Bytes& frame, unsigned action, gw_edge_counter counter) {
    std::vector<uint64_t> want = program_.counters("edge_counters", GW_EDGE_COUNTERS_END);
    ++want[counter];
    Outcome run = program_.run(frame);
    EXPECT_EQ(run.action, action);
    EXPECT_EQ(run.frame, frame);
    EXPECT_EQ(program_.counters("edge_counters", GW_EDGE_COUNTERS_END), want);
  }

  struct Reply {
    std::string name;
    gw_reply_kind kind;
    Bytes frame;
    size_t spare = 0;  // bytes at the end that prove nothing
  };
  // The bits that say or prove something; the length of the packet not among them.
  static Bytes meaning_of(const Reply& reply) {
    Bytes mask(reply.frame.size());
    const bool bounced = reply.name.starts_with("bounced");
    mask[12] = mask[13] = 0xff;
    mark_ip(mask, 14, bounced ? Ends::neither : Ends::source);
    size_t at = 14 + ip_bytes();
    if (bounced) {
      mask[at] = mask[at + 1] = 0xff;
      mark_ip(mask, at + 8, Ends::destination);
      at += 8 + ip_bytes();
    }
    const bool tcp = reply.name.find("tcp") != std::string::npos || reply.name == "syn-ack" ||
                     reply.name == "rst";
    if (reply.name.starts_with("icmp")) {
      mask[at] = mask[at + 1] = 0xff;
      std::fill_n(&mask[at + 8], 16, 0xff);
      return mask;
    }
    std::fill_n(&mask[at], 4, 0xff);  // ports
    if (tcp && bounced) {
      std::fill_n(&mask[at + 4], 4, 0xff);
    } else if (tcp) {
      std::fill_n(&mask[at + 8], 4, 0xff);
      mask[at + 13] = 0x17;
    } else {
      std::fill_n(&mask[at + 8 + (reply.name.find("dns") != std::string::npos ? 13 : 0)], 32, 0xff);
    }
    return mask;
  }
  enum class Ends { neither, source, destination };
  static void mark_ip(Bytes& mask, size_t at, Ends ends) {
    mask[at] = v4() ? 0xff : 0xf0;
    mask[at + (v4() ? 9 : 6)] = 0xff;
    if (v4()) {
      mask[at + 6] = 0x3f;
      mask[at + 7] = 0xff;
    }
    if (ends == Ends::neither) return;
    size_t address_at = (v4() ? 12u : 8u) + (ends == Ends::destination ? v4() ? 4 : 16 : 0);
    std::fill_n(&mask[at + address_at], v4() ? 4 : 16, 0xff);
  }

  // One of each, of a probe that may be a wrong one.
  std::vector<Reply> replies_to(const std::function<void(SentProbe&)>& change = {}) const {
    SentProbe t = probe(IPPROTO_TCP), u = probe(IPPROTO_UDP), i = probe(IPPROTO_ICMP);
    if (change)
      for (SentProbe* one : {&t, &u, &i}) change(*one);
    Address router = address(GetParam().router);
    Bytes answer = u.question(0x81, 0x85);  // REFUSED
    return {
        {"syn-ack", GW_REPLY_alive, t.tcp_reply(kSyn | kAck)},
        {"rst", GW_REPLY_refused, t.tcp_reply(kRst | kAck)},
        {"udp echo", GW_REPLY_alive, u.udp_reply(u.text())},
        {"udp echo and more", GW_REPLY_alive, u.udp_reply(u.text() + Bytes(100, 'x')), 100},
        {"dns", GW_REPLY_alive, u.udp_reply(answer), 5},
        {"icmp echo", GW_REPLY_alive, i.echo_reply()},
        {"icmp echo and more", GW_REPLY_alive, i.echo_reply(Bytes(40, 9)), 40},
        {"bounced tcp", GW_REPLY_refused, t.unreachable(t.peer, t.packet()), 12},
        {"bounced tcp, 8 bytes", GW_REPLY_refused,
         t.unreachable(router, t.packet(), ip_bytes() + 8)},
        {"bounced echo", GW_REPLY_refused, u.unreachable(u.peer, u.packet(u.text()))},
        {"bounced dns", GW_REPLY_refused,
         u.unreachable(router, u.packet(u.question(1, 0)), ip_bytes() + 8 + 13 + 32)},
    };
  }
  static bool v4() { return address(GetParam().peer).is_v4(); }
  static size_t ip_bytes() { return v4() ? 20 : 40; }

  static constexpr uint32_t kTarget = 1234, kAttempt = 100003;
  const gw_probe_secret secret_ = {{0x0123456789abcdef, 0xfedcba9876543210}};
  LoadedProgram program_{kEdgeObject, GW_EDGE_PROGRAM};
};

inline const ProbeFamily kProbeFamilies[] = {
    {"v4", "10.0.0.11", "10.0.0.21", "10.0.0.1", "203.0.113.10"},
    {"v6", "fd00::11", "fd00::21", "fd00::1", "2001:db8::10"},
};

}  // namespace guideway
