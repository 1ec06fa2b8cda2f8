// SPDX-License-Identifier: Apache-2.0
#include "controlplane/store_file.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "controlplane/durable_file.h"
#include "controlplane/intent_json.h"
#include "controlplane/sealed_text.h"

namespace guideway {
namespace {

constexpr size_t kBytesMax = size_t{256} << 20;
constexpr const char* kHint = "the file is left as it is: restore it from a copy, or move it away";
constexpr const char* kNewerHint = "it was written by another version: run that one";

tl::unexpected<Error> system_error(const std::string& path, const char* what, int code) {
  return fail(path, std::string(what) + ": " + std::strerror(code));
}

uint64_t kernel_random() {
  uint64_t value = 0;
  if (getrandom(&value, sizeof value, 0) != sizeof value) value = 0;
  return value;
}

// The directory and those above it that are not there yet.
std::vector<std::filesystem::path> missing_levels(const std::string& directory) {
  std::vector<std::filesystem::path> out;
  std::error_code failed;
  std::filesystem::path level = std::filesystem::absolute(directory, failed).lexically_normal();
  if (!level.has_filename()) level = level.parent_path();
  for (; !failed && !std::filesystem::exists(level, failed); level = level.parent_path()) {
    out.push_back(level);
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<FileStore>> FileStore::open(const std::string& directory) {
  return open(directory, kernel_random);
}

Result<std::unique_ptr<FileStore>> FileStore::open(const std::string& directory, Random random) {
  std::error_code failed;
  const std::vector<std::filesystem::path> missing = missing_levels(directory);
  std::filesystem::create_directories(directory, failed);
  if (failed) return fail(directory, "cannot be made: " + failed.message());
  if (!missing.empty()) chmod(directory.c_str(), 0700);
  for (const auto& level : missing) {
    if (auto synced = sync_directory(level.parent_path().string()); !synced) {
      return tl::unexpected(synced.error());
    }
  }
  std::unique_ptr<FileStore> store(new FileStore);
  store->directory_ = directory;
  store->path_ = directory + "/intent.json";
  store->random_ = std::move(random);
  const std::string lock = directory + "/lock";
  store->lock_ = UniqueFd(::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!store->lock_) return system_error(lock, "cannot be opened", errno);
  if (flock(store->lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return system_error(lock, "cannot be locked", errno);
    return fail(directory, "is in use by another guideway-controlplane",
                "a node has one control plane: stop that one first");
  }
  return store;
}

Result<Intent> FileStore::load() {
  auto text = read_file(path_, kBytesMax);
  if (!text) return tl::unexpected(text.error());
  if (!*text) {
    Intent intent;
    intent.flow_seed = random_();
    if (auto saved = save(intent); !saved) return tl::unexpected(saved.error());
    return intent;
  }
  auto line = unseal(**text, "");
  if (!line) return fail(path_, line.error().why, line.error().newer ? kNewerHint : kHint);
  auto intent = read_stored_intent(*line);
  if (!intent) return fail(path_, "is damaged: " + intent.error().text(), kHint);
  intent_ = std::make_shared<const Intent>(*intent);
  return intent;
}

void FileStore::change(Change change, std::string who, std::string what, Done done) {
  const auto start = std::chrono::steady_clock::now();
  const std::shared_ptr<const Intent> before = intent_;
  ChangeResult after = next_intent(*before, change);
  if (!after) return done(tl::unexpected(after.error()));
  if (after->revision == before->revision) return done(Changed{before, before});
  if (auto saved = save(*after); !saved) {
    spdlog::error("change refused by the store who=\"{}\" what=\"{}\": {}", who, what,
                  saved.error().text());
    return done(tl::unexpected(RefusedChange{Refusal::not_stored, saved.error()}));
  }
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  spdlog::info("changed revision={} who=\"{}\" what=\"{}\" stored_ms={:.1f}", after->revision, who,
               what, took.count());
  if (on_intent_) on_intent_(intent_);
  done(Changed{before, intent_});
}

Result<void> FileStore::save(const Intent& intent) {
  const std::string text = seal(write_stored_intent(intent), "");
  if (auto replaced = replace_file(path_, text); !replaced) return replaced;
  intent_ = std::make_shared<const Intent>(intent);
  return {};
}

}  // namespace guideway
