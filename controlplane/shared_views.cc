// SPDX-License-Identifier: Apache-2.0
#include "controlplane/shared_views.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace guideway {

void SharedViews::take(const std::map<std::string, Cluster::Shared>& shared) {
  const auto is_gone = [&](const auto& entry) { return !shared.contains(entry.first); };
  std::erase_if(others_, is_gone);
  std::erase_if(revisions_, is_gone);
  for (const auto& [name, value] : shared) {
    if (name == node_ || std::exchange(revisions_[name], value.revision) == value.revision)
      continue;
    auto view = read_view(value.value, name);
    if (view) {
      others_[name] = std::move(*view);
      refused_.erase(value.key);
      continue;
    }
    others_.erase(name);
    const std::string& why = view.error().why;
    if (std::exchange(refused_[value.key], why) != why) spdlog::warn("{} {}", value.key, why);
  }
  std::erase_if(refused_, [&](const auto& entry) {
    for (const auto& [name, value] : shared)
      if (value.key == entry.first) return false;
    return true;
  });
}

void SharedViews::forget() {
  others_.clear();
  revisions_.clear();
  refused_.clear();
}

const HealthView* SharedViews::of(const std::string& node) const {
  if (node == node_) return &own_;
  const auto other = others_.find(node);
  return other == others_.end() ? nullptr : &other->second;
}

bool SharedViews::all_down(const std::vector<std::string>& nodes, const std::string& pool,
                           const Address& backend) const {
  return std::all_of(nodes.begin(), nodes.end(), [&](const std::string& node) {
    const HealthView* view = of(node);
    if (view == nullptr) return false;
    const auto found = view->pools.find(pool);
    if (found == view->pools.end()) return false;
    const auto sight = found->second.not_up.find(backend);
    return sight != found->second.not_up.end() && sight->second == Sight::down;
  });
}

std::optional<BackendSeen> SharedViews::seen(const std::string& pool,
                                             const Address& backend) const {
  BackendSeen out;
  const auto ask = [&](const std::string& name, const HealthView& view) {
    const auto found = view.pools.find(pool);
    if (found == view.pools.end()) return;
    const auto sight = found->second.not_up.find(backend);
    if (sight == found->second.not_up.end()) {
      out.nodes += found->second.cut ? 0 : 1;
      return;
    }
    ++out.nodes;
    if (sight->second == Sight::down || sight->second == Sight::no_way) out.down_on.push_back(name);
    if (sight->second == Sight::blind) out.blind_on.push_back(name);
  };
  bool own_asked = false;
  for (const auto& [name, view] : others_) {
    if (!own_asked && node_ < name) ask(node_, own_);
    own_asked = own_asked || node_ < name;
    ask(name, view);
  }
  if (!own_asked) ask(node_, own_);
  if (out.nodes < 2) return {};
  return out;
}

std::map<std::string, PoolOutlook> outlooks(const Intent& intent, const Health& health) {
  std::map<std::string, PoolOutlook> out;
  for (const auto& [name, pool] : intent.pools) {
    const PoolState* state = health.pool(name);
    if (state == nullptr) continue;
    PoolOutlook outlook = state->outlook();
    if (outlook.of > 0) out.emplace(name, std::move(outlook));
  }
  return out;
}

}  // namespace guideway
