// SPDX-License-Identifier: Apache-2.0
#include "dataplane/image_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>
#include <utility>
#include <vector>

#include "dataplane/older_layout.h"
#include "dataplane/validate.h"

namespace guideway {
namespace {

std::string hex(uint64_t digest) {
  char text[17];
  std::snprintf(text, sizeof text, "%016" PRIx64, digest);
  return text;
}

Result<void> write_file(const std::string& path, std::span<const uint8_t> bytes) {
  const std::string temporary = path + ".new";
  const int fd =
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return fail(temporary, std::strerror(errno));
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = write(fd, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int error = errno;
      close(fd);
      unlink(temporary.c_str());
      return fail(temporary, std::strerror(error));
    }
    done += static_cast<size_t>(n);
  }
  close(fd);
  if (rename(temporary.c_str(), path.c_str()) != 0) return fail(path, std::strerror(errno));
  return {};
}

// The tables of a root's pools, in order; each must be there and of the pool's size.
Result<std::vector<std::shared_ptr<const Table>>> find_tables(
    const gw_root& root, const uint8_t* base,
    const std::map<uint64_t, std::shared_ptr<const Table>>& tables) {
  const auto* pools = reinterpret_cast<const gw_pool*>(base + root.pools_offset);
  std::vector<std::shared_ptr<const Table>> found;
  found.reserve(root.pools);
  for (uint32_t i = 0; i < root.pools; ++i) {
    const std::string field = "pools[" + std::to_string(i) + "].table_digest";
    if (pools[i].table_digest == 0) {
      found.push_back(nullptr);
      continue;
    }
    const auto it = tables.find(pools[i].table_digest);
    if (it == tables.end())
      return fail(field, "table " + hex(pools[i].table_digest) + " was not sent");
    if (it->second->head().backends != pools[i].backends)
      return fail(field, "table " + hex(pools[i].table_digest) + " is for " +
                             std::to_string(it->second->head().backends) +
                             " backends, the pool has " + std::to_string(pools[i].backends));
    found.push_back(it->second);
  }
  return found;
}

}  // namespace

ImageStore::ImageStore(std::string directory, std::vector<std::string> ports, Swap swap)
    : directory_(std::move(directory)), ports_(std::move(ports)), swap_(std::move(swap)) {}

std::string ImageStore::table_path(uint64_t digest) const {
  return directory_ + "/" + hex(digest) + ".table";
}

Result<void> ImageStore::add_table(uint64_t digest, int fd) {
  if (tables_.contains(digest)) return {};
  const std::string field = "table " + hex(digest);
  // A control plane that sends tables without end must not fill the memory.
  if (tables_.size() >= 2 * GW_POOLS_MAX) return fail(field, "too many tables without a root");
  auto bytes = Mapping::from_sealed(fd, kTableBytesMax);
  if (!bytes) return fail(field, bytes.error().message);
  auto named = validate_table(bytes->bytes());
  if (!named) return fail(field + ": " + named.error().field, named.error().message);
  if (*named != digest) return fail(field, "its digest is " + hex(*named));
  tables_[digest] = std::make_shared<const Table>(Table{digest, std::move(*bytes)});
  return {};
}

Result<void> ImageStore::adopt(uint64_t generation, int fd) {
  auto root = Mapping::from_sealed(fd, kRootBytesMax);
  if (!root) return fail("root", root.error().message);
  return adopt_root(std::move(*root), generation);
}

Result<void> ImageStore::check_ports(const gw_root& root) const {
  if (root.ports > ports_.size())
    return fail("ports", "made for " + std::to_string(root.ports) + " ports, this dataplane has " +
                             std::to_string(ports_.size()));
  for (uint32_t i = 0; i < root.ports; ++i) {
    if (ports_[i] != root.port[i].interface)
      return fail("port[" + std::to_string(i) + "]",
                  std::string("made for ") + root.port[i].interface + ", here it is " + ports_[i]);
  }
  return {};
}

Result<void> ImageStore::adopt_root(Mapping sent, uint64_t generation) {
  if (auto ok = validate_root(sent.bytes()); !ok) return ok;
  auto current = in_current_layout(std::move(sent));
  if (!current) return fail("root", current.error().message);
  Mapping bytes = std::move(*current);
  const auto& root = *reinterpret_cast<const gw_root*>(bytes.data());
  if (root.generation != generation)
    return fail("generation", "the root says " + std::to_string(root.generation) +
                                  ", the message " + std::to_string(generation));
  if (running_ && generation <= running_->root().generation)
    return fail("generation", "is " + std::to_string(generation) + ", already running " +
                                  std::to_string(running_->root().generation));
  if (auto ok = check_ports(root); !ok) return ok;
  auto tables = find_tables(root, bytes.data(), tables_);
  if (!tables) return tl::unexpected(tables.error());

  auto image = std::make_unique<const Image>(std::move(bytes), std::move(*tables));
  swap_(image.get());
  running_ = std::move(image);
  std::erase_if(tables_, [](const auto& entry) { return entry.second.use_count() == 1; });
  return {};
}

Result<void> ImageStore::save() {
  if (!running_) return {};
  std::error_code ec;
  std::filesystem::create_directories(directory_, ec);
  if (ec) return fail(directory_, ec.message());
  chmod(directory_.c_str(), 0700);

  std::set<std::string> wanted = {root_path()};
  for (const auto& table : running_->tables()) {
    if (!table || !wanted.insert(table_path(table->digest)).second) continue;
    if (access(table_path(table->digest).c_str(), F_OK) == 0) continue;
    if (auto ok = write_file(table_path(table->digest), table->bytes.bytes()); !ok) return ok;
  }
  if (auto ok = write_file(root_path(), running_->bytes().bytes()); !ok) return ok;

  for (const auto& entry : std::filesystem::directory_iterator(directory_, ec)) {
    if (!wanted.contains(entry.path().string())) unlink(entry.path().c_str());
  }
  return {};
}

bool ImageStore::has_unsaved_table() const {
  if (!running_) return false;
  const auto& tables = running_->tables();
  return std::any_of(tables.begin(), tables.end(), [this](const auto& table) {
    return table && access(table_path(table->digest).c_str(), F_OK) != 0;
  });
}

Result<bool> ImageStore::load() {
  if (access(root_path().c_str(), F_OK) != 0) return false;
  auto root = Mapping::from_file(root_path(), kRootBytesMax);
  if (!root) return tl::unexpected(root.error());
  if (auto ok = validate_root(root->bytes()); !ok)
    return fail(root_path() + ": " + ok.error().field, ok.error().message);

  const auto& head = *reinterpret_cast<const gw_root*>(root->data());
  const auto* pools = reinterpret_cast<const gw_pool*>(root->data() + head.pools_offset);
  for (uint32_t i = 0; i < head.pools; ++i) {
    const uint64_t digest = pools[i].table_digest;
    if (digest == 0 || tables_.contains(digest)) continue;
    auto bytes = Mapping::from_file(table_path(digest), kTableBytesMax);
    if (!bytes) return tl::unexpected(bytes.error());
    auto named = validate_table(bytes->bytes());
    if (named && *named != digest) named = fail("digest", "is " + hex(*named));
    if (!named) {
      // save() does not write a table again that is there.
      unlink(table_path(digest).c_str());
      return fail(table_path(digest) + ": " + named.error().field, named.error().message);
    }
    tables_[digest] = std::make_shared<const Table>(Table{digest, std::move(*bytes)});
  }
  const uint64_t generation = head.generation;
  if (auto ok = adopt_root(std::move(*root), generation); !ok) return tl::unexpected(ok.error());
  return true;
}

}  // namespace guideway
