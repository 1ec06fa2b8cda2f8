// SPDX-License-Identifier: Apache-2.0
#include "dataplane/checksum.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/packets.h"

namespace guideway {
namespace {

TEST(Checksum, EqualsTheTextbookForEveryLength) {
  std::mt19937 random(1);
  for (size_t length = 0; length < 200; ++length) {
    test::Bytes bytes(length);
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
    EXPECT_EQ(checksum_finish(checksum_add(bytes.data(), length)).host(),
              test::plain_checksum(bytes, 0, length))
        << length;
  }
}

TEST(Checksum, OfAHeaderInWordsEqualsThatInPieces) {
  std::mt19937 random(3);
  for (int round = 0; round < 20000; ++round) {
    test::Bytes bytes(20);
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random() % 3 ? random() : 0xff);
    EXPECT_EQ(checksum_v4_header(bytes.data()), checksum_add(bytes.data(), 20));
  }
}

TEST(Checksum, FoldAddsEveryCarryAndIsNothingForNothingOnly) {
  const auto naive = [](uint64_t sum) {
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<uint16_t>(sum);
  };
  std::mt19937_64 random(4);
  for (int round = 0; round < 100000; ++round) {
    uint64_t sum = random() >> (random() % 64);
    if (random() % 2) sum |= uint64_t{0xffff} << (random() % 4 * 16);
    if (random() % 2) sum = UINT64_MAX - (sum >> 40);
    EXPECT_EQ(checksum_fold(sum), naive(sum)) << sum;
  }
  for (const uint64_t sum : {uint64_t{0}, uint64_t{0xffff}, uint64_t{0x10000}, uint64_t{0xffffffff},
                             uint64_t{0x100000000}, uint64_t{0xffff0000ffff0000}, UINT64_MAX})
    EXPECT_EQ(checksum_fold(sum), naive(sum)) << sum;
}

TEST(Checksum, UpdateEqualsComputingAnew) {
  std::mt19937 random(2);
  for (int round = 0; round < 20000; ++round) {
    test::Bytes bytes(20);
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
    const be16 before_sum(static_cast<uint16_t>(test::plain_checksum(bytes, 0, 20)));
    const be16 before(static_cast<uint16_t>(test::get16(bytes, 8)));
    const be16 after(static_cast<uint16_t>(random()));
    test::put16(bytes, 8, after.host());
    EXPECT_EQ(checksum_update(before_sum, before, after).host(),
              test::plain_checksum(bytes, 0, 20));
  }
}

}  // namespace
}  // namespace guideway
