// SPDX-License-Identifier: Apache-2.0
#include "controlplane/probe_evidence.h"

#include <gtest/gtest.h>

#include <random>
#include <utility>
#include <vector>

namespace guideway {
namespace {

constexpr uint64_t kUsNs = 1'000, kMsNs = 1'000'000, kSecondNs = 1'000'000'000;
constexpr uint64_t kAny = 1'000 * kSecondNs;

TEST(ProbeEvidence, KnowsNothingAtFirst) {
  const ProbeEvidence evidence;
  EXPECT_FALSE(evidence.holds({0, kSecondNs}, 0, kAny));
  EXPECT_EQ(evidence.newest_sent_ns(), 0u);
}

TEST(ProbeEvidence, LimitsAreInclusive) {
  ProbeEvidence evidence;
  evidence.note(kSecondNs, kSecondNs + 300);
  constexpr uint64_t kHeard = kSecondNs + 300;
  EXPECT_TRUE(evidence.holds({kSecondNs, kSecondNs}, kHeard, 300));
  EXPECT_FALSE(evidence.holds({kSecondNs + 1, kSecondNs + 9}, 0, kAny));
  EXPECT_FALSE(evidence.holds({0, kSecondNs - 1}, 0, kAny));
  EXPECT_FALSE(evidence.holds({kSecondNs, kSecondNs}, kHeard + 1, kAny));
  EXPECT_FALSE(evidence.holds({kSecondNs, kSecondNs}, 0, 299));
}

// Never more than was noted; and not less, where answers are as far apart as the memory is fine.
TEST(ProbeEvidence, AgreesWithTheOracle) {
  for (const uint64_t step : {10 * kUsNs, 250 * kUsNs, 30 * kMsNs}) {
    SCOPED_TRACE(step);
    std::mt19937_64 random(step);
    ProbeEvidence evidence;
    std::vector<std::pair<uint64_t, uint64_t>> noted;
    uint64_t now = kSecondNs;
    for (int i = 0; i < 6000; ++i) {
      now += step + random() % step;
      noted.emplace_back(now, now + (20 + random() % 60) * kUsNs);
      evidence.note(noted.back().first, noted.back().second);
    }
    int found = 0;
    for (int i = 0; i < 3000; ++i) {
      const uint64_t from = noted.front().first + random() % (now - noted.front().first);
      const uint64_t to = from + random() % (4 * step);
      const uint64_t heard = from + random() % (4 * step);
      const uint64_t within = random() % (100 * kUsNs);
      bool want = false;
      for (const auto& [sent, received] : noted)
        want |= sent >= from && sent <= to && received >= heard && received - sent <= within;
      const bool got = evidence.holds({from, to}, heard, within);
      EXPECT_TRUE(want || !got);
      EXPECT_TRUE(got || !want || step < 200 * kUsNs) << from << ' ' << to << ' ' << heard;
      found += got;
    }
    EXPECT_GT(found, step >= 200 * kUsNs ? 500 : 0);
  }
}

TEST(ProbeEvidence, RemembersDenseAnswersForAMinute) {
  ProbeEvidence evidence;
  const uint64_t end = 100 * kSecondNs;
  for (uint64_t now = kSecondNs; now < end; now += kMsNs) evidence.note(now, now + kUsNs);
  for (uint64_t ago : {kMsNs, kSecondNs, 5 * kSecondNs, 60 * kSecondNs}) {
    EXPECT_TRUE(evidence.holds({end - ago, end - ago + 20 * kMsNs}, 0, kAny)) << ago;
    EXPECT_FALSE(evidence.holds({end - ago + 1, end - ago + 2}, 0, kAny)) << ago;
  }
}

// A slow answer beside a quick one takes nothing away from it.
TEST(ProbeEvidence, ASlowAnswerHidesNoQuickOne) {
  ProbeEvidence evidence;
  evidence.note(10 * kMsNs, 10 * kMsNs + 200 * kUsNs);
  evidence.note(10 * kMsNs + 100 * kUsNs, 40 * kMsNs);
  EXPECT_TRUE(evidence.holds({10 * kMsNs, 11 * kMsNs}, 0, kMsNs));
  EXPECT_TRUE(evidence.holds({10 * kMsNs, 11 * kMsNs}, 40 * kMsNs, kAny));
}

TEST(ProbeEvidence, SurvivesDisorder) {
  ProbeEvidence evidence;
  evidence.note(10 * kMsNs, 11 * kMsNs);
  evidence.note(5 * kMsNs, 12 * kMsNs);
  EXPECT_TRUE(evidence.holds({10 * kMsNs, 10 * kMsNs}, 11 * kMsNs, kAny));
  EXPECT_EQ(evidence.newest_sent_ns(), 10 * kMsNs);
  EXPECT_EQ(evidence.newest_received_ns(), 12 * kMsNs);
}

}  // namespace
}  // namespace guideway
