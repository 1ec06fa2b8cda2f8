// SPDX-License-Identifier: Apache-2.0
#include "bpf/cookie.h"

#include <gtest/gtest.h>

#include <random>

#include "bpf/score.h"
#include "tests/bpf/probe_packet.h"

namespace guideway {
namespace {

// The reference implementation's vectors_sip64 for whole words: key 00 01 .. 0f, message 00 01 02
// ..; in order of their bytes there.
TEST(Cookie, SipHashAgreesWithTheReference) {
  const uint8_t want[8][8] = {
      {0x31, 0x0e, 0x0e, 0xdd, 0x47, 0xdb, 0x6f, 0x72},
      {0x62, 0x24, 0x93, 0x9a, 0x79, 0xf5, 0xf5, 0x93},
      {0xdb, 0x9b, 0xc2, 0x57, 0x7f, 0xcc, 0x2a, 0x3f},
      {0x94, 0xaf, 0x49, 0xf6, 0xc6, 0x50, 0xad, 0xb8},
      {0xce, 0x7c, 0xf2, 0x72, 0x2f, 0x51, 0x27, 0x71},
      {0xd0, 0xa7, 0x04, 0x53, 0x6b, 0xa9, 0x3e, 0x0e},
      {0x51, 0xa9, 0xcb, 0x9e, 0xcb, 0xa3, 0x12, 0xe6},
      {0xbd, 0x83, 0x8d, 0x3a, 0xaf, 0xbf, 0x8d, 0xb7},
  };
  uint8_t bytes[64];
  for (uint8_t i = 0; i < 64; ++i) bytes[i] = i;
  gw_probe_secret key;
  std::memcpy(&key, bytes, 16);
  for (uint64_t words = 0; words < 8; ++words) {
    SCOPED_TRACE(words);
    gw_siphash hash;
    gw_sip_begin(&hash, &key);
    for (uint64_t i = 0; i < words; ++i) {
      uint64_t word;
      std::memcpy(&word, bytes + 8 * i, 8);
      gw_sip_word(&hash, word);
    }
    uint64_t got = gw_sip_end(&hash, words), expected;
    std::memcpy(&expected, want[words], 8);
    EXPECT_EQ(got, expected);
  }
}

// Appendix A of the paper: 15 bytes, 00 .. 0e. The last word holds seven of them and the length.
TEST(Cookie, SipHashAgreesWithThePaper) {
  gw_probe_secret key = {{0x0706050403020100, 0x0f0e0d0c0b0a0908}};
  gw_siphash hash;
  gw_sip_begin(&hash, &key);
  gw_sip_word(&hash, 0x0706050403020100);
  gw_sip_word(&hash, 0x0f0e0d0c0b0a0908);
  hash.v2 ^= 0xff;
  for (int i = 0; i < 4; ++i) gw_sip_round(&hash);
  EXPECT_EQ(hash.v0 ^ hash.v1 ^ hash.v2 ^ hash.v3, 0xa129ca6149be45e5);
}

// A map that has an inverse on both sides is a bijection.
TEST(Cookie, SequenceNumbersAreAPermutation) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20000; ++i) {
    gw_probe_secret secret = {{random(), random()}};
    gw_probe_name name = {static_cast<uint32_t>(random() % GW_PROBE_TARGETS_MAX),
                          static_cast<uint32_t>(random() % GW_PROBE_ATTEMPTS)};
    gw_probe_name opened{};
    gw_probe_open(&secret, gw_probe_sequence(&secret, &name), &opened);
    ASSERT_EQ(opened.target, name.target);
    ASSERT_EQ(opened.attempt, name.attempt);

    auto any = static_cast<uint32_t>(random());
    gw_probe_open(&secret, any, &opened);
    ASSERT_TRUE(gw_probe_is_name(&opened));
    ASSERT_EQ(gw_probe_sequence(&secret, &opened), any);
  }
  gw_probe_secret secret = {{1, 2}};
  for (uint32_t target : {0u, GW_PROBE_TARGETS_MAX - 1})
    for (uint32_t attempt : {0u, GW_PROBE_ATTEMPTS - 1}) {
      gw_probe_name name = {target, attempt}, opened{};
      gw_probe_open(&secret, gw_probe_sequence(&secret, &name), &opened);
      EXPECT_EQ(opened.target, target);
      EXPECT_EQ(opened.attempt, attempt);
    }
}

// Neighbours in number are no neighbours on the wire: half of the 32 bits differ, give or take.
TEST(Cookie, SequenceNumbersTellNothing) {
  gw_probe_secret secret = {{3, 4}};
  int bits = 0;
  for (uint32_t attempt = 0; attempt < 1000; ++attempt) {
    gw_probe_name one = {5, attempt}, next = {5, attempt + 1};
    bits +=
        __builtin_popcount(gw_probe_sequence(&secret, &one) ^ gw_probe_sequence(&secret, &next));
  }
  EXPECT_NEAR(bits / 1000.0, 16, 0.5);
}

