// SPDX-License-Identifier: Apache-2.0
// Read-only bytes with an owner: a sealed memfd mapped, or a file's content copied. Page-aligned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "controlplane/result.h"

namespace guideway {

class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept { *this = std::move(other); }
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  // Maps a memfd that nobody can write or resize any more (F_SEAL_WRITE, SHRINK and GROW are
  // demanded), and touches its pages. `fd` stays the caller's. At most `most` bytes.
  static Result<Mapping> from_sealed(int fd, size_t most);

  // Copies a file, which may be anything, into private memory. At most `most` bytes.
  static Result<Mapping> from_file(const std::string& path, size_t most);

  // Copies bytes; `edit`, if there is one, may change the copy before anybody else sees it.
  static Result<Mapping> from_bytes(std::span<const uint8_t> bytes,
                                    void (*edit)(std::span<uint8_t>) = nullptr);

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  std::span<const uint8_t> bytes() const { return {data_, size_}; }

 private:
  static Result<Mapping> anonymous(size_t size);

  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace guideway
