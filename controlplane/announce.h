// SPDX-License-Identifier: Apache-2.0
// Whether and how a VIP is to be announced from this node: a pure function of what is known. The
// rules are those of docs/bgp.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace guideway {

enum class Announcement : uint8_t { normal, reduced, withdrawn };
const char* announcement_name(Announcement announcement);

// What the operator wants of this node, and how far it is. `draining`: on the way to drained.
enum class NodeMode : uint8_t { normal, draining, drained };
const char* node_mode_name(NodeMode mode);

// `unsure`: the control plane has just started, the connection has just ended, the image that runs
// is one that this control plane knows nothing of, or the dataplane is one of another layout. What
// is announced then stays as it is.
enum class DataplaneLife : uint8_t { alive, dead, unsure };

// `panic`: no backend would remain, so the last ones known are used.
enum class ServiceHealth : uint8_t { ready, degraded, down, panic };

struct ServiceFacts {
  std::string name;  // "203.0.113.10:443/tcp"
  std::string pool;
  ServiceHealth health = ServiceHealth::down;
  uint32_t healthy = 0;   // backends of its pool
  std::string lone = {};  // why this node is no way to them although others are; empty: it may be
};

struct VipFacts {
  std::vector<ServiceFacts> services;  // at least one
  bool adopted = false;                // the dataplane runs an image that has the VIP
};

struct NodeFacts {
  DataplaneLife dataplane = DataplaneLife::unsure;
  NodeMode mode = NodeMode::normal;
  bool lease_lapsing = false;  // the node may soon not be counted among the cluster's
};

struct AnnounceRules {
  uint32_t min_healthy = 1;      // backends that a pool needs for its services to be ready
  bool panic_withdraws = false;  // else it reduces
};

struct Decision {
  Announcement announcement = Announcement::withdrawn;
  std::string reason;       // a phrase; empty if normal and sure
  bool may_settle = false;  // judged by backends, which come and go: nothing is lost by a moment's
                            // patience before it gets worse
  bool operator==(const Decision&) const = default;
};

// `before`: what is announced now.
Decision decide(const VipFacts& vip, const NodeFacts& node, const AnnounceRules& rules,
                Announcement before);

}  // namespace guideway
