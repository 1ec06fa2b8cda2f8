// SPDX-License-Identifier: Apache-2.0
// What a node says of itself, as JSON.
#pragma once

#include <cstdint>
#include <string>

#include "controlplane/result.h"

namespace guideway {

struct NodeReport {
  std::string id;           // made at random with its state directory: who has the name
  std::string version;      // of Guideway
  uint64_t intent = 0;      // the revision that it knows
  uint64_t revision = 0;    // the one that its dataplane runs
  uint64_t generation = 0;  // of its dataplane
  uint64_t digest = 0;      // of the tables of `revision`; equal revisions have equal ones
  bool operator==(const NodeReport&) const = default;
};

std::string write_report(const NodeReport& report);
Result<NodeReport> read_report(const std::string& text);

}  // namespace guideway
