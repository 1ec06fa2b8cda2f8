// SPDX-License-Identifier: Apache-2.0
#include "controlplane/unix_listener.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>
#include <vector>

namespace guideway {
namespace {

Result<gid_t> group_id(const std::string& name) {
  std::vector<char> buffer(65536);
  group entry = {};
  group* found = nullptr;
  if (getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 ||
      found == nullptr) {
    return fail("control.group", "there is no group '" + name + "'", "groupadd --system " + name);
  }
  return entry.gr_gid;
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail(path, "is too long for a socket");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

Result<void> remove_stale(const std::string& path, const sockaddr_un& address) {
  struct stat info = {};
  if (lstat(path.c_str(), &info) != 0) return {};
  if (!S_ISSOCK(info.st_mode)) return fail(path, "is there already and is no socket");
  UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  int connected = connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  // EAGAIN: its backlog is full, so somebody is there.
  if (connected == 0 || errno == EAGAIN) {
    return fail(path, "another process listens here", "stop it: a node has one control plane");
  }
  if (errno != ECONNREFUSED) {
    return fail(path, std::string("cannot be tried: ") + std::strerror(errno));
  }
  if (unlink(path.c_str()) != 0) {
    return fail(path, std::string("cannot be removed: ") + std::strerror(errno));
  }
  return {};
}

}  // namespace

Result<UniqueFd> listen_unix(const std::string& path, unsigned mode, const std::string& group,
                             int backlog) {
  auto address = address_of(path);
  if (!address) return tl::unexpected(address.error());
  std::optional<gid_t> gid;
  if (!group.empty()) {
    auto found = group_id(group);
    if (!found) return tl::unexpected(found.error());
    gid = *found;
  }
  std::error_code failed;
  const std::filesystem::path directory = std::filesystem::path(path).parent_path();
  std::filesystem::create_directories(directory, failed);
  if (failed) return fail(directory.string(), "cannot be made: " + failed.message());
  if (auto removed = remove_stale(path, *address); !removed) {
    return tl::unexpected(removed.error());
  }
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // Nobody can connect between bind() and listen(): there the mode is set.
  if (!fd || bind(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) {
    return fail(path, std::string("cannot be bound: ") + std::strerror(errno));
  }
  bool owned = !gid || chown(path.c_str(), static_cast<uid_t>(-1), *gid) == 0;
  if (!owned || chmod(path.c_str(), mode) != 0 || listen(fd.get(), backlog) != 0) {
    return fail(path, std::string("cannot be set up: ") + std::strerror(errno));
  }
  return fd;
}

}  // namespace guideway
