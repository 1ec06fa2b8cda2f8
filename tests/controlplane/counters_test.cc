// SPDX-License-Identifier: Apache-2.0
#include "controlplane/counters.h"

#include <gtest/gtest.h>

#include "tests/controlplane/counters_file.h"

namespace guideway {
namespace {

std::string reason_of(const CountersFile& file) {
  auto counters = Counters::open(file.path());
  EXPECT_FALSE(counters);
  return counters ? "" : counters.error().text();
}

TEST(Counters, SumsOverWorkers) {
  CountersFile file;
  file.header().epoch = 3;
  file.header().generation = 17;
  file.header().revision = 12;
  file.header().workers = 2;
  file.header().pid = 77;
  for (uint32_t w : {0u, 1u, 3u}) {  // the last ran in an earlier life
    file.worker(w).received = 100 * (w + 1);
    file.worker(w).verdict[0] = 90;
    file.worker(w).verdict[7] = w;
    file.service(w, 5) = {10, 1000};
    file.backend(w, GW_BACKENDS_MAX - 1) = {w, 60};
  }
  auto counters = *Counters::open(file.path());
  EXPECT_EQ(counters->epoch(), 3u);
  EXPECT_EQ(counters->generation(), 17u);
  EXPECT_EQ(counters->revision(), 12u);
  EXPECT_EQ(counters->workers(), 2u);
  EXPECT_EQ(counters->pid(), 77u);
  EXPECT_EQ(counters->received(), 700u);
  EXPECT_EQ(counters->verdicts()[0], 270u);
  EXPECT_EQ(counters->verdicts()[7], 4u);
  EXPECT_EQ(counters->service(5), (Traffic{30, 3000}));
  EXPECT_EQ(counters->service(4), Traffic{});
  EXPECT_EQ(counters->backend(GW_BACKENDS_MAX - 1), (Traffic{4, 180}));
  EXPECT_EQ(counters->service(GW_SERVICES_MAX), Traffic{});
  EXPECT_EQ(counters->backend(UINT32_MAX), Traffic{});
}

TEST(Counters, SeesWhatIsWrittenLaterAndOpensADescriptor) {
  CountersFile file;
  auto counters = *Counters::open(UniqueFd(open(file.path().c_str(), O_RDONLY | O_CLOEXEC)));
  EXPECT_EQ(counters->received(), 0u);
  file.worker(0).received = 5;
  EXPECT_EQ(counters->received(), 5u);
}

// Reading must not fill the holes of the sparse file: 40 MiB if it did.
TEST(Counters, ReadingLeavesTheFileSparse) {
  CountersFile file;
  file.worker(0).received = 1;
  auto counters = *Counters::open(file.path());
  for (uint32_t i = 0; i < GW_BACKENDS_MAX; ++i) counters->backend(i);
  for (uint32_t i = 0; i < GW_SERVICES_MAX; ++i) counters->service(i);
  struct stat status;
  ASSERT_EQ(stat(file.path().c_str(), &status), 0);
  EXPECT_LT(status.st_blocks * 512, 2 << 20);
}

TEST(Counters, AliveMeansThatEveryWorkerBeats) {
  CountersFile file;
  file.header().workers = 2;
  auto counters = *Counters::open(file.path());
  const Heartbeats first = counters->heartbeats();
  EXPECT_FALSE(alive(first, first));
  file.worker(0).heartbeat = 1;
  EXPECT_FALSE(alive(first, counters->heartbeats()));
  file.worker(1).heartbeat = 1;
  EXPECT_TRUE(alive(first, counters->heartbeats()));
  file.header().epoch = 1;
  EXPECT_FALSE(alive(first, counters->heartbeats())) << "another dataplane";
  EXPECT_FALSE(alive({}, {})) << "no workers";
  file.header().workers = 1000000;
  EXPECT_EQ(counters->heartbeats().workers.size(), size_t{GW_WORKERS_MAX});
}

TEST(Counters, WhatIsNotCountersIsRefused) {
  {
    CountersFile file;
    file.header().magic = 0;
    EXPECT_EQ(reason_of(file), file.path() + ": not Guideway's counters");
  }
  {
    CountersFile file;
    file.header().layout = GW_LAYOUT_COUNTERS + 1;
    EXPECT_EQ(reason_of(file), file.path() + ": layout 4, this control plane reads 3");
  }
  {
    CountersFile file;
    ASSERT_EQ(truncate(file.path().c_str(), 8192), 0);
    EXPECT_NE(reason_of(file).find("truncated: 8192 of"), std::string::npos);
    ASSERT_EQ(truncate(file.path().c_str(), 10), 0);
    EXPECT_EQ(reason_of(file), file.path() + ": truncated: 10 bytes");
    ASSERT_EQ(truncate(file.path().c_str(), 0), 0);
    EXPECT_EQ(reason_of(file), file.path() + ": truncated: 0 bytes");
  }
  using Break = void (*)(gw_counters&);
  for (const Break change : std::initializer_list<Break>{
           [](gw_counters& h) { h.workers_max = 0; },
           [](gw_counters& h) { h.workers_max = GW_WORKERS_MAX + 1; },
           [](gw_counters& h) { h.services_max = UINT32_MAX; },
           [](gw_counters& h) { h.backends_max = UINT32_MAX; },
           [](gw_counters& h) { h.workers_offset = 0; },
           [](gw_counters& h) { h.workers_offset = h.bytes; },
           [](gw_counters& h) { h.services_offset = UINT64_MAX - 7; },
           [](gw_counters& h) { h.backends_offset += 4096 * 1024; },
           [](gw_counters& h) { h.services_offset += 1; },
       }) {
    CountersFile file;
    change(file.header());
    EXPECT_NE(reason_of(file).find("out of range"), std::string::npos);
  }
  EXPECT_FALSE(Counters::open("/nonexistent/counters"));
}

}  // namespace
}  // namespace guideway
