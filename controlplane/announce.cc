// SPDX-License-Identifier: Apache-2.0
#include "controlplane/announce.h"

#include <algorithm>
#include <string_view>

namespace guideway {
namespace {

Decision worst(const Decision& a, const Decision& b) {
  return b.announcement > a.announcement ? b : a;
}

// By the node alone.
Decision by_node(const NodeFacts& node) {
  if (node.mode == NodeMode::drained) return {Announcement::withdrawn, "the node is drained"};
  if (node.mode == NodeMode::draining) return {Announcement::reduced, "the node is draining"};
  if (node.lease_lapsing) {
    return {Announcement::reduced,
            "the node may be behind its cluster: its lease lapses, or it catches up"};
  }
  return {Announcement::normal, ""};
}

// Why a service is not ready; empty if it is. One in panic is not asked for here.
std::string lack_of(const ServiceFacts& service, const AnnounceRules& rules) {
  if (service.health == ServiceHealth::down) return service.name + " is down";
  if (service.healthy >= rules.min_healthy) return "";
  return service.name + ": pool " + service.pool + " has " + std::to_string(service.healthy) +
         " healthy backends and needs " + std::to_string(rules.min_healthy);
}

Decision by_services(const VipFacts& vip, const AnnounceRules& rules) {
  for (const ServiceFacts& service : vip.services)
    if (!service.lone.empty()) return {Announcement::withdrawn, service.lone, false};
  size_t lacking = 0;
  std::string first_lack, first_panic;
  for (const ServiceFacts& service : vip.services) {
    if (service.health == ServiceHealth::panic) {
      if (first_panic.empty()) first_panic = "pool " + service.pool + " is in panic";
      continue;
    }
    std::string lack = lack_of(service, rules);
    if (lack.empty()) continue;
    if (++lacking == 1) first_lack = std::move(lack);
  }
  if (!first_panic.empty() && rules.panic_withdraws) {
    return {Announcement::withdrawn, first_panic, true};
  }
  if (lacking > 0 && lacking == vip.services.size()) {
    return {Announcement::withdrawn,
            lacking == 1 ? first_lack : "no service is ready, for one: " + first_lack, true};
  }
  if (!first_panic.empty()) return {Announcement::reduced, first_panic, true};
  if (lacking == 0) return {Announcement::normal, "", false};
  std::string count = std::to_string(lacking) + " of " + std::to_string(vip.services.size()) +
                      " services not ready, for one: ";
  return {Announcement::reduced, count + first_lack, true};
}

}  // namespace

const char* announcement_name(Announcement announcement) {
  switch (announcement) {
    case Announcement::normal:
      return "normal";
    case Announcement::reduced:
      return "reduced";
    case Announcement::withdrawn:
      break;
  }
  return "withdrawn";
}

const char* node_mode_name(NodeMode mode) {
  switch (mode) {
    case NodeMode::normal:
      return "normal";
    case NodeMode::draining:
      return "draining";
    case NodeMode::drained:
      break;
  }
  return "drained";
}

Decision decide(const VipFacts& vip, const NodeFacts& node, const AnnounceRules& rules,
                Announcement before) {
  if (node.dataplane == DataplaneLife::dead) {
    return {Announcement::withdrawn, "the dataplane is dead"};
  }
  const Decision by_mode = by_node(node);
  if (node.dataplane == DataplaneLife::unsure) {
    return worst({before, "held as it was: the state of the dataplane is not known"}, by_mode);
  }
  if (!vip.adopted) {
    return {Announcement::withdrawn, "the dataplane has adopted no image with it yet"};
  }
  return worst(by_mode, by_services(vip, rules));
}

}  // namespace guideway
