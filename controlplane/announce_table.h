// SPDX-License-Identifier: Apache-2.0
// Which routing table holds the announcements (see signal_routes.h), kept beside the sockets: so
// they are found, and withdrawn, also when node.toml names another table by now, or cannot be read.
#pragma once

#include <optional>
#include <string>

#include "controlplane/result.h"

namespace guideway {

// The table of the control plane that ran last with this run folder. Nothing: none did.
std::optional<unsigned> remembered_announce_table(const std::string& run_dir);

// To be called before the first announcement. Withdraws what is in the table of before, if that was
// another one.
Result<void> remember_announce_table(const std::string& run_dir, unsigned table);

}  // namespace guideway
