// SPDX-License-Identifier: Apache-2.0
#include "bpf/attachment.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "bpf/complaints.h"

namespace guideway {

namespace {

// Without the padding after the last field: libbpf refuses what is not zero there.
constexpr size_t kAttachOptionsSize = offsetof(bpf_xdp_attach_opts, old_prog_fd) + sizeof(int);
constexpr size_t kQueryOptionsSize = offsetof(bpf_xdp_query_opts, attach_mode) + sizeof(uint8_t);

std::string reason(int error) {
  return std::strerror(error < 0 ? -error : error);
}

// The kernel's own words, if it had some.
std::string reason(int error, const Complaints& complaints) {
  return complaints.first().empty() ? reason(error) : complaints.first();
}

std::string root_hint(int error) {
  return std::abs(error) == EPERM ? "run it as root" : std::string{};
}

uint32_t mode_flag(XdpMode mode) {
  switch (mode) {
    case XdpMode::generic:
      return XDP_FLAGS_SKB_MODE;
    case XdpMode::offload:
      return XDP_FLAGS_HW_MODE;
    case XdpMode::native:
      break;
  }
  return XDP_FLAGS_DRV_MODE;
}

bpf_xdp_attach_opts instead_of(const Attachment& attachment) {
  bpf_xdp_attach_opts options{};
  options.sz = kAttachOptionsSize;
  options.old_prog_fd = attachment.fd.get();
  return options;
}

// The bpf_link that holds a program on an interface, or 0: such a program comes off by its link.
uint32_t link_of(const Interface& interface, unsigned program_id) {
  uint32_t id = 0;
  while (bpf_link_get_next_id(id, &id) == 0) {
    UniqueFd link(bpf_link_get_fd_by_id(id));
    bpf_link_info info{};
    uint32_t size = sizeof info;
    if (!link || bpf_obj_get_info_by_fd(link.get(), &info, &size) != 0) continue;
    if (info.type == BPF_LINK_TYPE_XDP && info.prog_id == program_id &&
        info.xdp.ifindex == interface.index)
      return id;
  }
  return 0;
}

std::string how_to_take_off(const Interface& interface, const Attachment& attachment) {
  if (uint32_t link = link_of(interface, attachment.program_id))
    return "stop its owner, or: bpftool link detach id " + std::to_string(link);
  const char* word = attachment.mode == XdpMode::generic   ? "xdpgeneric"
                     : attachment.mode == XdpMode::offload ? "xdpoffload"
                                                           : "xdpdrv";
  return "stop its owner, or: ip link set dev " + interface.name + " " + word + " off";
}

Result<Attachment> attached(const Interface& interface, unsigned id, XdpMode mode) {
  UniqueFd program(bpf_prog_get_fd_by_id(id));
  if (!program) {
    int error = errno;
    return fail(interface.name, "XDP program " + std::to_string(id) + ": " + reason(error),
                root_hint(error));
  }
  Result<Attachment> known = describe_program(std::move(program));
  if (known) known->mode = mode;
  return known;
}

}  // namespace

std::string_view xdp_mode_name(XdpMode mode) {
  switch (mode) {
    case XdpMode::generic:
      return "generic";
    case XdpMode::offload:
      return "offload";
    case XdpMode::native:
      break;
  }
  return "native";
}

Result<Interface> Interface::find(const std::string& name) {
  unsigned index = if_nametoindex(name.c_str());
  if (index == 0) return fail(name, "no such interface", "ip link");
  return Interface{name, index};
}

Result<Attachment> describe_program(UniqueFd program) {
  bpf_prog_info info{};
  uint32_t size = sizeof info;
  if (int error = bpf_obj_get_info_by_fd(program.get(), &info, &size); error != 0)
    return fail("", "BPF program: " + reason(error), root_hint(error));
  Attachment known;
  known.program_id = info.id;
  known.program = info.name;
  std::memcpy(known.tag.data(), info.tag, known.tag.size());
  known.fd = std::move(program);
  return known;
}

Result<std::vector<Attachment>> xdp_attachments(const Interface& interface) {
  bpf_xdp_query_opts query{};
  query.sz = kQueryOptionsSize;
  if (int error = bpf_xdp_query(static_cast<int>(interface.index), 0, &query); error != 0)
    return fail(interface.name, "asking for XDP programs: " + reason(error), root_hint(error));

  std::vector<Attachment> all;
  const std::pair<uint32_t, XdpMode> slots[] = {{query.drv_prog_id, XdpMode::native},
                                                {query.skb_prog_id, XdpMode::generic},
                                                {query.hw_prog_id, XdpMode::offload}};
  for (auto [id, mode] : slots) {
    if (id == 0) continue;
    Result<Attachment> one = attached(interface, id, mode);
    if (!one) return tl::unexpected(one.error());
    all.push_back(std::move(*one));
  }
  return all;
}

Result<std::optional<Attachment>> xdp_attachment_of(const Interface& interface,
                                                    std::string_view program) {
  Result<std::vector<Attachment>> all = xdp_attachments(interface);
  if (!all) return tl::unexpected(all.error());
  std::optional<Attachment> found;
  for (Attachment& one : *all) {
    if (one.program != program)
      return fail(interface.name,
                  "runs the XDP program '" + one.program + "' (id " +
                      std::to_string(one.program_id) + "), which is not '" + std::string(program) +
                      "'",
                  how_to_take_off(interface, one));
    found = std::move(one);
  }
  return found;
}

Result<bool> xdp_is_attached(const Interface& interface, unsigned program_id) {
  return xdp_attachments(interface).map([&](const std::vector<Attachment>& all) {
    return std::any_of(all.begin(), all.end(),
                       [&](const Attachment& one) { return one.program_id == program_id; });
  });
}

Result<XdpMode> xdp_attach(const Interface& interface, int program_fd, std::string* why_generic) {
  int index = static_cast<int>(interface.index);
  Complaints complaints;
  int native =
      bpf_xdp_attach(index, program_fd, XDP_FLAGS_UPDATE_IF_NOEXIST | XDP_FLAGS_DRV_MODE, nullptr);
  if (native == 0) return XdpMode::native;
  // Generic mode would be refused alike, or its answer would hide the true one.
  if (native == -EPERM || native == -EBUSY || native == -EEXIST)
    return fail(interface.name, "attaching an XDP program: " + reason(native, complaints),
                root_hint(native));

  const std::string refusal = reason(native, complaints);
  if (why_generic) *why_generic = refusal;
  int generic =
      bpf_xdp_attach(index, program_fd, XDP_FLAGS_UPDATE_IF_NOEXIST | XDP_FLAGS_SKB_MODE, nullptr);
  if (generic == 0) return XdpMode::generic;
  return fail(interface.name,
              "attaching an XDP program: native: " + refusal + "; generic: " + reason(generic));
}

Result<void> xdp_replace(const Interface& interface, const Attachment& old, int program_fd) {
  bpf_xdp_attach_opts options = instead_of(old);
  Complaints complaints;
  int error = bpf_xdp_attach(static_cast<int>(interface.index), program_fd,
                             mode_flag(old.mode) | XDP_FLAGS_REPLACE, &options);
  if (error == 0) return {};
  return fail(interface.name, "replacing XDP program " + std::to_string(old.program_id) + ": " +
                                  reason(error, complaints));
}

Result<void> xdp_detach(const Interface& interface, const Attachment& attachment) {
  bpf_xdp_attach_opts options = instead_of(attachment);
  Complaints complaints;
  int error = bpf_xdp_detach(static_cast<int>(interface.index),
                             mode_flag(attachment.mode) | XDP_FLAGS_REPLACE, &options);
  if (error == 0) return {};

  Result<bool> left = xdp_is_attached(interface, attachment.program_id);
  if (left && !*left) return {};
  return fail(interface.name,
              "detaching XDP program " + std::to_string(attachment.program_id) + ": " +
                  reason(error, complaints),
              how_to_take_off(interface, attachment));
}

}  // namespace guideway
