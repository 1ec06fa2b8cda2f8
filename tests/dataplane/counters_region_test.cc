// SPDX-License-Identifier: Apache-2.0
#include "dataplane/counters_region.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <random>
#include <vector>

namespace guideway {
namespace {

class CountersRegionTest : public testing::Test {
 protected:
  CountersRegionTest() {
    char name[] = "/tmp/gw-counters-XXXXXX";
    directory_ = mkdtemp(name);
    path_ = directory_ + "/counters";
  }
  ~CountersRegionTest() override { std::filesystem::remove_all(directory_); }

  std::string directory_;
  std::string path_;
};

// Of two workers nothing that one writes is in a cache line that the other writes.
TEST_F(CountersRegionTest, WorkersShareNoCacheLine) {
  CountersRegion region = std::move(*CountersRegion::open(path_, 2));
  constexpr uintptr_t kLine = 64;
  using Lines = std::pair<uintptr_t, uintptr_t>;  // the first, and the one after the last
  const auto lines_of = [](const auto* first, size_t count) -> Lines {
    const auto at = reinterpret_cast<uintptr_t>(first);
    return {at / kLine, (at + count * sizeof *first + kLine - 1) / kLine};
  };
  std::vector<Lines> lines[2];
  for (uint32_t i = 0; i < 2; ++i) {
    const WorkerCounters worker = region.worker(i);
    lines[i] = {lines_of(worker.own, 1), lines_of(worker.services, GW_SERVICES_MAX),
                lines_of(worker.backends, GW_BACKENDS_MAX)};
  }
  for (const Lines& one : lines[0]) {
    for (const Lines& other : lines[1])
      EXPECT_TRUE(one.second <= other.first || other.second <= one.first);
  }
}

TEST_F(CountersRegionTest, ARestartGoesOnAndNamesWhatWasInFlight) {
  {
    CountersRegion region = std::move(*CountersRegion::open(path_, 2));
    EXPECT_EQ(region.head().epoch, 1u);
    EXPECT_EQ(region.head().workers, 2u);
    WorkerCounters worker = region.worker(1);
    worker.received(10);
    worker.verdict(Verdict::no_service, 7);
    worker.backends[GW_BACKENDS_MAX - 1].bytes = 99;
    FlowTable flows = std::move(*FlowTable::make(1024));
    flows.learn(1, 2, FlowSign::syn, 0);
    worker.flow_table(flows);
    worker.flows_refused(5);
    EXPECT_EQ(worker.own->flows, 1u);
    EXPECT_EQ(worker.own->flows_max, 1024u);
  }
  CountersRegion region = std::move(*CountersRegion::open(path_, 1));
  EXPECT_EQ(region.head().epoch, 2u);
  EXPECT_EQ(region.head().pid, static_cast<uint32_t>(getpid()));
  const WorkerCounters worker = region.worker(1);
  EXPECT_EQ(worker.own->received, 10u);
  EXPECT_EQ(worker.own->verdict[static_cast<unsigned>(Verdict::no_service)], 7u);
  EXPECT_EQ(worker.own->verdict[static_cast<unsigned>(Verdict::lost_in_restart)], 3u);
  EXPECT_EQ(worker.backends[GW_BACKENDS_MAX - 1].bytes, 99u);
  EXPECT_EQ(worker.own->flows, 0u);
  EXPECT_EQ(worker.own->flows_max, 0u);
  EXPECT_EQ(worker.own->flows_refused, 5u);
}

TEST_F(CountersRegionTest, ADamagedFileIsReplaced) {
  std::ofstream(path_) << "nonsense";
  CountersRegion region = std::move(*CountersRegion::open(path_, 1));
  EXPECT_EQ(region.head().epoch, 1u);
  EXPECT_EQ(region.head().magic, GW_MAGIC_COUNTERS);
}

TEST_F(CountersRegionTest, ReadersCannotWrite) {
  CountersRegion region = std::move(*CountersRegion::open(path_, 1));
  EXPECT_EQ(write(region.read_only_fd(), "x", 1), -1);
}

TEST_F(CountersRegionTest, OnlyForwardedPacketsAreTraffic) {
  CountersRegion region = std::move(*CountersRegion::open(path_, 1));
  WorkerCounters worker = region.worker(0);
  Frame frame;
  frame.service = 3;
  frame.backend = 4;
  frame.ip_bytes = 60;
  frame.verdict = Verdict::forwarded;
  worker.finish({&frame, 1});
  frame.verdict = Verdict::tx_full;
  worker.finish({&frame, 1});
  EXPECT_EQ(worker.services[3].packets, 1u);
  EXPECT_EQ(worker.backends[4].bytes, 60u);
  EXPECT_EQ(worker.own->verdict[static_cast<unsigned>(Verdict::tx_full)], 1u);
}

TEST_F(CountersRegionTest, ABurstCountsAsItsFramesOneByOne) {
  CountersRegion region = std::move(*CountersRegion::open(path_, 1));
  WorkerCounters worker = region.worker(0);
  std::array<gw_traffic, 4> services{};
  std::array<gw_traffic, 4> backends{};
  std::array<uint64_t, kVerdictCount> verdicts{};
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<Frame> frames(random() % 65);
    for (Frame& frame : frames) {
      const unsigned other = random() % kVerdictCount;
      frame.verdict = random() % 4 ? Verdict::forwarded : static_cast<Verdict>(other);
      frame.service = random() % 3 ? 1 : random() % 4;
      frame.backend = random() % 4;
      frame.ip_bytes = static_cast<uint16_t>(random());
      ++verdicts[static_cast<unsigned>(frame.verdict)];
      if (frame.verdict != Verdict::forwarded) continue;
      for (gw_traffic* traffic : {&services[frame.service], &backends[frame.backend]}) {
        ++traffic->packets;
        traffic->bytes += frame.ip_bytes;
      }
    }
    worker.finish(frames);
  }
  for (unsigned i = 0; i < 4; ++i) {
    EXPECT_EQ(worker.services[i].packets, services[i].packets);
    EXPECT_EQ(worker.services[i].bytes, services[i].bytes);
    EXPECT_EQ(worker.backends[i].packets, backends[i].packets);
    EXPECT_EQ(worker.backends[i].bytes, backends[i].bytes);
  }
  for (unsigned i = 0; i < kVerdictCount; ++i) EXPECT_EQ(worker.own->verdict[i], verdicts[i]) << i;
}

}  // namespace
}  // namespace guideway
