// SPDX-License-Identifier: Apache-2.0
#include "bpf/tc_attachment.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "bpf/complaints.h"

namespace guideway {

namespace {

// First of all programs, so that another's verdict does not keep a packet from ours; the handle is
// "gw", by which we find our own among others of that priority.
constexpr uint32_t kPriority = 1;
constexpr uint32_t kHandle = 0x6777;

constexpr size_t kHookSize = offsetof(bpf_tc_hook, parent) + sizeof(uint32_t);
constexpr size_t kOptionsSize = offsetof(bpf_tc_opts, priority) + sizeof(uint32_t);

bpf_tc_hook ingress_of(const Interface& interface) {
  bpf_tc_hook hook{};
  hook.sz = kHookSize;
  hook.ifindex = static_cast<int>(interface.index);
  hook.attach_point = BPF_TC_INGRESS;
  return hook;
}

bpf_tc_opts our_place() {
  bpf_tc_opts options{};
  options.sz = kOptionsSize;
  options.handle = kHandle;
  options.priority = kPriority;
  return options;
}

tl::unexpected<Error> tc_error(const Interface& interface, const std::string& what, int error,
                               const Complaints& complaints) {
  std::string reason = complaints.first().empty() ? std::strerror(-error) : complaints.first();
  return fail(interface.name, what + ": " + reason, error == -EPERM ? "run it as root" : "");
}

// No qdisc, or no filter of ours in it.
bool nothing_there(int error) {
  return error == -ENOENT || error == -EINVAL;
}

}  // namespace

Result<std::optional<Attachment>> tc_attachment_of(const Interface& interface,
                                                   std::string_view program) {
  bpf_tc_hook hook = ingress_of(interface);
  bpf_tc_opts options = our_place();
  Complaints complaints;
  if (int error = bpf_tc_query(&hook, &options); error != 0) {
    if (nothing_there(error)) return std::optional<Attachment>{};
    return tc_error(interface, "asking for tc programs", error, complaints);
  }
  Result<Attachment> there = describe_program(UniqueFd(bpf_prog_get_fd_by_id(options.prog_id)));
  if (!there) return tl::unexpected(there.error());
  if (there->program != program)
    return fail(
        interface.name,
        "has the tc program '" + there->program + "' where '" + std::string(program) + "' would be",
        "stop its owner, or: tc filter del dev " + interface.name +
            " ingress protocol all pref 1 handle 0x6777 bpf");
  return std::optional<Attachment>(std::move(*there));
}

Result<void> tc_attach(const Interface& interface, int program_fd) {
  bpf_tc_hook hook = ingress_of(interface);
  Complaints complaints;
  if (int error = bpf_tc_hook_create(&hook); error != 0 && error != -EEXIST)
    return tc_error(interface, "making a clsact qdisc", error, complaints);
  bpf_tc_opts options = our_place();
  options.prog_fd = program_fd;
  options.flags = BPF_TC_F_REPLACE;
  if (int error = bpf_tc_attach(&hook, &options); error != 0)
    return tc_error(interface, "attaching a tc program", error, complaints);
  return {};
}

Result<void> tc_detach(const Interface& interface) {
  bpf_tc_hook hook = ingress_of(interface);
  bpf_tc_opts options = our_place();
  Complaints complaints;
  int error = bpf_tc_detach(&hook, &options);
  if (error == 0 || nothing_there(error)) return {};
  return tc_error(interface, "detaching a tc program", error, complaints);
}

}  // namespace guideway
