// SPDX-License-Identifier: Apache-2.0
// The counters that the dataplane writes (dataplane/abi.h, "counters"), read-only. The file
// outlives the dataplane, so totals can be read while it is away. Values are read one by one while
// workers write them: each is right, their sums may be some packets apart.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "controlplane/result.h"
#include "controlplane/unique_fd.h"
#include "dataplane/abi.h"

namespace guideway {

struct Traffic {
  uint64_t packets = 0;
  uint64_t bytes = 0;
  bool operator==(const Traffic&) const = default;
};

// Of the workers that run now, together.
struct FlowTableUse {
  uint64_t flows = 0;      // entries in use
  uint64_t flows_max = 0;  // entries there are
  uint64_t refused = 0;    // flows that found no room, since the dataplane started
};

// The heartbeats at one moment. Keep it, and compare it with the next.
struct Heartbeats {
  uint64_t epoch = 0;
  std::vector<uint64_t> workers;
};

class Counters {
 public:
  // Maps the region of a descriptor (the file may only be shrunk by whoever owns RUN; that is
  // trusted). Fails if magic, layout, sizes or offsets are not those of abi.h.
  static Result<std::unique_ptr<Counters>> open(UniqueFd fd);
  static Result<std::unique_ptr<Counters>> open(const std::string& path);
  ~Counters();
  Counters(const Counters&) = delete;
  Counters& operator=(const Counters&) = delete;

  uint64_t epoch() const;
  uint64_t generation() const;  // adopted by all workers
  uint64_t revision() const;
  uint32_t pid() const;
  uint32_t workers() const;                // running now
  uint64_t file() const { return file_; }  // its inode: another file has another one

  // Sums over all workers that ever ran.
  uint64_t received() const;
  std::array<uint64_t, GW_VERDICTS_MAX> verdicts() const;
  Traffic service(uint32_t index) const;  // all 0 for an index out of range
  Traffic backend(uint32_t index) const;

  FlowTableUse flow_table() const;

  Heartbeats heartbeats() const;

 private:
  Counters() = default;
  Result<void> check() const;
  const gw_counters& header() const { return *reinterpret_cast<const gw_counters*>(data_); }
  const gw_worker_counters* worker(uint32_t worker) const;
  Traffic sum(uint64_t offset, uint32_t count, uint32_t index) const;

  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  uint64_t file_ = 0;
};

// Whether the dataplane is alive: it runs workers, and each of them has beaten since `before`, in
// the same epoch. Looks should be 10 ms or more apart.
bool alive(const Heartbeats& before, const Heartbeats& now);

}  // namespace guideway
