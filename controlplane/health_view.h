// SPDX-License-Identifier: Apache-2.0
// What a node tells the others of its backends: for each pool, how many of those that are to take
// flows are up, and which are not. In etcd it is the value of live/views/NAME, sealed
// (sealed_text.h) under "views/NAME", with the node's lease:
//
//   {"serves":true,"out":[],"doubt":0,"answers":{"n2":4},
//    "pools":{"web":{"of":3,"up":2,"not_up":{"10.0.0.21":"down"}}}}
//
// Doubts, their answers and what is out: lone_view.h.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "controlplane/pool_state.h"
#include "controlplane/sealed_text.h"

namespace guideway {

struct HealthView {
  bool serves = false;        // its VIPs are announced as the operator wants, and it is out of none
  std::set<std::string> out;  // pools whose VIPs it has withdrawn, for it alone sees them dead
  uint64_t doubt = 0;         // the number of the question that it asks the others; 0: none
  std::map<std::string, uint64_t> answers;  // by node: the newest question of it that was read
  std::map<std::string, PoolOutlook> pools;
  bool operator==(const HealthView&) const = default;
};

// Of all pools together; what is more is counted, and its pool marked `cut`.
inline constexpr size_t kViewNotUpMax = 500;
// Pools with trouble come first; what is more is left out.
inline constexpr size_t kViewPoolsMax = 1000;

std::string write_view(const HealthView& view, const std::string& node);

// A newer format: `newer`. Fields that this version does not know are left aside.
tl::expected<HealthView, Unsealable> read_view(std::string_view text, const std::string& node);

}  // namespace guideway
