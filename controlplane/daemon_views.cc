// SPDX-License-Identifier: Apache-2.0
// What the daemon makes of the nodes' views of the backends: it tells its own, shows the others',
// and takes this node out where it stands alone (lone_view.h).
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "controlplane/daemon.h"

namespace guideway {
namespace {

// All pools are looked through: not for each of many changes.
constexpr std::chrono::milliseconds kLookLeast{100};

// When all nodes' probes have seen what one of them has seen first.
LoneView::Time holds(const Probe& probe) {
  if (probe.kind == ProbeKind::none) return LoneView::kHoldsLeast;
  return std::max(
      LoneView::kHoldsLeast,
      LoneView::Time(uint64_t{probe.interval_ms} * (probe.fall + 1) + probe.timeout_ms));
}

std::map<std::string, LoneView::Time> holds_of(const Intent& intent) {
  std::map<std::string, LoneView::Time> out;
  for (const auto& [key, service] : intent.services) {
    const auto pool = intent.pools.find(service.pool);
    if (pool != intent.pools.end()) out.try_emplace(service.pool, holds(pool->second.probe));
  }
  return out;
}

}  // namespace

void Daemon::look_at_views() {
  const auto clock = EventLoop::Clock::now();
  if (!delivery_->has_begun() || clock < views_looked_at_ + kLookLeast) return;
  views_looked_at_ = clock;
  const EtcdStore::State state = etcd_store_->state();
  const bool current =
      state.membership == EtcdStore::Membership::member && state.current && cluster_->is_current();
  if (current) {
    views_->take(cluster_->shared());
  } else {
    views_->forget();
  }
  HealthView own;
  own.pools = outlooks(*intent(), delivery_->health());
  const auto now = std::chrono::duration_cast<LoneView::Time>(clock.time_since_epoch());
  const auto before = lone_.out();
  lone_.step({config_.name, current, own, views_->others(), holds_of(*intent())}, now);
  for (const auto& [pool, why] : lone_.out())
    if (!before.contains(pool)) spdlog::warn("this node takes itself out: {}", why);
  for (const auto& [pool, why] : before)
    if (!lone_.out().contains(pool)) spdlog::info("this node is back: pool {}", pool);
  own.doubt = lone_.question();
  for (const auto& [pool, why] : lone_.out()) own.out.insert(pool);
  own.serves = current && own.out.empty() && delivery_->serves();
  for (const auto& [name, other] : views_->others())
    if (other.doubt != 0) own.answers[name] = other.doubt;
  delivery_->set_lone(lone_.out());
  cluster_->share(write_view(own, config_.name));
  views_->set_own(std::move(own));
  delivery_->set_agreed_down(agreed_down(current));
}

// What lives, or did a moment ago, may still forward.
std::map<std::string, std::set<Address>> Daemon::agreed_down(bool current) const {
  std::map<std::string, std::set<Address>> out;
  std::vector<std::string> nodes;
  for (const auto& [name, node] : cluster_->nodes()) nodes.push_back(name);
  if (!current || nodes.size() < 2) return out;
  for (const auto& [name, pool] : views_->own().pools)
    for (const auto& [address, sight] : pool.not_up)
      if (sight == Sight::down && views_->all_down(nodes, name, address)) out[name].insert(address);
  return out;
}

void Daemon::describe_views(Status& status) const {
  if (!status.cluster) return;
  for (const auto& [key, why] : views_->refused()) status.cluster->refused[key] = why;
  for (ClusterStatus::Node& node : status.cluster->nodes) {
    const HealthView* view = node.alive ? views_->of(node.name) : nullptr;
    if (view == nullptr) continue;
    node.down = 0;
    for (const auto& [pool, outlook] : view->pools) *node.down += outlook.of - outlook.up;
    node.out = view->out;
  }
  for (PoolStatus& pool : status.pools)
    for (BackendStatus& backend : pool.backends)
      backend.seen = views_->seen(pool.name, backend.address);
}

}  // namespace guideway
