// SPDX-License-Identifier: Apache-2.0
// Who knows the rules but not the secret; and what looking at packets costs.
#include <iostream>
#include <random>

#include "tests/bpf/edge_probe.h"

namespace guideway {
namespace {

class EdgeStrangerTest : public EdgeProbeTest {};

INSTANTIATE_TEST_SUITE_P(Families, EdgeStrangerTest, testing::ValuesIn(kProbeFamilies),
                         [](const auto& info) { return info.param.name; });

// 10^5 SYN-ACKs, and as many others, to a node where a hundred targets await four attempts each.
// One SYN-ACK in 32768 has the port that goes with what its number says; without the list of what
// is awaited, some of these would be taken.
TEST_P(EdgeStrangerTest, AStrangerChangesNothing) {
  for (uint32_t target = 0; target < 100; ++target) await(target, kAttempt, 4);
  std::mt19937 random(7);
  auto number = [&] { return static_cast<uint32_t>(random()); };
  SentProbe guess = probe(IPPROTO_UDP);
  const Bytes syn_ack = probe(IPPROTO_TCP).tcp_reply(kSyn | kAck), echo = guess.echo_reply(),
              text = guess.udp_reply(guess.text());
  const size_t at = 14 + ip_bytes();
  for (int i = 0; i < 200000; ++i) {
    const int kind = i % 4;  // 0 and 1: SYN-ACK
    Bytes frame = kind < 2 ? syn_ack : kind == 2 ? echo : text;
    put16(frame, at + 2, static_cast<uint16_t>(0x8000 | number()));
    if (kind < 2) {
      put32(frame, at + 8, number());
    } else if (kind == 2) {
      // All right but the proof.
      put32(frame, at + 8, number() % 100);
      put32(frame, at + 12, kAttempt);
      put32(frame, at + 16, number());
      put32(frame, at + 20, number());
    } else {
      for (size_t letter = 16; letter < 32; ++letter)
        frame[at + 8 + letter] = static_cast<uint8_t>('a' + number() % 16);
    }
    ASSERT_EQ(program_.run(frame).action, static_cast<unsigned>(XDP_PASS)) << i;
  }
  std::vector<uint64_t> counters = program_.counters("edge_counters", GW_EDGE_COUNTERS_END);
  EXPECT_EQ(counters[GW_EDGE_kernel], 200000u);
  EXPECT_EQ(counters[GW_EDGE_probe_reply], 0u);
  const gw_score none{};
  for (uint32_t target = 0; target < GW_PROBE_TARGETS_MAX; ++target) {
    gw_score one = score(target);
    ASSERT_EQ(std::memcmp(one.reply, none.reply, sizeof one.reply), 0) << target;
  }
}

// No check, only figures: what a packet costs.
TEST_P(EdgeStrangerTest, NanosecondsPerPacket) {
  SentProbe t = probe(IPPROTO_TCP);
  Bytes forged = t.tcp_reply(kSyn | kAck);
  forged[14 + ip_bytes() + 8] ^= 1;
  SentProbe unproved = probe(IPPROTO_ICMP);
  Bytes echo = unproved.echo_reply();
  echo.back() ^= 1;
  const std::pair<const char*, Bytes> frames[] = {
      {"a segment of the kernel's", t.tcp_reply(kAck)},
      {"ARP", ethernet(ETHERTYPE_ARP, Bytes(46))},
      {"genuine SYN-ACK (a duplicate)", t.tcp_reply(kSyn | kAck)},
      {"genuine echo reply (a duplicate)", probe(IPPROTO_ICMP).echo_reply()},
      {"genuine echoed UDP (a duplicate)", probe(IPPROTO_UDP).udp_reply(probe(IPPROTO_UDP).text())},
      {"forged SYN-ACK", forged},
      {"echo reply without proof", echo},
  };
  for (const auto& [name, frame] : frames) {
    uint32_t best = UINT32_MAX;
    for (int i = 0; i < 5; ++i) best = std::min(best, program_nanoseconds(program_.fd(), frame));
    std::cout << GetParam().name << " " << name << ": " << best << " ns\n";
  }
}

}  // namespace
}  // namespace guideway