TEST(Cookie, TheProofCoversEveryBitOfWhoAndWhat) {
  packet::SentProbe probe{.secret = {{7, 8}},
                          .node = {},
                          .peer = packet::address("10.0.0.21"),
                          .port = 80,
                          .name = {9, 10}};
  const uint64_t proof = probe.proof();
  for (size_t bit = 0; bit < 128; ++bit) {
    packet::SentProbe other = probe;
    other.peer.bytes[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    EXPECT_NE(other.proof(), proof) << bit;
    other = probe;
    other.secret.key[bit / 64] ^= 1ull << bit % 64;
    EXPECT_NE(other.proof(), proof) << bit;
  }
  for (unsigned bit = 0; bit < 16; ++bit) {
    packet::SentProbe other = probe;
    other.port = static_cast<uint16_t>(other.port ^ 1u << bit);
    EXPECT_NE(other.proof(), proof);
    other = probe;
    other.name.target ^= 1u << bit;
    EXPECT_NE(other.proof(), proof);
    other = probe;
    other.name.attempt ^= 2u << bit;
    EXPECT_NE(other.proof(), proof);
  }
  probe.protocol = IPPROTO_UDP;
  EXPECT_NE(probe.proof(), proof);
}

TEST(Cookie, MarkAndTextAreAsDescribed) {
  packet::SentProbe probe{.secret = {{7, 8}},
                          .node = {},
                          .peer = packet::address("fd00::1"),
                          .name = {0x1234, 0x1fedc}};
  gw_probe_mark mark;
  gw_probe_write_mark(&mark, &probe.name, probe.proof());
  packet::Bytes bytes(sizeof mark);
  std::memcpy(bytes.data(), &mark, sizeof mark);
  EXPECT_EQ(bytes, probe.mark());
  packet::Bytes text(GW_PROBE_TEXT_BYTES);
  gw_probe_write_text(text.data(), &probe.name, probe.proof());
  EXPECT_EQ(text, probe.text());
  EXPECT_EQ(std::string(text.begin(), text.begin() + 16), "aaaabcdeaaabponm");

  gw_probe_name name{};
  uint64_t proof = 0;
  __u64 read;
  EXPECT_TRUE(gw_probe_read_mark(bytes.data(), &name, &read));
  proof = read;
  EXPECT_EQ(name.target, 0x1234u);
  EXPECT_EQ(name.attempt, 0x1fedcu);
  EXPECT_EQ(proof, probe.proof());
  name = {};
  EXPECT_TRUE(gw_probe_read_text(text.data(), &name, &read));
  EXPECT_EQ(name.target, 0x1234u);
  EXPECT_EQ(name.attempt, 0x1fedcu);
  EXPECT_EQ(proof, read);

  for (size_t i = 0; i < text.size(); ++i) {
    for (uint8_t letter : {0x60, 0x71, 0, 255, 0x41}) {
      packet::Bytes wrong = text;
      wrong[i] = letter;
      EXPECT_FALSE(gw_probe_read_text(wrong.data(), &name, &read)) << i << " " << letter;
    }
  }
  packet::put32(bytes, 0, GW_PROBE_TARGETS_MAX);
  EXPECT_FALSE(gw_probe_read_mark(bytes.data(), &name, &read));
  packet::put32(bytes, 0, 0);
  packet::put32(bytes, 4, GW_PROBE_ATTEMPTS);
  EXPECT_FALSE(gw_probe_read_mark(bytes.data(), &name, &read));
}

TEST(Score, AWordHoldsAttemptKindAndTime) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 10000; ++i) {
    auto attempt = static_cast<uint32_t>(random() % GW_PROBE_ATTEMPTS);
    uint32_t kind = 1 + i % 2;
    uint64_t received = random() >> 4,
             now = received + (random() >> 15) % (13ull * 86400 * 1000000000);
    uint64_t word = gw_reply_word(attempt, kind, received);
    ASSERT_NE(word, 0u);
    ASSERT_EQ(gw_reply_attempt(word), attempt);
    ASSERT_EQ(gw_reply_kind_of(word), kind);
    ASSERT_EQ(gw_reply_received_ns(word, now), received & ~63ull);
    ASSERT_EQ(gw_reply_received_ns(word, received - 1000), received & ~63ull) << "ahead of us";
  }
}

TEST(Score, AwaitedAttemptsComeRound) {
  for (uint32_t newest : {0u, 1u, 99u, GW_PROBE_ATTEMPTS - 1, GW_PROBE_ATTEMPTS + 5})
    for (uint32_t count : {1u, 2u, 100u, GW_SCORE_AWAITED_MAX}) {
      uint64_t awaited = gw_awaited(newest, count);
      for (uint32_t back : {0u, 1u, count - 1, count, count + 1}) {
        uint32_t attempt = (newest - back) % GW_PROBE_ATTEMPTS;
        EXPECT_EQ(gw_is_awaited(awaited, attempt) != 0, back < count) << newest << " " << back;
      }
      EXPECT_FALSE(gw_is_awaited(awaited, (newest + 1) % GW_PROBE_ATTEMPTS));
    }
  for (uint32_t attempt : {0u, 1u, GW_PROBE_ATTEMPTS - 1}) EXPECT_FALSE(gw_is_awaited(0, attempt));
}

}  // namespace
}  // namespace guideway
