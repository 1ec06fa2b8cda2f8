// SPDX-License-Identifier: Apache-2.0
// tc programs on interfaces: one of ours at clsact's ingress, in direct-action mode. Like an XDP
// program it outlives the process that attached it, and is recognised by its name.
//
// All calls work in the network namespace of the calling thread and need root. Errors name the
// interface in `field`.
#pragma once

#include <optional>
#include <string_view>

#include "bpf/attachment.h"
#include "controlplane/result.h"

namespace guideway {

// The program at our place, or none; `mode` has no meaning. If it is not called `program`, that is
// an error.
Result<std::optional<Attachment>> tc_attachment_of(const Interface& interface,
                                                   std::string_view program);

// Attaches the program, or puts it in the place of its forerunner in one step. Makes a clsact qdisc
// if there is none.
Result<void> tc_attach(const Interface& interface, int program_fd);

// Takes the program at our place off; that there is none is no error. The clsact qdisc stays:
// somebody else may have a use for it, and an empty one costs nothing.
Result<void> tc_detach(const Interface& interface);

}  // namespace guideway
