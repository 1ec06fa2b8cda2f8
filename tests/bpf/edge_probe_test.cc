// SPDX-License-Identifier: Apache-2.0
// What `edge` takes for the reply to a probe, and what it leaves to the kernel.
#include "tests/bpf/edge_probe.h"

namespace guideway {
namespace {

INSTANTIATE_TEST_SUITE_P(Families, EdgeProbeTest, testing::ValuesIn(kProbeFamilies),
                         [](const auto& info) { return info.param.name; });

TEST_P(EdgeProbeTest, TakesEachKindOfReply) {
  for (const Reply& reply : replies_to()) {
    SCOPED_TRACE(reply.name);
    expect_taken_once(reply.frame, reply.kind);
  }
}

// A probe through a tunnel goes to the VIP, so the reply comes from it.
TEST_P(EdgeProbeTest, TakesRepliesFromAVip) {
  auto to_vip = [](SentProbe& probe) { probe.peer = address(GetParam().vip); };
  for (const Reply& reply : replies_to(to_vip)) {
    SCOPED_TRACE(reply.name);
    expect_taken_once(reply.frame, reply.kind);
  }
}

TEST_P(EdgeProbeTest, TakesNoVipPacketForAReply) {
  auto from_vip = [](SentProbe& probe) { probe.node = address(GetParam().vip); };
  for (const Reply& reply : replies_to(from_vip)) {
    SCOPED_TRACE(reply.name);
    gw_score before = score(kTarget);
    expect_action(reply.frame, XDP_DROP, GW_EDGE_no_dataplane);
    EXPECT_EQ(text_of(score(kTarget)), text_of(before));
  }
}

TEST_P(EdgeProbeTest, LeavesAllAloneWithoutASecret) {
  set_secret({});
  for (const Reply& reply : replies_to()) expect_left(reply.frame);
  // Not even one that knows that the secret is zero.
  for (const Reply& reply : replies_to([](SentProbe& probe) { probe.secret = {}; }))
    expect_left(reply.frame);
  for (size_t half : {0, 1}) {
    gw_probe_secret secret{};
    secret.key[half] = 1;
    set_secret(secret);
    for (const Reply& reply : replies_to([&](SentProbe& probe) { probe.secret = secret; }))
      expect_taken_once(reply.frame, reply.kind);
  }
}

TEST_P(EdgeProbeTest, LeavesWhatIsNotProved) {
  const std::pair<const char*, std::function<void(SentProbe&)>> changes[] = {
      {"secret", [](SentProbe& probe) { probe.secret.key[1] ^= 1; }},
      {"target", [](SentProbe& probe) { probe.name.target ^= 1; }},
      {"attempt before the awaited", [](SentProbe& probe) { probe.name.attempt = kAttempt - 4; }},
      {"attempt after the awaited", [](SentProbe& probe) { probe.name.attempt = kAttempt + 1; }},
  };
  for (const auto& [name, change] : changes)
    for (const Reply& reply : replies_to(change)) {
      SCOPED_TRACE(std::string(name) + ", " + reply.name);
      expect_left(reply.frame);
    }
}

// Sent to `peer`; answered, with the same proof, by somebody else, or from another port.
TEST_P(EdgeProbeTest, LeavesTheRightWordsOfTheWrongOne) {
  for (uint32_t protocol : {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP}) {
    SCOPED_TRACE(protocol);
    SentProbe sent = probe(protocol);
    size_t source_at = v4() ? 14 + 12 : 14 + 8;
    Bytes whole = protocol == IPPROTO_TCP   ? sent.tcp_reply(kSyn | kAck)
                  : protocol == IPPROTO_UDP ? sent.udp_reply(sent.text())
                                            : sent.echo_reply();
    for (size_t bit = 0; bit < (v4() ? 32 : 128); ++bit) {
      Bytes other = whole;
      other[source_at + bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
      expect_left(other);
    }
    if (protocol == IPPROTO_ICMP) continue;
    for (size_t bit = 0; bit < 32; ++bit) {
      Bytes other = whole;
      other[14 + ip_bytes() + bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
      expect_left(other);
    }
  }
}

// Each bit of each byte: those that mean something, and no others, decide.
TEST_P(EdgeProbeTest, OneBitOff) {
  for (const Reply& reply : replies_to()) {
    const Bytes meaning = meaning_of(reply);
    for (size_t bit = 0; bit < reply.frame.size() * 8; ++bit) {
      const size_t byte = bit / 8, length_at = v4() ? 16 : 18;
      if (byte == length_at || byte == length_at + 1) continue;  // see ShortAtEveryByte
      SCOPED_TRACE(reply.name + " byte " + std::to_string(byte) + " bit " +
                   std::to_string(bit % 8));
      Bytes other = reply.frame;
      other[byte] ^= static_cast<uint8_t>(1u << bit % 8);
      if (meaning[byte] >> bit % 8 & 1) {
        expect_left(other);
      } else {
        expect_taken_once(other, reply.kind);
      }
    }
  }
}

TEST_P(EdgeProbeTest, TruncatedAtEveryByte) {
  for (const Reply& reply : replies_to()) {
    for (size_t size = 14; size < reply.frame.size(); ++size) {
      SCOPED_TRACE(reply.name + " " + std::to_string(size));
      expect_left(Bytes(reply.frame.begin(), reply.frame.begin() + static_cast<ptrdiff_t>(size)));
    }
    expect_taken_once(reply.frame, reply.kind);
    expect_taken_once(reply.frame + Bytes(30), reply.kind);  // Ethernet padding
  }
}

// The same, but the IP header agrees: what decides is whether all that proves it is there.
TEST_P(EdgeProbeTest, ShortAtEveryByte) {
  for (const Reply& reply : replies_to()) {
    const size_t needed = reply.frame.size() - reply.spare;
    for (size_t size = 14 + ip_bytes(); size < reply.frame.size(); ++size) {
      SCOPED_TRACE(reply.name + " " + std::to_string(size));
      Bytes cut(reply.frame.begin(), reply.frame.begin() + static_cast<ptrdiff_t>(size));
      put16(cut, v4() ? 16 : 18, static_cast<uint16_t>(size - 14 - (v4() ? 0 : 40)));
      if (size < needed) {
        expect_left(cut);
      } else {
        expect_taken_once(cut, reply.kind);
      }
    }
  }
}

TEST_P(EdgeProbeTest, OnlyTheRightTcpFlags) {
  SentProbe sent = probe(IPPROTO_TCP);
  for (unsigned flags = 0; flags < 256; ++flags) {
    SCOPED_TRACE(flags);
    Bytes frame = sent.tcp_reply(static_cast<uint8_t>(flags));
    unsigned heard = flags & 0x17;
    if (heard == (kSyn | kAck)) {
      expect_taken_once(frame, GW_REPLY_alive);
    } else if (heard == (kRst | kAck)) {
      expect_taken_once(frame, GW_REPLY_refused);
    } else {
      expect_left(frame);
    }
  }
}

TEST_P(EdgeProbeTest, OnlyPortUnreachable) {
  SentProbe t = probe(IPPROTO_TCP), u = probe(IPPROTO_UDP);
  Bytes sent = u.packet(u.text());
  for (int type = 0; type < 256; ++type)
    for (int code = 0; code < 16; ++code) {
      if (type == (v4() ? 3 : 1) && code == (v4() ? 3 : 4)) continue;
      SCOPED_TRACE(std::to_string(type) + "/" + std::to_string(code));
      expect_left(t.unreachable(t.peer, t.packet(), SIZE_MAX, type, code));
      expect_left(u.unreachable(t.peer, sent, SIZE_MAX, type, code));
    }
  // Too little of the UDP probe is sent back.
  expect_left(u.unreachable(u.peer, sent, ip_bytes() + 8));
  // What an echo request of ours met is no refusal.
  SentProbe i = probe(IPPROTO_ICMP);
  expect_left(i.unreachable(i.peer, i.packet()));
}

TEST_P(EdgeProbeTest, HeadersOfOtherShapes) {
  SentProbe sent = probe(IPPROTO_TCP);
  Bytes reply = tcp(sent.port, sent.own_port(), 0, sent.sequence() + 1, kSyn | kAck);
  Header header = sent.header(IPPROTO_TCP);
  if (v4()) {
    for (unsigned words = 1; words <= 10; ++words) {
      header.option_words = words;
      expect_taken_once(sent.in_frame(header, reply), GW_REPLY_alive);
    }
    header.option_words = 0;
    for (uint16_t fragment : {0x2000, 0x0001, 0x2001, 0x1fff}) {
      header.fragment = fragment;
      expect_left(sent.in_frame(header, reply));
    }
    header.fragment = 0x4000;  // DF
    expect_taken_once(sent.in_frame(header, reply), GW_REPLY_alive);
    for (int words = 0; words < 5; ++words) {
      header.header_words = words;
      expect_left(sent.in_frame(header, reply));
    }
    Bytes bounced = sent.packet();
    put16(bounced, 6, 0x2000);
    expect_left(sent.unreachable(sent.peer, bounced));
    return;
  }
  Bytes options = {IPPROTO_TCP, 0, 1, 4, 0, 0, 0, 0};
  header.protocol = IPPROTO_DSTOPTS;
  expect_left(sent.in_frame(header, options + reply));
  // ::ffff:a.b.c.d is nobody's address on the wire.
  SentProbe mapped = sent;
  mapped.peer = address("10.0.0.21");
  header = mapped.header(IPPROTO_TCP);
  Bytes frame =
      ethernet(ETHERTYPE_IPV6,
               ipv6(header, tcp(443, mapped.own_port(), 0, mapped.sequence() + 1, kSyn | kAck)));
  expect_left(frame);
}

// ---------------------------------------------------------------- the ring

TEST_P(EdgeProbeTest, ADuplicateKeepsTheFirstStamp) {
  for (const Reply& first : replies_to()) {
    gw_score clean{};
    clean.awaited = gw_awaited(kAttempt, 4);
    EXPECT_EQ(bpf_map_update_elem(program_.map("scoreboard"), &kTarget, &clean, 0), 0);
    expect_taken(first.frame, first.kind);
    for (const Reply& again : replies_to()) expect_dropped_unwritten(again.frame);
  }
}

TEST_P(EdgeProbeTest, TheLatestAttemptsStandSideBySide) {
  const uint32_t first = GW_PROBE_ATTEMPTS - 20;  // and over the end
  for (uint32_t i = 0; i < 40; ++i) {
    SCOPED_TRACE(i);
    uint32_t attempt = (first + i) % GW_PROBE_ATTEMPTS;
    await(kTarget, attempt, 4);
    expect_taken(probe(IPPROTO_TCP, attempt).tcp_reply(kSyn | kAck), GW_REPLY_alive, attempt);
    for (uint32_t back = 0; back < std::min(i + 1, uint32_t{GW_SCORE_REPLIES}); ++back) {
      uint32_t old = (attempt - back) % GW_PROBE_ATTEMPTS;
      EXPECT_EQ(gw_reply_attempt(score(kTarget).reply[old % GW_SCORE_REPLIES]), old);
    }
  }
}

TEST_P(EdgeProbeTest, TakesALateReplyButNotOverANewerOne) {
  auto syn_ack = [&](uint32_t attempt) {
    return probe(IPPROTO_TCP, attempt).tcp_reply(kSyn | kAck);
  };
  await(kTarget, 1000, 100);
  expect_taken(syn_ack(1000), GW_REPLY_alive, 1000);
  expect_dropped_unwritten(syn_ack(1000 - GW_SCORE_REPLIES));
  expect_taken(syn_ack(997), GW_REPLY_alive, 997);
  expect_taken(syn_ack(998 - GW_SCORE_REPLIES), GW_REPLY_alive, 998 - GW_SCORE_REPLIES);
  expect_taken(syn_ack(998), GW_REPLY_alive, 998);
  expect_taken(syn_ack(903), GW_REPLY_alive, 903);
  expect_left(syn_ack(900));
  // What stands there from another time is in nobody's way.
  await(kTarget, 50000, 100);
  expect_taken(syn_ack(50000 - GW_SCORE_REPLIES), GW_REPLY_alive, 50000 - GW_SCORE_REPLIES);
  await(kTarget, 7, 100);  // "ahead" of 1000, by the clock face
  expect_taken(syn_ack(0), GW_REPLY_alive, 0);
}

TEST_P(EdgeProbeTest, TheFirstAndTheLastTarget) {
  for (uint32_t target : {0u, GW_PROBE_TARGETS_MAX - 1}) {
    await(target, 5, 1);
    for (uint32_t protocol : {IPPROTO_TCP, IPPROTO_ICMP, IPPROTO_UDP}) {
      SentProbe sent = probe(protocol, 5);
      sent.name.target = target;
      Bytes reply = protocol == IPPROTO_TCP    ? sent.tcp_reply(kSyn | kAck)
                    : protocol == IPPROTO_ICMP ? sent.echo_reply()
                                               : sent.udp_reply(sent.text());
      expect_action(reply, XDP_DROP, GW_EDGE_probe_reply);
      EXPECT_EQ(gw_reply_attempt(score(target).reply[5]), 5u);
    }
  }
  // A mark can name more than there are.
  SentProbe beyond = probe(IPPROTO_ICMP, 5);
  beyond.name.target = GW_PROBE_TARGETS_MAX;
  expect_left(beyond.echo_reply());
  beyond = probe(IPPROTO_UDP, GW_PROBE_ATTEMPTS + kAttempt);
  expect_left(beyond.udp_reply(beyond.text()));
}

}  // namespace
}  // namespace guideway
