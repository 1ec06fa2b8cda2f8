// SPDX-License-Identifier: Apache-2.0
// `redirect` loaded and filled, without an interface, for tests that hand it one frame after the
// other. Each test has a network namespace of its own, whose sockets the program finds.
#pragma once

#include "bpf/layout.h"
#include "tests/bpf/gue_packet.h"
#include "tests/bpf/private_network.h"
#include "tests/bpf/program_run.h"

namespace guideway {

// Outer times inner family.
struct GueCrossing {
  const char* name;
  bool outer_v4;
  bool inner_v4;
};
inline constexpr GueCrossing kGueCrossings[] = {
    {"4in4", true, true}, {"6in4", true, false}, {"4in6", false, true}, {"6in6", false, false}};

class RedirectRun : public PrivateNetwork, public testing::WithParamInterface<GueCrossing> {
 protected:
  using Bytes = packet::Bytes;

  void SetUp() override {
    PrivateNetwork::SetUp();
    if (IsSkipped()) return;
    program_.emplace(kRedirectObject, GW_REDIRECT_PROGRAM);
    std::vector<Prefix> allowed = {Prefix::parse("10.0.0.0/24").value(),
                                   Prefix::parse("fd00::/64").value()};
    std::vector<Address> local = {host(21), host(21, !outer_v4()), host(29)};
    ASSERT_TRUE(set_prefixes(program_->map("allowed"), allowed));
    ASSERT_TRUE(set_addresses(program_->map("local"), local));
    uint32_t only = 0;
    ASSERT_EQ(bpf_map_update_elem(program_->map("secret"), &only, &kSecret, BPF_ANY), 0);
  }

  static bool outer_v4() { return GetParam().outer_v4; }
  static bool inner_v4() { return GetParam().inner_v4; }

  // Of the outer family: 11 is a node, 21 and 29 are this host's.
  static Address host(int number, bool v4) {
    return packet::address((v4 ? "10.0.0." : "fd00::") + std::to_string(number));
  }
  static Address host(int number) { return host(number, outer_v4()); }
  static Address client() { return packet::address(inner_v4() ? "198.51.100.7" : "2001:db8:c::7"); }
  static Address vip() { return packet::address(inner_v4() ? "203.0.113.10" : "2001:db8::10"); }

  static packet::Gue to_us(std::vector<Address> hops = {}, unsigned next = 0) {
    return {.outer = {.source = host(11), .destination = host(21)},
            .hops = std::move(hops),
            .next = next};
  }
  static std::vector<Address> four_hops() { return {host(22), host(23), host(24), host(25)}; }

  Bytes tcp(uint8_t flags = packet::kAck, packet::Header header = {}) const {
    return packet::tcp_packet(client(), vip(), {.ports = ports_, .flags = flags}, payload_, header);
  }
  Bytes udp() const { return packet::udp_packet(client(), vip(), ports_, payload_); }

  // The action, exactly one count, and the exact bytes that are left.
  void expect(const Bytes& in, unsigned action, gw_redirect_counter counter, const Bytes& out) {
    std::vector<uint64_t> before = counters();
    Outcome run = program_->run(in);
    EXPECT_EQ(run.action, action);
    EXPECT_EQ(run.frame, out);
    std::vector<uint64_t> after = counters();
    for (size_t i = 0; i < after.size(); ++i)
      EXPECT_EQ(after[i] - before[i], i == counter ? 1u : 0u) << "counter " << i;
  }
  void expect_local(const packet::Gue& gue, const Bytes& inner, gw_redirect_counter counter) {
    expect(gue_frame(gue, inner), XDP_PASS, counter,
           packet::ethernet(inner[0] >> 4 == 4 ? ETHERTYPE_IP : ETHERTYPE_IPV6, inner));
  }
  // Sent on: as a builder would make the packet for hop `to` (from 0), not as it was patched.
  void expect_forwarded(const packet::Gue& gue, const Bytes& inner, unsigned to) {
    packet::Gue onward = gue;
    onward.outer.source = gue.outer.destination;
    onward.outer.destination = gue.hops[to];
    --onward.outer.ttl;
    onward.next = to + 1;
    Bytes frame = gue_frame(onward, inner);
    std::copy(kSecret.mac, kSecret.mac + 6, frame.begin() + 6);
    expect(gue_frame(gue, inner), XDP_PASS,
           static_cast<gw_redirect_counter>(GW_REDIRECT_forwarded_1 + to), frame);
  }
  void expect_dropped(const Bytes& in, gw_redirect_counter counter) {
    expect(in, XDP_DROP, counter, in);
  }
  void expect_untouched(const Bytes& in, gw_redirect_counter counter) {
    expect(in, XDP_PASS, counter, in);
  }
  std::vector<uint64_t> counters() const {
    return program_->counters("redir_counters", GW_REDIRECT_COUNTERS_END);
  }

  static constexpr gw_secret kSecret = {.mac = {0x43, 1, 2, 3, 4, 5}, .zero = {}};
  std::optional<LoadedProgram> program_;
  packet::Ports ports_{};
  Bytes payload_ = {'G', 'E', 'T', ' ', '/', 0, 1, 2, 3, 4, 5, 6, 7};  // odd
};

}  // namespace guideway
