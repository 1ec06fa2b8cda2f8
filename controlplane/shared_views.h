// SPDX-License-Identifier: Apache-2.0
// What the nodes of a cluster see of the backends: the others' views as they come from etcd, this
// node's own, and who sees what of one backend.
//
// Lives in the loop's thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/cluster.h"
#include "controlplane/health.h"
#include "controlplane/health_view.h"
#include "controlplane/intent.h"

namespace guideway {

// Of one backend. Names in order.
struct BackendSeen {
  std::vector<std::string> down_on;   // down there, or no way to it
  std::vector<std::string> blind_on;  // probed there, but nothing can be told
  uint32_t nodes = 0;                 // that can say, this one included
};

class SharedViews {
 public:
  explicit SharedViews(std::string node) : node_(std::move(node)) {}

  // All that is in etcd now. What cannot be read counts as not there.
  void take(const std::map<std::string, Cluster::Shared>& shared);
  // Nothing is known of the others any more.
  void forget();
  void set_own(HealthView own) { own_ = std::move(own); }

  const HealthView& own() const { return own_; }
  const std::map<std::string, HealthView>& others() const { return others_; }
  // This node's included; null: none that can be read.
  const HealthView* of(const std::string& node) const;
  // Keys that cannot be read, and why.
  const std::map<std::string, std::string>& refused() const { return refused_; }

  // All of these nodes, this one included, see it down.
  bool all_down(const std::vector<std::string>& nodes, const std::string& pool,
                const Address& backend) const;

  // None: nobody else can say.
  std::optional<BackendSeen> seen(const std::string& pool, const Address& backend) const;

 private:
  const std::string node_;
  HealthView own_;
  std::map<std::string, HealthView> others_;
  std::map<std::string, int64_t> revisions_;  // of what was read, or refused
  std::map<std::string, std::string> refused_;
};

// The pools of a view, as this node sees them now.
std::map<std::string, PoolOutlook> outlooks(const Intent& intent, const Health& health);

}  // namespace guideway
