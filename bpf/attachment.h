// SPDX-License-Identifier: Apache-2.0
// XDP programs on interfaces: which are there, whose they are, how to put one there and take it
// off. Plain netlink attachment: it outlives the process that made it and needs no bpffs; a
// program is found again by interface and recognised by its name.
//
// All calls work in the network namespace of the calling thread, and need CAP_NET_ADMIN plus
// CAP_BPF and CAP_SYS_ADMIN (in practice: root). Errors name the interface in `field`.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/result.h"
#include "controlplane/unique_fd.h"

namespace guideway {

enum class XdpMode {
  native,   // in the driver
  generic,  // in the stack: any interface, slower
  offload,  // on the NIC itself; never ours
};
std::string_view xdp_mode_name(XdpMode mode);

struct Interface {
  std::string name;
  unsigned index = 0;

  static Result<Interface> find(const std::string& name);
};

struct Attachment {
  unsigned program_id = 0;
  XdpMode mode = XdpMode::native;
  std::string program;           // name, at most 15 bytes
  std::array<uint8_t, 8> tag{};  // the kernel's digest of the instructions
  UniqueFd fd;                   // of the program
};

// All programs on the interface; mostly none or one.
Result<std::vector<Attachment>> xdp_attachments(const Interface& interface);

// The program called `program`, or none. With another one there it is an error that names it and
// says how to take it off.
Result<std::optional<Attachment>> xdp_attachment_of(const Interface& interface,
                                                    std::string_view program);

// Whether this very program is on the interface; false as well if the interface is gone.
Result<bool> xdp_is_attached(const Interface& interface, unsigned program_id);

// Attaches where nothing is attached: native, else generic. `why_generic`, if not null, gets the
// reason native mode was refused.
Result<XdpMode> xdp_attach(const Interface& interface, int program_fd, std::string* why_generic);

// Puts another program in the place of `old` in one step. Fails if `old` is not there any more.
Result<void> xdp_replace(const Interface& interface, const Attachment& old, int program_fd);

// Takes exactly this program off; that it is gone already is no error.
Result<void> xdp_detach(const Interface& interface, const Attachment& attachment);

// What the kernel knows about a loaded program; takes the descriptor over. `mode` is not set.
Result<Attachment> describe_program(UniqueFd program);

}  // namespace guideway
