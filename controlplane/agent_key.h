// SPDX-License-Identifier: Apache-2.0
// The key that nodes and agents share: who has it may ask an agent what it holds
// (agent_protocol.h). One file, the same on all nodes and backends, readable by its owner only.
#pragma once

#include <string>
#include <string_view>

#include "controlplane/result.h"

namespace guideway {

struct AgentKey {
  std::string bytes;  // 32 and more

  // What a key file holds: 64 to 256 hex digits, white space after them ignored, or 32 to 64 bytes
  // of any kind, all of which count, a line's end too. Hex digits alone are never taken for bytes:
  // 32 of them would be a key of half the strength. Errors name `file`.
  static Result<AgentKey> parse(std::string_view content, const std::string& file);
  // Refuses what others than its owner (root, or who runs this) may read or write.
  static Result<AgentKey> load(const std::string& path);
};

// A new key of 256 bits as 64 hex digits, from the kernel's generator.
Result<std::string> fresh_agent_key();

}  // namespace guideway
