// SPDX-License-Identifier: Apache-2.0
#include "controlplane/health.h"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>

#include "bpf/layout.h"
#include "controlplane/image.h"
#include "controlplane/outer_header.h"
#include "controlplane/pool_plan.h"
#include "dataplane/headers.h"

namespace guideway {
namespace {

using namespace std::chrono_literals;

// Far away in either family, and nobody's: RFC 2544 and RFC 5180 keep them for benchmarks. Only the
// kernel's route to them is asked for; nothing is sent there.
const Address kFar4 = *Address::parse("198.18.0.1");
const Address kFar6 = *Address::parse("2001:2::1");

constexpr auto kIdRests = 60s;
constexpr auto kTargetsTogether = 1ms;  // of many changes of ways, one list of targets
constexpr auto kPatienceMost = 3s;
constexpr size_t kCanariesMax = 4;

// An address of the interface that other hosts can answer to.
std::optional<Address> local_address(const std::string& interface, bool v4) {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return {};
  std::optional<Address> found;
  for (const ifaddrs* one = all; one && !found; one = one->ifa_next) {
    if (!one->ifa_addr || interface != one->ifa_name) continue;
    if (v4 && one->ifa_addr->sa_family == AF_INET) {
      found = Address::from_v4(reinterpret_cast<const uint8_t*>(
          &reinterpret_cast<sockaddr_in*>(one->ifa_addr)->sin_addr));
    }
    if (!v4 && one->ifa_addr->sa_family == AF_INET6) {
      const auto& address = reinterpret_cast<sockaddr_in6*>(one->ifa_addr)->sin6_addr;
      if (!IN6_IS_ADDR_LINKLOCAL(&address)) found = Address::from_v6(address.s6_addr);
    }
  }
  freeifaddrs(all);
  return found;
}

std::string port_name(const PortConfig& port, size_t index) {
  if (!port.interface.empty()) return port.interface;
  return port.tap.empty() ? "gw" + std::to_string(index) : port.tap;
}

// The first service in order that a probe of this kind can stand for.
std::map<std::string, Address> vips_of(const Intent& intent) {
  std::map<std::string, Address> out;
  for (const auto& [key, service] : intent.services) out.try_emplace(service.pool, key.vip);
  return out;
}

bool is_probed(const Pool& pool) {
  return pool.probe.kind != ProbeKind::none;
}

bool is_any_probed(const Intent& intent) {
  return std::any_of(intent.pools.begin(), intent.pools.end(),
                     [](const auto& entry) { return is_probed(entry.second); });
}

}  // namespace

Health::Health(EventLoop& loop, const NodeConfig& config, std::string edge_object,
               NextHopOf next_hop, std::function<void(bool)> on_change)
    : loop_(loop),
      config_(config),
      edge_object_(std::move(edge_object)),
      next_hop_(std::move(next_hop)),
      on_change_(std::move(on_change)) {}

Health::~Health() {
  for (EventLoop::TimerId timer : {patience_timer_, slow_timer_, targets_timer_}) {
    loop_.cancel(timer);
  }
}

bool Health::anything_probed() const {
  return intent_ != nullptr && is_any_probed(*intent_);
}

void Health::set_intent(std::shared_ptr<const Intent> intent) {
  const bool first = intent_ == nullptr;
  intent_ = std::move(intent);
  vips_ = vips_of(*intent_);
  std::erase_if(pools_, [&](const auto& entry) { return !intent_->pools.contains(entry.first); });
  std::set<std::string> all;
  EventLoop::Clock::duration patience = 300ms;
  for (const auto& [name, pool] : intent_->pools) {
    PoolState& state = pools_[name];
    state.configure(pool, first, monotonic_ns());
    for (const Address& address : table_addresses(pool)) {
      const std::string problem = next_hop_problem(pool.forwarding, address, next_hop_(address));
      state.reachable(address, problem.empty(), problem);
    }
    all.insert(name);
    if (!is_probed(pool)) continue;
    const Probe& probe = pool.probe;
    patience = std::max<EventLoop::Clock::duration>(
        patience,
        300ms + std::chrono::milliseconds(probe.interval_ms * probe.fall + probe.timeout_ms));
  }
  if (first) {
    begun_ = true;
    patience_timer_ =
        loop_.after(std::min<EventLoop::Clock::duration>(patience, kPatienceMost), [this] {
          patience_over_ = true;
          on_change_(true);
        });
  }
  // At once: one that goes and comes back before the targets are sent is another, and judged anew.
  release_ids(probed());
  schedule_targets();
  settle(all);
}

std::set<Address> Health::watched(const Intent& intent) {
  if (!is_any_probed(intent)) return {};
  return {kFar4, kFar6};
}

void Health::all_ways_changed() {
  if (intent_ != nullptr) set_intent(intent_);
}

void Health::ways_changed(const std::vector<Address>& changed) {
  if (intent_ == nullptr || changed.empty()) return;
  std::set<std::string> touched;
  for (const auto& [name, pool] : intent_->pools) {
    for (const Address& address : changed) {
      if (!pools_[name].has(address)) continue;
      const std::string problem = next_hop_problem(pool.forwarding, address, next_hop_(address));
      pools_[name].reachable(address, problem.empty(), problem);
      touched.insert(name);
    }
  }
  settle(touched);
  schedule_targets();
}

void Health::set_dataplane(uint64_t connection) {
  connection_ = connection;
  if (prober_ != nullptr) prober_->set_ports(ports());
}

// ------------------------------------------------------------------ verdicts

void Health::on_changes(const std::vector<ProbeChange>& changes) {
  std::map<std::string, std::map<Address, uint64_t>> touched;
  std::map<Name, uint64_t> decided_ns;
  std::set<std::string> pools;
  const bool was_settled = settled();
  for (const ProbeChange& change : changes) {
    const auto name = names_.find(change.id);
    if (name == names_.end()) continue;
    if (change.change.seen != Seen::unknown) unjudged_.erase(change.id);
    const auto pool = pools_.find(name->second.first);
    if (pool == pools_.end()) continue;
    pool->second.judged(name->second.second, change.change, change.change.at_ns);
    decided_ns[name->second] = change.change.at_ns;
    pools.insert(name->second.first);
  }
  settle(pools, decided_ns);
  if (settled() && !was_settled) on_change_(true);
}

void Health::settle(const std::set<std::string>& pools,
                    const std::map<Name, uint64_t>& decided_ns) {
  bool released = false;
  for (const std::string& name : pools) {
    const auto pool = pools_.find(name);
    if (pool == pools_.end()) continue;
    PoolState::Settled settled = pool->second.settle(monotonic_ns());
    released |= settled.released;
    for (PoolTransition& transition : settled.transitions) {
      if (transition.backend) {
        const auto decided = decided_ns.find({name, *transition.backend});
        if (decided != decided_ns.end()) transition.at_ns = decided->second;
      }
      events_.add(name, transition, settled.released);
    }
    if (settled.released || !settled.transitions.empty()) on_change_(settled.released);
    for (const PoolTransition& transition : settled.transitions) log_transition(name, transition);
  }
  if (released) schedule_slow_starts();
}

void Health::log_transition(const std::string& pool, const PoolTransition& transition) const {
  const bool well = transition.to == "up" || transition.to == "normal" ||
                    transition.to == "draining" || transition.to == "disabled";
  const auto level = transition.to == "panic" ? spdlog::level::err
                     : well                   ? spdlog::level::info
                                              : spdlog::level::warn;
  if (transition.backend) {
    spdlog::log(level, "backend pool={} address={} {} > {}: {}", pool, transition.backend->text(),
                transition.from, transition.to, transition.reason);
  } else {
    spdlog::log(level, "pool {} {} > {}: {}", pool, transition.from, transition.to,
                transition.reason.empty() ? "as it should be" : transition.reason);
  }
}

void Health::schedule_slow_starts() {
  loop_.cancel(std::exchange(slow_timer_, 0));
  uint64_t next = 0;
  for (const auto& [name, pool] : pools_) {
    const uint64_t due = pool.next_settle_ns();
    if (due != 0 && (next == 0 || due < next)) next = due;
  }
  if (next == 0) return;
  const uint64_t now = monotonic_ns();
  slow_timer_ = loop_.after(std::chrono::nanoseconds(next > now ? next - now : 0), [this] {
    slow_timer_ = 0;
    std::set<std::string> due;
    for (const auto& [name, pool] : pools_) {
      if (pool.next_settle_ns() != 0) due.insert(name);
    }
    settle(due);
    schedule_slow_starts();
  });
}

void Health::set_agreed_down(const std::map<std::string, std::set<Address>>& agreed) {
  std::set<std::string> touched;
  static const std::set<Address> kNone;
  for (auto& [name, pool] : pools_) {
    const auto now = agreed.find(name);
    const auto before = agreed_down_.find(name);
    const auto& these = now == agreed.end() ? kNone : now->second;
    if (these == (before == agreed_down_.end() ? kNone : before->second)) continue;
    pool.agreed_down(these);
    touched.insert(name);
  }
  agreed_down_ = agreed;
  settle(touched);
  if (!touched.empty()) schedule_slow_starts();
}

bool Health::settled() const {
  return !anything_probed() || patience_over_ ||
         (begun_ && targets_timer_ == 0 && unjudged_.empty());
}

Release Health::release(const std::string& pool, const Address& backend) const {
  const auto state = pools_.find(pool);
  return state == pools_.end() ? Release{} : state->second.release(backend);
}

void Health::refresh_sights() const {
  sights_ = prober_ == nullptr ? std::vector<ProbeSight>{} : prober_->sights();
}

std::optional<Health::BackendView> Health::backend(const std::string& pool,
                                                   const Address& address) const {
  const auto state = pools_.find(pool);
  if (state == pools_.end()) return {};
  const auto view = state->second.view(address);
  if (!view) return {};
  BackendView out{*view, std::nullopt};
  const auto id = ids_.find({pool, address});
  if (id == ids_.end()) return out;
  const auto sight =
      std::lower_bound(sights_.begin(), sights_.end(), id->second,
                       [](const ProbeSight& one, uint32_t wanted) { return one.id < wanted; });
  if (sight != sights_.end() && sight->id == id->second) out.sight = *sight;
  return out;
}

const PoolState* Health::pool(const std::string& name) const {
  const auto pool = pools_.find(name);
  return pool == pools_.end() ? nullptr : &pool->second;
}

// ------------------------------------------------------------------ targets

void Health::schedule_targets() {
  if (targets_timer_ != 0) return;
  targets_timer_ = loop_.after(kTargetsTogether, [this] {
    targets_timer_ = 0;
    send_targets();
  });
}

void Health::ensure_prober() {
  if (prober_ != nullptr || !anything_probed()) return;
  auto prober =
      Prober::create(loop_, edge_object_,
                     [this](const std::vector<ProbeChange>& changes) { on_changes(changes); });
  if (!prober) {
    if (problem_.empty()) spdlog::error("backends are not probed: {}", prober.error().text());
    problem_ = "backends are not probed: " + prober.error().text();
    return;
  }
  problem_.clear();
  prober_ = std::move(*prober);
}

void Health::send_targets() {
  ensure_prober();
  if (prober_ == nullptr) return;
  std::vector<ProbeTarget> targets;
  release_ids(probed());
  for (const auto& [name, pool] : intent_->pools) {
    if (!is_probed(pool)) continue;
    for (const Address& address : table_addresses(pool)) {
      if (auto target = target_of(name, pool, address)) targets.push_back(std::move(*target));
    }
  }
  std::set<uint32_t> ids;
  for (const ProbeTarget& target : targets) ids.insert(target.id);
  std::erase_if(unjudged_, [&](uint32_t id) { return !ids.contains(id); });
  prober_->set_ports(ports());
  prober_->set_targets(std::move(targets));
  if (unjudged_.empty()) on_change_(true);
}

std::set<Health::Name> Health::probed() const {
  std::set<Name> out;
  for (const auto& [name, pool] : intent_->pools) {
    if (!is_probed(pool)) continue;
    for (const Address& address : table_addresses(pool)) out.insert({name, address});
  }
  return out;
}

// Ids rest before they are given to somebody else: replies to the last probes may still come.
void Health::release_ids(const std::set<Name>& wanted) {
  std::erase_if(ids_, [&](const auto& entry) {
    if (wanted.contains(entry.first)) return false;
    names_.erase(entry.second);
    retired_.emplace_back(EventLoop::Clock::now() + kIdRests, entry.second);
    return true;
  });
}

// None: so many came and went within a minute that none is left.
std::optional<uint32_t> Health::id_of(const Name& name) {
  const auto known = ids_.find(name);
  if (known != ids_.end()) return known->second;
  uint32_t id = next_id_;
  const bool rested = !retired_.empty() && (retired_.front().first <= EventLoop::Clock::now() ||
                                            next_id_ >= kProbeTargetsMax);
  if (rested) {
    id = retired_.front().second;
    retired_.pop_front();
  } else if (next_id_ >= kProbeTargetsMax) {
    return {};
  } else {
    ++next_id_;
  }
  ids_.emplace(name, id);
  names_.emplace(id, name);
  unjudged_.insert(id);
  return id;
}

std::optional<ProbeTarget> Health::target_of(const std::string& name, const Pool& pool,
                                             const Address& backend) {
  const NextHopState& way = next_hop_(backend);
  if (!next_hop_problem(pool.forwarding, backend, way).empty()) return {};
  ProbeTarget target;
  target.probe = pool.probe;
  target.before.is_down = pools_.at(name).is_down(backend);
  target.interface = way.hop->interface;
  const auto vip = vips_.find(name);
  const bool to_vip = pool.probe.kind != ProbeKind::http && vip != vips_.end();
  target.destination = to_vip ? vip->second : backend;
  if (pool.probe.kind != ProbeKind::http) {
    const auto source = source_for(*way.hop, target.destination.is_v4());
    if (!source) return {};
    target.source = *source;
    target.outer.resize(GW_OUTER_MAX);
    target.outer.resize(
        write_outer_header(target.outer.data(), pool.forwarding, backend, *way.hop));
  }
  const auto id = id_of({name, backend});
  if (!id) return {};
  target.id = *id;
  return target;
}

// Of the family of the probe's destination, which with crossed tunnels is not the backend's.
std::optional<Address> Health::source_for(const NextHop& hop, bool v4) const {
  const auto& configured = v4 ? config_.tunnel_source4 : config_.tunnel_source6;
  if (configured) return configured;
  if (hop.source && hop.source->is_v4() == v4) return hop.source;
  return local_address(hop.interface, v4);
}

std::vector<ProbePort> Health::ports() const {
  std::vector<ProbePort> out;
  for (size_t i = 0; i < config_.ports.size(); ++i) {
    ProbePort port;
    port.interface = port_name(config_.ports[i], i);
    port.owned = config_.ports[i].interface.empty();
    port.connection = connection_;
    out.push_back(std::move(port));
  }
  for (const Address& far : {kFar4, kFar6}) {
    if (const auto& hop = next_hop_(far).hop) add_canary(*hop, out);
  }
  for (const auto& [name, pool] : intent_->pools) {
    if (!is_probed(pool)) continue;
    for (const auto& [address, backend] : pool.backends) {
      if (const auto& hop = next_hop_(address).hop) add_canary(*hop, out);
    }
  }
  return out;
}

void Health::add_canary(const NextHop& hop, std::vector<ProbePort>& ports) const {
  if (!hop.gateway) return;
  const auto port = std::find_if(ports.begin(), ports.end(), [&](const ProbePort& one) {
    return one.interface == hop.interface;
  });
  const auto source = source_for(hop, hop.gateway->is_v4());
  if (port == ports.end() || port->canaries.size() >= kCanariesMax || !source) return;
  ProbePort::Canary canary;
  canary.destination = *hop.gateway;
  canary.source = *source;
  canary.outer.resize(GW_OUTER_MAX);
  canary.outer.resize(write_outer_header(canary.outer.data(), Forwarding::l2, *hop.gateway, hop));
  const bool known =
      std::find(port->canaries.begin(), port->canaries.end(), canary) != port->canaries.end();
  if (!known) port->canaries.push_back(std::move(canary));
}

}  // namespace guideway
