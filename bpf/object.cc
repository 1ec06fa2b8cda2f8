// SPDX-License-Identifier: Apache-2.0
#include "bpf/object.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "bpf/complaints.h"

namespace guideway {

namespace {

tl::unexpected<Error> load_error(const std::string& path, int error, const Complaints& complaints) {
  std::string message = std::strerror(error);
  if (error != ENOENT && !complaints.first().empty()) message += ": " + complaints.first();
  std::string hint;
  if (error == EPERM) hint = "run it as root";
  if (error == ENOENT) hint = "install it, or set GUIDEWAY_BPF_DIR";
  return fail(path, message, hint);
}

}  // namespace

std::string default_bpf_dir() {
  const char* set = std::getenv("GUIDEWAY_BPF_DIR");
  return set && *set ? set : GW_BPF_DIR;
}

Result<BpfObject> BpfObject::load(const std::string& path) {
  Complaints complaints;
  BpfObject loaded;
  loaded.path_ = path;
  loaded.object_.reset(bpf_object__open_file(path.c_str(), nullptr));
  if (!loaded.object_) return load_error(path, errno, complaints);
  if (int error = bpf_object__load(loaded.object_.get()); error != 0)
    return load_error(path, -error, complaints);
  return loaded;
}

Result<int> BpfObject::program_fd(const std::string& name) const {
  bpf_program* program = bpf_object__find_program_by_name(object_.get(), name.c_str());
  if (!program) return fail(path_, "has no program '" + name + "'");
  return bpf_program__fd(program);
}

Result<UniqueFd> BpfObject::program(const std::string& name) const {
  Result<int> owned = program_fd(name);
  if (!owned) return tl::unexpected(owned.error());
  UniqueFd copy(fcntl(*owned, F_DUPFD_CLOEXEC, 0));
  if (!copy) return fail(path_, "duplicating a descriptor: " + std::string(std::strerror(errno)));
  return copy;
}

Result<int> BpfObject::map_fd(const std::string& name) const {
  int fd = bpf_object__find_map_fd_by_name(object_.get(), name.c_str());
  if (fd < 0) return fail(path_, "has no map '" + name + "'");
  return fd;
}

}  // namespace guideway
