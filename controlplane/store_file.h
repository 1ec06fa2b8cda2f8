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
#include <utility>

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

  // Reads what is kept: to be called once, before all else. A store that was never written gives an
  // empty intent at revision 0 with a new flow seed, which is durable already. What cannot be read,
  // or is of a newer format, is an error, and is left as it is.
  Result<Intent> load();
  // Replaces what is kept, whatever it is; nobody is told. Durable when it returns. After an error
  // the file may hold either of the two.
  Result<void> save(const Intent& intent);

  std::shared_ptr<const Intent> intent() const override { return intent_; }
  void on_intent(OnIntent callback) override { on_intent_ = std::move(callback); }
  // Durable, and `done` called, when it returns.
  void change(Change change, std::string who, std::string what, Done done) override;

  const std::string& path() const { return path_; }

 private:
  FileStore() = default;

  std::string directory_;
  std::string path_;
  Random random_;
  UniqueFd lock_;
  std::shared_ptr<const Intent> intent_;
  OnIntent on_intent_;
};

}  // namespace guideway
