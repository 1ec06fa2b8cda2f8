// SPDX-License-Identifier: Apache-2.0
#include "dataplane/flow_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <vector>

namespace guideway {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;

FlowTable table_of(size_t entries) {
  return std::move(*FlowTable::make(entries));
}

TEST(FlowTable, SizesAreRoundedUpToAPowerOfTwo) {
  EXPECT_EQ(FlowTable().size(), 0u);
  EXPECT_EQ(table_of(0).size(), 4u);
  EXPECT_EQ(table_of(1024).size(), 1024u);
  EXPECT_EQ(table_of(1025).size(), 2048u);
}

TEST(FlowTable, WithoutMemoryItLearnsNothing) {
  FlowTable table;
  table.prefault();
  table.prefetch(1);
  EXPECT_FALSE(table.learn(1, 2, FlowSign::syn, 0));
  EXPECT_EQ(table.find(1, 0), nullptr);
  table.sweep(kSecondNs);
  EXPECT_EQ(table.refused(), 1u);
  EXPECT_TRUE(table.empty());
}

TEST(FlowTable, PrefaultKeepsWhatIsThere) {
  FlowTable table = table_of(4096);
  table.learn(5, 6, FlowSign::data, 7);
  table.prefault();
  EXPECT_EQ(table.find(5, 7)->backend, 6);
}

struct Step {
  FlowSign first;
  FlowState learned;
  FlowSign next;
  FlowState then;
};

TEST(FlowTable, States) {
  using enum FlowState;
  const Step steps[] = {
      {FlowSign::syn, opening, FlowSign::syn, opening},
      {FlowSign::syn, opening, FlowSign::data, established},
      {FlowSign::syn, opening, FlowSign::end, closing},
      {FlowSign::data, guessed, FlowSign::data, established},
      {FlowSign::data, guessed, FlowSign::end, closing},
      // The ACK after a FIN is no sign of life.
      {FlowSign::end, closing, FlowSign::data, closing},
      {FlowSign::datagram, udp, FlowSign::datagram, udp},
  };
  for (const Step& step : steps) {
    FlowTable table = table_of(16);
    ASSERT_TRUE(table.learn(9, 3, step.first, 100));
    Flow* flow = table.find(9, 100);
    ASSERT_NE(flow, nullptr);
    EXPECT_EQ(flow->state, step.learned);
    FlowTable::see(*flow, step.next, 103);
    EXPECT_EQ(flow->state, step.then);
    EXPECT_EQ(flow->seen, 103);
    EXPECT_EQ(flow->backend, 3);
    EXPECT_EQ(table.used(), 1u);
  }
}

// With a connection's first two packets seen.
bool establish(FlowTable& table, uint64_t hash, uint16_t backend, uint16_t now) {
  if (!table.learn(hash, backend, FlowSign::syn, now)) return false;
  FlowTable::see(*table.find(hash, now), FlowSign::data, now);
  return true;
}

// A forged SYN must not make it one that can be evicted.
TEST(FlowTable, AnEstablishedFlowStaysSo) {
  FlowTable table = table_of(16);
  ASSERT_TRUE(establish(table, 9, 3, 100));
  for (const FlowSign sign : {FlowSign::data, FlowSign::syn}) {
    FlowTable::see(*table.find(9, 103), sign, 103);
    EXPECT_EQ(table.find(9, 103)->state, FlowState::established);
    EXPECT_EQ(table.find(9, 103)->seen, 103);
  }
}

// One packet of a flow that nobody knows proves nothing; nor do many at once, nor SYNs.
TEST(FlowTable, AGuessIsProvenByDataLater) {
  FlowTable table = table_of(16);
  table.learn(9, 3, FlowSign::data, 65535);
  const auto see = [&](FlowSign sign, uint16_t now) {
    FlowTable::see(*table.find(9, now), sign, now);
    return table.find(9, now)->state;
  };
  EXPECT_EQ(see(FlowSign::data, 65535), FlowState::guessed);
  EXPECT_EQ(see(FlowSign::syn, 3), FlowState::guessed);
  EXPECT_EQ(table.find(9, 3)->seen, 65535);
  EXPECT_EQ(see(FlowSign::data, 3), FlowState::established);
  EXPECT_EQ(table.find(9, 3)->seen, 3);
}

struct Limit {
  FlowSign sign;
  unsigned seconds;
};
constexpr Limit kLimits[] = {
    {FlowSign::syn, 10}, {FlowSign::data, 120}, {FlowSign::end, 15}, {FlowSign::datagram, 60}};

// From any second, so over the wrap of the 16-bit clock as well.
TEST(FlowTable, EachStateHasItsIdleTime) {
  for (const unsigned start : {0u, 5000u, 65000u, 65535u}) {
    for (const Limit& limit : kLimits) {
      const auto at = [&](unsigned seconds) { return static_cast<uint16_t>(start + seconds); };
      FlowTable table = table_of(16);
      table.learn(1, 2, limit.sign, at(0));
      ASSERT_NE(table.find(1, at(limit.seconds)), nullptr) << limit.seconds;
      ASSERT_EQ(table.find(1, at(limit.seconds + 1)), nullptr) << limit.seconds;
      EXPECT_TRUE(table.empty());

      table.learn(1, 2, limit.sign, at(0));
      FlowTable::see(*table.find(1, at(limit.seconds)), limit.sign, at(limit.seconds));
      EXPECT_NE(table.find(1, at(2 * limit.seconds)), nullptr);
    }
  }
}

TEST(FlowTable, LearningAgainChangesTheEntry) {
  FlowTable table = table_of(16);
  table.learn(1, 2, FlowSign::data, 0);
  table.learn(1, 7, FlowSign::syn, 5);
  EXPECT_EQ(table.used(), 1u);
  EXPECT_EQ(table.find(1, 5)->backend, 7);
  EXPECT_EQ(table.find(1, 5)->state, FlowState::opening);
  table.forget(*table.find(1, 5));
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(table.find(1, 5), nullptr);
}

// All of one set: their low bits are alike.
uint64_t rival(uint64_t i) {
  return i << 32;
}

TEST(FlowTable, OnlyTheOldestOpeningFlowMakesRoom) {
  FlowTable table = table_of(1024);
  establish(table, rival(1), 1, 0);
  table.learn(rival(2), 2, FlowSign::syn, 4);
  table.learn(rival(3), 3, FlowSign::syn, 3);
  table.learn(rival(4), 4, FlowSign::datagram, 0);
  EXPECT_TRUE(table.learn(rival(5), 5, FlowSign::syn, 6));
  EXPECT_EQ(table.find(rival(3), 6), nullptr);
  EXPECT_TRUE(table.learn(rival(6), 6, FlowSign::datagram, 6));
  EXPECT_EQ(table.find(rival(2), 6), nullptr);
  EXPECT_TRUE(establish(table, rival(7), 7, 6));
  EXPECT_EQ(table.find(rival(5), 6), nullptr);
  EXPECT_EQ(table.refused(), 0u);
  EXPECT_FALSE(table.learn(rival(8), 8, FlowSign::syn, 6));
  EXPECT_FALSE(table.learn(rival(9), 9, FlowSign::data, 6));
  EXPECT_EQ(table.refused(), 2u);
  for (const uint64_t i : {1, 4, 6, 7}) EXPECT_EQ(table.find(rival(i), 6)->backend, i);
  EXPECT_EQ(table.used(), 4u);
  // The datagrams' entries expire, and make room.
  EXPECT_TRUE(table.learn(rival(8), 8, FlowSign::syn, 67));
  EXPECT_EQ(table.used(), 3u);
}

TEST(FlowTable, WhatIsEndingMakesRoomLast) {
  FlowTable table = table_of(1024);
  establish(table, rival(1), 1, 0);
  table.learn(rival(2), 2, FlowSign::end, 0);
  table.learn(rival(3), 3, FlowSign::data, 0);
  table.learn(rival(4), 4, FlowSign::end, 0);
  EXPECT_TRUE(establish(table, rival(5), 5, 1));
  EXPECT_EQ(table.find(rival(3), 1), nullptr);
  EXPECT_TRUE(establish(table, rival(6), 6, 1));
  EXPECT_TRUE(establish(table, rival(7), 7, 1)) << "stray FINs and RSTs keep nobody out";
  for (const uint64_t i : {1, 5, 6, 7}) EXPECT_EQ(table.find(rival(i), 1)->backend, i);
  EXPECT_FALSE(table.learn(rival(8), 8, FlowSign::end, 1));
}

TEST(FlowTable, AFloodCostsNoEstablishedFlowItsEntry) {
  FlowTable table = table_of(4096);
  std::mt19937_64 random(1);
  std::set<uint64_t> kept;
  for (int i = 0; i < 1500; ++i) {
    const uint64_t hash = random();
    if (establish(table, hash, 9, 0)) kept.insert(hash);
  }
  EXPECT_GT(kept.size(), 1000u);
  for (int i = 0; i < 400000; ++i) {
    const auto now = static_cast<uint16_t>(i / 10000);
    constexpr FlowSign kSigns[] = {FlowSign::syn, FlowSign::datagram, FlowSign::data,
                                   FlowSign::end};
    table.learn(random(), 5, kSigns[i % 4], now);
  }
  for (const uint64_t hash : kept) ASSERT_EQ(table.find(hash, 40)->backend, 9);
  EXPECT_LE(table.used(), table.size());
  EXPECT_GT(table.refused(), 0u);
}

TEST(FlowTable, TheSweepMakesTheGaugeTrue) {
  FlowTable table = table_of(65536);
  std::mt19937_64 random(2);
  for (int i = 0; i < 10000; ++i) table.learn(random(), 1, FlowSign::syn, 0);
  establish(table, 1, 1, 0);
  uint64_t now = kSecondNs;
  const auto sweep_for = [&](unsigned seconds) {
    for (const uint64_t end = now + seconds * kSecondNs; now < end; now += 800'000)
      table.sweep(now);
  };
  sweep_for(9);
  EXPECT_GT(table.used(), 9900u);
  sweep_for(10);
  EXPECT_EQ(table.used(), 1u);
  EXPECT_EQ(table.find(1, flow_second(now))->backend, 1);
  sweep_for(3620);
  EXPECT_TRUE(table.empty());
}

// An age of 18 hours looks like none: every entry must be met before, in the largest table, by
// the slowest worker.
TEST(FlowTable, TheSweepIsFasterThanTheClockWraps) {
  FlowTable table = table_of(1 << 20);
  const size_t calls_for_all = table.size() / FlowTable::kWays / 64;
  for (size_t set = 0; set < table.size() / FlowTable::kWays; set += 1021)
    table.learn(set, 1, FlowSign::syn, 0);
  const size_t learned = table.used();
  EXPECT_GT(learned, 200u);
  uint64_t now = 30 * kSecondNs;
  // Ten times slower than a worker that rests; the table is a sixteenth of the largest.
  for (size_t i = 0; i < calls_for_all; ++i, now += 8'000'000) table.sweep(now);
  EXPECT_EQ(table.used(), 0u) << "of " << learned;
}

// However often it is called: a polling worker must not spend its time here.
TEST(FlowTable, TheSweepKeepsItsPace) {
  FlowTable table = table_of(4096);
  for (uint64_t set = 0; set < 1024; ++set) table.learn(set, 1, FlowSign::syn, 0);
  uint64_t now = 20 * kSecondNs;
  table.sweep(now);  // the first call does what it can
  const size_t before = table.used();
  for (int i = 0; i < 1000; ++i) table.sweep(now += 100);
  EXPECT_LE(before - table.used(), 1u);
  for (int i = 0; i < 1000; ++i) table.sweep(now += 1'000'000);
  EXPECT_NEAR(static_cast<double>(before - table.used()), 256, 3);
}

// The table as it would be with endless memory. Where nothing was refused or evicted, both agree.
struct NaiveFlow {
  uint16_t backend;
  FlowState state;
  uint64_t seen;
};

class Naive {
 public:
  NaiveFlow* find(uint64_t hash, uint64_t now) {
    const auto it = flows_.find(hash);
    if (it == flows_.end()) return nullptr;
    static const std::map<FlowState, uint64_t> limits = {{FlowState::opening, 10},
                                                         {FlowState::guessed, 120},
                                                         {FlowState::established, 3600},
                                                         {FlowState::closing, 15},
                                                         {FlowState::udp, 60}};
    if (now - it->second.seen <= limits.at(it->second.state)) return &it->second;
    flows_.erase(it);
    return nullptr;
  }
  void learn(uint64_t hash, uint16_t backend, FlowSign sign, uint64_t now) {
    static const std::map<FlowSign, FlowState> first = {{FlowSign::syn, FlowState::opening},
                                                        {FlowSign::data, FlowState::guessed},
                                                        {FlowSign::end, FlowState::closing},
                                                        {FlowSign::datagram, FlowState::udp}};
    flows_[hash] = {backend, first.at(sign), now};
  }
  static void see(NaiveFlow& flow, FlowSign sign, uint64_t now) {
    if (flow.state == FlowState::guessed && sign != FlowSign::end) {
      if (sign != FlowSign::data || now == flow.seen) return;
      flow.state = FlowState::established;
    }
    flow.seen = now;
    if (sign == FlowSign::end) flow.state = FlowState::closing;
    if (sign == FlowSign::data && flow.state == FlowState::opening)
      flow.state = FlowState::established;
  }
  size_t alive(uint64_t now) {
    std::vector<uint64_t> all;
    for (const auto& [hash, flow] : flows_) all.push_back(hash);
    size_t n = 0;
    for (const uint64_t hash : all) n += find(hash, now) != nullptr;
    return n;
  }

 private:
  std::map<uint64_t, NaiveFlow> flows_;
};

TEST(FlowTable, AgreesWithANaiveMap) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    FlowTable table = table_of(65536);
    Naive naive;
    std::mt19937_64 random(seed);
    // Few flows in a large table: no set overflows.
    std::vector<uint64_t> hashes(200);
    for (uint64_t& hash : hashes) hash = random();
    uint64_t now_ns = random() % (200'000 * kSecondNs);
    for (int i = 0; i < 20000; ++i) {
      now_ns += random() % (i % 100 ? kSecondNs : 1000 * kSecondNs);
      const uint64_t second = now_ns / kSecondNs;
      const uint64_t hash = hashes[random() % hashes.size()];
      const auto sign = static_cast<FlowSign>(random() % 4);
      Flow* flow = table.find(hash, flow_second(now_ns));
      NaiveFlow* expected = naive.find(hash, second);
      ASSERT_EQ(flow != nullptr, expected != nullptr) << i;
      if (flow) {
        ASSERT_EQ(flow->backend, expected->backend);
        ASSERT_EQ(flow->state, expected->state);
      }
      switch (random() % 4) {
        case 0:
          if (flow) FlowTable::see(*flow, sign, flow_second(now_ns));
          if (expected) Naive::see(*expected, sign, second);
          break;
        case 1: {
          const auto backend = static_cast<uint16_t>(random() % 30000);
          ASSERT_TRUE(table.learn(hash, backend, sign, flow_second(now_ns)));
          naive.learn(hash, backend, sign, second);
          break;
        }
        default:
          // Enough calls for every set, as the worker's would be in the time that has passed.
          if (i % 100 == 0) {
            for (int call = 0; call < 256; ++call) table.sweep(now_ns += 16'000'000);
          }
          break;
      }
      if (i % 200 == 0) {
        ASSERT_GE(table.used(), naive.alive(now_ns / kSecondNs));
      }
    }
    const size_t alive_before = naive.alive(now_ns / kSecondNs);
    for (int call = 0; call < 257; ++call) table.sweep(now_ns += 16'000'000);
    EXPECT_LE(table.used(), alive_before);
    EXPECT_GE(table.used(), naive.alive(now_ns / kSecondNs));
    EXPECT_EQ(table.refused(), 0u);
  }
}

}  // namespace
}  // namespace guideway
