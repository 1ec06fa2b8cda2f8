// SPDX-License-Identifier: Apache-2.0
#include "dataplane/counters_region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace guideway {
namespace {

constexpr uint64_t align_page(uint64_t bytes) {
  return (bytes + 4095) & ~uint64_t{4095};
}

constexpr uint64_t kWorkersOffset = 4096;
constexpr uint64_t kServicesOffset =
    align_page(kWorkersOffset + sizeof(gw_worker_counters) * GW_WORKERS_MAX);
constexpr uint64_t kBackendsOffset =
    align_page(kServicesOffset + sizeof(gw_traffic) * GW_SERVICES_MAX * GW_WORKERS_MAX);
constexpr uint64_t kBytes =
    align_page(kBackendsOffset + sizeof(gw_traffic) * GW_BACKENDS_MAX * GW_WORKERS_MAX);

struct Part {
  uint64_t offset;
  uint64_t bytes;
};

// What `workers` write to.
std::array<Part, 3> parts_of(uint32_t workers) {
  return {{{0, kServicesOffset},
           {kServicesOffset, sizeof(gw_traffic) * GW_SERVICES_MAX * workers},
           {kBackendsOffset, sizeof(gw_traffic) * GW_BACKENDS_MAX * workers}}};
}

Result<void> take_room(int fd, uint32_t workers) {
  for (const Part& part : parts_of(workers)) {
    const int error =
        posix_fallocate(fd, static_cast<off_t>(part.offset), static_cast<off_t>(part.bytes));
    if (error != 0) return fail("", std::string("no room for counters: ") + std::strerror(error));
  }
  return {};
}

gw_counters fresh_head() {
  gw_counters head{};
  head.magic = GW_MAGIC_COUNTERS;
  head.layout = GW_LAYOUT_COUNTERS;
  head.bytes = kBytes;
  head.workers_max = GW_WORKERS_MAX;
  head.services_max = GW_SERVICES_MAX;
  head.backends_max = GW_BACKENDS_MAX;
  head.workers_offset = kWorkersOffset;
  head.services_offset = kServicesOffset;
  head.backends_offset = kBackendsOffset;
  return head;
}

bool goes_on(const gw_counters& head) {
  const gw_counters fresh = fresh_head();
  return head.magic == fresh.magic && head.layout == fresh.layout && head.bytes == fresh.bytes &&
         head.workers_max == fresh.workers_max && head.services_max == fresh.services_max &&
         head.backends_max == fresh.backends_max && head.workers_offset == fresh.workers_offset &&
         head.services_offset == fresh.services_offset &&
         head.backends_offset == fresh.backends_offset;
}

bool usable(int fd) {
  struct stat st {};
  gw_counters head{};
  return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
         static_cast<uint64_t>(st.st_size) == kBytes &&
         pread(fd, &head, sizeof head, 0) == sizeof head && goes_on(head);
}

// The new file takes the name only when it is whole, so no reader ever maps half a header.
int create(const std::string& path) {
  const std::string temporary = path + ".new";
  unlink(temporary.c_str());
  const int fd = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return -1;
  const gw_counters head = fresh_head();
  if (ftruncate(fd, kBytes) == 0 && pwrite(fd, &head, sizeof head, 0) == sizeof head &&
      rename(temporary.c_str(), path.c_str()) == 0)
    return fd;
  close(fd);
  return -1;
}

}  // namespace

Result<CountersRegion> CountersRegion::open(const std::string& path, uint32_t workers) {
  int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd >= 0 && !usable(fd)) {
    close(fd);
    fd = -1;
  }
  if (fd < 0) fd = create(path);
  if (fd < 0) return fail(path, std::string("cannot be created: ") + std::strerror(errno));

  CountersRegion region;
  auto room = take_room(fd, workers);
  void* at = room ? mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
  if (room && at == MAP_FAILED)
    room = fail("", std::string("cannot be mapped: ") + std::strerror(errno));
  close(fd);
  if (!room) return fail(path, room.error().message);
  region.base_ = static_cast<uint8_t*>(at);
  region.touch(workers);
  region.read_only_fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (region.read_only_fd_ < 0)
    return fail(path, std::string("cannot be opened: ") + std::strerror(errno));
  region.start_epoch(workers);
  return region;
}

CountersRegion::CountersRegion(CountersRegion&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)),
      read_only_fd_(std::exchange(other.read_only_fd_, -1)) {}

CountersRegion::~CountersRegion() {
  if (base_) munmap(base_, kBytes);
  if (read_only_fd_ >= 0) close(read_only_fd_);
}

// The first touch of a page is a page fault: better now than with a packet in hand.
void CountersRegion::touch(uint32_t workers) {
  for (const Part& part : parts_of(workers)) {
    for (uint64_t at = part.offset; at < part.offset + part.bytes; at += 4096) {
      auto* byte = reinterpret_cast<volatile uint8_t*>(base_ + at);
      *byte = *byte;
    }
  }
}

void CountersRegion::start_epoch(uint32_t workers) {
  gw_counters& h = head();
  for (uint32_t i = 0; i < GW_WORKERS_MAX; ++i) {
    WorkerCounters c = worker(i);
    c.own->flows = 0;
    c.own->flows_max = 0;
    if (c.own->received == 0) continue;
    uint64_t judged = 0;
    for (const uint64_t n : c.own->verdict) judged += n;
    if (c.own->received > judged) c.verdict(Verdict::lost_in_restart, c.own->received - judged);
  }
  h.generation = 0;
  h.revision = 0;
  h.workers = workers;
  h.pid = static_cast<uint32_t>(getpid());
  __atomic_store_n(&h.epoch, h.epoch + 1, __ATOMIC_RELEASE);
}

WorkerCounters CountersRegion::worker(uint32_t index) {
  return {reinterpret_cast<gw_worker_counters*>(base_ + kWorkersOffset) + index,
          reinterpret_cast<gw_traffic*>(base_ + kServicesOffset) + size_t{index} * GW_SERVICES_MAX,
          reinterpret_cast<gw_traffic*>(base_ + kBackendsOffset) + size_t{index} * GW_BACKENDS_MAX};
}

}  // namespace guideway
