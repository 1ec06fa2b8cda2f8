// SPDX-License-Identifier: Apache-2.0
#include "controlplane/durable_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <utility>

#include "controlplane/unique_fd.h"

namespace guideway {
namespace {

tl::unexpected<Error> failed(const std::string& path, const char* what, int code) {
  return fail(path, std::string(what) + ": " + std::strerror(code));
}

Result<void> write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed(path, "cannot be written", errno);
    text.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

}  // namespace

Result<void> sync_directory(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || fsync(fd.get()) != 0) return failed(path, "cannot be synced", errno);
  return {};
}

Result<void> replace_file(const std::string& path, std::string_view text) {
  const std::string path_new = path + ".new";
  // What a crash left there, whatever it is, is not opened but replaced.
  if (unlink(path_new.c_str()) != 0 && errno != ENOENT)
    return failed(path_new, "cannot be removed", errno);
  UniqueFd fd(open(path_new.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) return failed(path_new, "cannot be made", errno);
  if (auto written = write_all(fd.get(), text, path_new); !written) return written;
  if (fsync(fd.get()) != 0) return failed(path_new, "cannot be synced", errno);
  if (rename(path_new.c_str(), path.c_str()) != 0) return failed(path, "cannot be replaced", errno);
  return sync_directory(std::filesystem::path(path).parent_path().string());
}

Result<std::optional<std::string>> read_file(const std::string& path, size_t bytes_max) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd && errno == ENOENT) return std::optional<std::string>();
  struct stat info = {};
  if (!fd || fstat(fd.get(), &info) != 0) return failed(path, "cannot be read", errno);
  if (!S_ISREG(info.st_mode)) return fail(path, "is not a regular file");
  if (static_cast<uint64_t>(info.st_size) > bytes_max) return fail(path, "is too big");
  std::string text(static_cast<size_t>(info.st_size), '\0');
  size_t have = 0;
  while (have < text.size()) {
    const ssize_t got = read(fd.get(), text.data() + have, text.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed(path, "cannot be read", errno);
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  text.resize(have);
  return std::optional<std::string>(std::move(text));
}

}  // namespace guideway
