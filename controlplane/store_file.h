// SPDX-License-Identifier: Apache-2.0
// The intent of a single node: STATE/intent.json. Two lines of JSON, the first about the second:
//
//   {"format":1,"checksum":"<XXH3 of the second line without its newline, 16 hex digits>"}
//   {"revision":12,"flow_seed":...,"pools":{...},"services":{...}}
//
// Replaced atomically: STATE/intent.json.new is written and fsynced, renamed, and the directory
// fsynced. STATE/lock is held (flock) as long as the store is open, so that two daemons cannot
// share a state directory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "controlplane/store.h"
#include "controlplane/unique_fd.h"

namespace guideway {

class FileStore : public Store {
 public:
  using Random = std::function<uint64_t()>;  // for the flow seed of a new store

  // Makes the directory if need be (mode 0700). Fails if another process holds its lock.
  static Result<std::unique_ptr<FileStore>> open(const std::string& directory, Random random);
  // With the kernel's randomness.
  static Result<std::unique_ptr<FileStore>> open(const std::string& directory);

  Result<Intent> load() override;
  Result<void> save(const Intent& intent) override;

  const std::string& path() const { return path_; }

 private:
  FileStore() = default;

  std::string directory_;
  std::string path_;
  Random random_;
  UniqueFd lock_;
  UniqueFd directory_fd_;
};

}  // namespace guideway
