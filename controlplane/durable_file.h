// SPDX-License-Identifier: Apache-2.0
// Small files that must be whole whenever the machine stops.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "controlplane/result.h"

namespace guideway {

// Replaces the file atomically: PATH.new is written and fsynced, renamed, and the directory
// fsynced. Mode 0600. After an error the file holds either of the two.
Result<void> replace_file(const std::string& path, std::string_view text);

// Nothing if there is no such file. No link is followed; a file over `bytes_max` is an error.
Result<std::optional<std::string>> read_file(const std::string& path, size_t bytes_max);

Result<void> sync_directory(const std::string& path);

}  // namespace guideway
