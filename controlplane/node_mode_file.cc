// SPDX-License-Identifier: Apache-2.0
#include "controlplane/node_mode_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "controlplane/json_text.h"
#include "controlplane/unique_fd.h"

namespace guideway {
namespace {

constexpr size_t kBytesMax = 4096;

tl::unexpected<Error> failed(const std::string& path, const char* what) {
  return fail(path, std::string(what) + ": " + std::strerror(errno));
}

tl::unexpected<Error> damaged(const std::string& path, const std::string& why) {
  return fail(path, "is damaged: " + why,
              "write {\"mode\":\"normal\"} or {\"mode\":\"drained\"} to it, or remove it");
}

}  // namespace

Result<NodeMode> NodeModeFile::load() const {
  UniqueFd fd(open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd && errno == ENOENT) return NodeMode::normal;
  if (!fd) return failed(path_, "cannot be read");
  std::string text(kBytesMax, '\0');
  const ssize_t got = read(fd.get(), text.data(), text.size());
  if (got < 0) return failed(path_, "cannot be read");
  text.resize(static_cast<size_t>(got));
  auto json = parse_json(text, "");
  if (!json) return damaged(path_, json.error().text());
  if (!json->is_object() || json->size() != 1 || !json->contains("mode")) {
    return damaged(path_, "it must hold \"mode\" and nothing else");
  }
  for (NodeMode mode : {NodeMode::normal, NodeMode::draining, NodeMode::drained}) {
    if ((*json)["mode"] == node_mode_name(mode)) return mode;
  }
  return damaged(path_, "mode must be normal, draining or drained");
}

Result<void> NodeModeFile::save(NodeMode mode) const {
  const std::string text = std::string("{\"mode\":\"") + node_mode_name(mode) + "\"}\n";
  const std::string path_new = path_ + ".new";
  // What a crash left there, whatever it is, is not opened but replaced.
  if (unlink(path_new.c_str()) != 0 && errno != ENOENT) {
    return failed(path_new, "cannot be removed");
  }
  UniqueFd fd(open(path_new.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) return failed(path_new, "cannot be made");
  if (write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      fsync(fd.get()) != 0) {
    return failed(path_new, "cannot be written");
  }
  if (rename(path_new.c_str(), path_.c_str()) != 0) return failed(path_, "cannot be replaced");
  const std::string directory = std::filesystem::path(path_).parent_path().string();
  UniqueFd parent(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent || fsync(parent.get()) != 0) return failed(directory, "cannot be synced");
  return {};
}

}  // namespace guideway
