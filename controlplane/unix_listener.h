// SPDX-License-Identifier: Apache-2.0
// A listening Unix stream socket with the right owner and mode before the first client can connect.
#pragma once

#include <string>

#include "controlplane/result.h"
#include "controlplane/unique_fd.h"

namespace guideway {

// Makes the directory if need be. A stale socket file is replaced; one that is listened on, or a
// file of another kind, is an error. `group` empty: the process's own.
Result<UniqueFd> listen_unix(const std::string& path, unsigned mode, const std::string& group,
                             int backlog);

}  // namespace guideway
