// SPDX-License-Identifier: Apache-2.0
#include "controlplane/counters.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace guideway {
namespace {

// Another process writes these: one load each, never torn or repeated by the compiler.
template <typename T>
T load(const T& value) {
  return __atomic_load_n(&value, __ATOMIC_RELAXED);
}

}  // namespace

Result<std::unique_ptr<Counters>> Counters::open(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail(path, std::strerror(errno));
  auto counters = open(std::move(fd));
  if (!counters) return fail(path, counters.error().message);
  return counters;
}

Result<std::unique_ptr<Counters>> Counters::open(UniqueFd fd) {
  struct stat status;
  if (fstat(fd.get(), &status) != 0) return fail("counters", std::strerror(errno));
  if (status.st_size < static_cast<off_t>(sizeof(gw_counters)))
    return fail("counters", "truncated: " + std::to_string(status.st_size) + " bytes");
  const auto size = static_cast<size_t>(status.st_size);
  void* data = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) return fail("counters", std::strerror(errno));
  std::unique_ptr<Counters> counters(new Counters);
  counters->data_ = static_cast<const uint8_t*>(data);
  counters->size_ = size;
  counters->file_ = status.st_ino;
  if (auto ok = counters->check(); !ok) return tl::unexpected(ok.error());
  return counters;
}

Counters::~Counters() {
  if (data_) munmap(const_cast<uint8_t*>(data_), size_);
}

Result<void> Counters::check() const {
  const gw_counters& h = header();
  if (h.magic != GW_MAGIC_COUNTERS) return fail("counters", "not Guideway's counters");
  if (h.layout != GW_LAYOUT_COUNTERS)
    return fail("counters", "layout " + std::to_string(h.layout) + ", this control plane reads " +
                                std::to_string(GW_LAYOUT_COUNTERS));
  if (h.bytes != size_)
    return fail("counters", "truncated: " + std::to_string(size_) + " of " +
                                std::to_string(h.bytes) + " bytes");
  if (h.workers_max == 0 || h.workers_max > GW_WORKERS_MAX || h.services_max > GW_SERVICES_MAX ||
      h.backends_max > GW_BACKENDS_MAX)
    return fail("counters", "sizes out of range");
  // The counts are bounded above, so the products fit.
  const uint64_t traffic = uint64_t{h.workers_max} * sizeof(gw_traffic);
  const auto fits = [this](uint64_t offset, uint64_t bytes) {
    return offset >= sizeof(gw_counters) && offset % 8 == 0 && offset <= size_ &&
           bytes <= size_ - offset;
  };
  if (!fits(h.workers_offset, uint64_t{h.workers_max} * sizeof(gw_worker_counters)) ||
      !fits(h.services_offset, traffic * h.services_max) ||
      !fits(h.backends_offset, traffic * h.backends_max))
    return fail("counters", "offsets out of range");
  return {};
}

uint64_t Counters::epoch() const {
  return load(header().epoch);
}
uint64_t Counters::generation() const {
  return load(header().generation);
}
uint64_t Counters::revision() const {
  return load(header().revision);
}
uint32_t Counters::pid() const {
  return load(header().pid);
}
uint32_t Counters::workers() const {
  return std::min(load(header().workers), header().workers_max);
}

const gw_worker_counters* Counters::worker(uint32_t worker) const {
  return reinterpret_cast<const gw_worker_counters*>(data_ + header().workers_offset) + worker;
}

uint64_t Counters::received() const {
  uint64_t sum = 0;
  for (uint32_t w = 0; w < header().workers_max; ++w) sum += load(worker(w)->received);
  return sum;
}

std::array<uint64_t, GW_VERDICTS_MAX> Counters::verdicts() const {
  std::array<uint64_t, GW_VERDICTS_MAX> sums{};
  for (uint32_t w = 0; w < header().workers_max; ++w) {
    for (unsigned v = 0; v < GW_VERDICTS_MAX; ++v) sums[v] += load(worker(w)->verdict[v]);
  }
  return sums;
}

Traffic Counters::service(uint32_t index) const {
  return sum(header().services_offset, header().services_max, index);
}

Traffic Counters::backend(uint32_t index) const {
  return sum(header().backends_offset, header().backends_max, index);
}

Traffic Counters::sum(uint64_t offset, uint32_t count, uint32_t index) const {
  Traffic total;
  if (index >= count) return total;
  const auto* traffic = reinterpret_cast<const gw_traffic*>(data_ + offset);
  for (uint32_t w = 0; w < header().workers_max; ++w) {
    // A read of a page that was never written would make the sparse file grow.
    if (load(worker(w)->received) == 0) continue;
    const gw_traffic& one = traffic[size_t{w} * count + index];
    total.packets += load(one.packets);
    total.bytes += load(one.bytes);
  }
  return total;
}

FlowTableUse Counters::flow_table() const {
  FlowTableUse use;
  for (uint32_t w = 0; w < workers(); ++w) {
    use.flows += load(worker(w)->flows);
    use.flows_max += load(worker(w)->flows_max);
    use.refused += load(worker(w)->flows_refused);
  }
  return use;
}

Heartbeats Counters::heartbeats() const {
  Heartbeats beats{.epoch = epoch(), .workers = {}};
  for (uint32_t w = 0; w < workers(); ++w) beats.workers.push_back(load(worker(w)->heartbeat));
  return beats;
}

bool alive(const Heartbeats& before, const Heartbeats& now) {
  if (before.epoch != now.epoch || now.workers.empty()) return false;
  if (before.workers.size() != now.workers.size()) return false;
  for (size_t w = 0; w < now.workers.size(); ++w) {
    if (now.workers[w] <= before.workers[w]) return false;
  }
  return true;
}

}  // namespace guideway
