// SPDX-License-Identifier: Apache-2.0
// For tests: a counters file as abi.h describes it, to write to.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "dataplane/abi.h"

namespace guideway {

class CountersFile {
 public:
  CountersFile() {
    char name[] = "/tmp/guideway-counters-XXXXXX";
    directory_ = mkdtemp(name);
    const int fd = open(path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    EXPECT_EQ(ftruncate(fd, static_cast<off_t>(kBytes)), 0);
    data_ = static_cast<uint8_t*>(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    close(fd);
    gw_counters head{};
    head.magic = GW_MAGIC_COUNTERS;
    head.layout = GW_LAYOUT_COUNTERS;
    head.bytes = kBytes;
    head.workers_max = GW_WORKERS_MAX;
    head.services_max = GW_SERVICES_MAX;
    head.backends_max = GW_BACKENDS_MAX;
    head.workers_offset = kWorkers;
    head.services_offset = kServices;
    head.backends_offset = kBackends;
    header() = head;
  }
  ~CountersFile() {
    munmap(data_, kBytes);
    for (const char* name : {"/counters", "/counter-book.json", "/counter-book.json.new"})
      unlink((directory_ + name).c_str());
    rmdir(directory_.c_str());
  }

  std::string path() const { return directory_ + "/counters"; }
  std::string book_path() const { return directory_ + "/counter-book.json"; }

  gw_counters& header() { return *reinterpret_cast<gw_counters*>(data_); }
  gw_worker_counters& worker(uint32_t w) {
    return reinterpret_cast<gw_worker_counters*>(data_ + kWorkers)[w];
  }
  gw_traffic& service(uint32_t w, uint32_t index) {
    return reinterpret_cast<gw_traffic*>(data_ + kServices)[w * GW_SERVICES_MAX + index];
  }
  gw_traffic& backend(uint32_t w, uint32_t index) {
    return reinterpret_cast<gw_traffic*>(data_ + kBackends)[w * GW_BACKENDS_MAX + index];
  }

 private:
  static constexpr size_t kWorkers = 4096;
  static constexpr size_t kServices = kWorkers + GW_WORKERS_MAX * sizeof(gw_worker_counters);
  static constexpr size_t kBackends =
      kServices + size_t{GW_WORKERS_MAX} * GW_SERVICES_MAX * sizeof(gw_traffic);
  static constexpr size_t kBytes =
      kBackends + size_t{GW_WORKERS_MAX} * GW_BACKENDS_MAX * sizeof(gw_traffic);

  std::string directory_;
  uint8_t* data_ = nullptr;
};

}  // namespace guideway
