// SPDX-License-Identifier: Apache-2.0
#include "dataplane/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace guideway {
namespace {

std::string errno_text() {
  return std::strerror(errno);
}

Result<size_t> size_of(int fd, size_t most) {
  struct stat st {};
  if (fstat(fd, &st) != 0) return fail("", "cannot be examined: " + errno_text());
  if (!S_ISREG(st.st_mode)) return fail("", "is not a regular file");
  if (st.st_size <= 0) return fail("", "is empty");
  if (static_cast<uint64_t>(st.st_size) > most)
    return fail("", "has " + std::to_string(st.st_size) + " bytes, more than an image can have");
  return static_cast<size_t>(st.st_size);
}

}  // namespace

Mapping::~Mapping() {
  if (data_) munmap(data_, size_);
}

Result<Mapping> Mapping::from_sealed(int fd, size_t most) {
  constexpr int kSeals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) return fail("", "is not a sealed memfd");
  auto size = size_of(fd, most);
  if (!size) return tl::unexpected(size.error());
  void* at = mmap(nullptr, *size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  if (at == MAP_FAILED) return fail("", "cannot be mapped: " + errno_text());
  Mapping mapping;
  mapping.data_ = static_cast<uint8_t*>(at);
  mapping.size_ = *size;
  return mapping;
}

Result<Mapping> Mapping::anonymous(size_t size) {
  void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return fail("", "no memory: " + errno_text());
  Mapping mapping;
  mapping.data_ = static_cast<uint8_t*>(at);
  mapping.size_ = size;
  return mapping;
}

Result<Mapping> Mapping::from_file(const std::string& path, size_t most) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return fail(path, "cannot be opened: " + errno_text());
  auto size = size_of(fd, most);
  auto mapping = size ? anonymous(*size) : tl::unexpected(size.error());
  for (size_t done = 0; mapping && done < *size;) {
    const ssize_t n = read(fd, mapping->data_ + done, *size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      mapping = fail("", n < 0 ? "cannot be read: " + errno_text() : "became shorter");
      break;
    }
    done += static_cast<size_t>(n);
  }
  close(fd);
  if (!mapping) return fail(path, mapping.error().message);
  return mapping;
}

Result<Mapping> Mapping::from_bytes(std::span<const uint8_t> bytes,
                                    void (*edit)(std::span<uint8_t>)) {
  if (bytes.empty()) return fail("", "is empty");
  auto mapping = anonymous(bytes.size());
  if (!mapping) return mapping;
  std::memcpy(mapping->data_, bytes.data(), bytes.size());
  if (edit) edit({mapping->data_, mapping->size_});
  return mapping;
}

}  // namespace guideway
