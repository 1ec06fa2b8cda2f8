// SPDX-License-Identifier: Apache-2.0
#include "controlplane/pool_state.h"

#include <algorithm>
#include <utility>

#include "controlplane/pool_plan.h"

namespace guideway {
namespace {

constexpr uint64_t kMs = 1'000'000;
// Steps of a slow start: no finer than this, in number and in time, for each is an image.
constexpr uint32_t kSlowSteps = 64;
constexpr uint64_t kSlowStepLeast = 100 * kMs;
constexpr uint64_t kPanicGraceLeast = 1000 * kMs;
constexpr uint64_t kDownLinger = 10'000 * kMs;
// Also when all nodes agree: what all have in common may have been at fault for a moment.
constexpr uint64_t kDownLingerLeast = 2'000 * kMs;

uint64_t slow_step_ns(uint64_t slow_start_ns) {
  return std::max(slow_start_ns / kSlowSteps, kSlowStepLeast);
}

}  // namespace

const char* state_name(BackendState state) {
  switch (state) {
    case BackendState::up:
      return "up";
    case BackendState::down:
      return "down";
    case BackendState::draining:
      return "draining";
    case BackendState::disabled:
      return "disabled";
    case BackendState::unknown:
      return "unknown";
    case BackendState::no_next_hop:
      return "no_next_hop";
    case BackendState::no_weight:
      break;
  }
  return "no_weight";
}

const char* condition_name(PoolCondition condition) {
  switch (condition) {
    case PoolCondition::normal:
      return "normal";
    case PoolCondition::panic:
      return "panic";
    case PoolCondition::blind:
      break;
  }
  return "blind";
}

const char* sight_name(Sight sight) {
  switch (sight) {
    case Sight::down:
      return "down";
    case Sight::no_way:
      return "no_way";
    case Sight::blind:
      return "blind";
    case Sight::unknown:
      break;
  }
  return "unknown";
}

bool PoolState::is_candidate(const Backend& backend) const {
  return backend.mode == BackendMode::enabled && backend.weight > 0;
}

bool PoolState::is_up(const Backend& backend) const {
  return is_candidate(backend) && backend.reachable && backend.seen == Seen::up;
}

bool PoolState::is_presumed(const Backend& backend) const {
  return is_candidate(backend) && backend.reachable && backend.trusted &&
         backend.seen == Seen::unknown;
}

bool PoolState::is_presumed(const Address& backend) const {
  const auto entry = backends_.find(backend);
  return entry != backends_.end() && is_presumed(entry->second);
}

bool PoolState::is_down(const Address& backend) const {
  const auto entry = backends_.find(backend);
  return entry != backends_.end() && entry->second.seen == Seen::down;
}

BackendState PoolState::state_of(const Backend& backend) const {
  if (backend.mode == BackendMode::disabled) return BackendState::disabled;
  if (backend.weight == 0) return BackendState::no_weight;
  if (!backend.reachable) return BackendState::no_next_hop;
  if (backend.seen == Seen::down) return BackendState::down;
  if (backend.mode == BackendMode::draining) return BackendState::draining;
  return backend.seen == Seen::up ? BackendState::up : BackendState::unknown;
}

std::string PoolState::reason_of(const Backend& backend) const {
  switch (state_of(backend)) {
    case BackendState::disabled:
    case BackendState::draining:
      return "by order";
    case BackendState::no_weight:
      return "its weight is 0";
    case BackendState::no_next_hop:
      return backend.unreachable_reason;
    case BackendState::unknown:
      return backend.blind ? backend.blind_reason : "no probe has been answered yet";
    case BackendState::up:
    case BackendState::down:
      break;
  }
  return backend.seen_reason;
}

void PoolState::begin_slow_start(Backend& backend, uint64_t now_ns) const {
  backend.slow_ns = slow_start_ns_ > 0 && !backend.trusted ? now_ns : 0;
}

void PoolState::configure(const Pool& pool, bool trusted, uint64_t now_ns) {
  const bool newly_probed = pool.probe.kind != ProbeKind::none && !probed_;
  probed_ = pool.probe.kind != ProbeKind::none;
  gue_ = pool.forwarding == Forwarding::gue;
  slow_start_ns_ = pool.slow_start_ms * kMs;
  panic_grace_ns_ = std::max(
      kPanicGraceLeast,
      3 * kMs * (uint64_t{pool.probe.interval_ms} * pool.probe.fall + pool.probe.timeout_ms));
  const std::vector<Address> named = table_addresses(pool);
  std::erase_if(backends_, [&](const auto& entry) {
    return !pool.backends.contains(entry.first) &&
           !std::binary_search(named.begin(), named.end(), entry.first);
  });
  for (const Address& address : named)
    if (!pool.backends.contains(address)) leave(address);
  for (const auto& [address, wanted] : pool.backends) {
    auto [entry, is_new] = backends_.try_emplace(address);
    Backend& backend = entry->second;
    backend.leaving = false;
    const bool comes = is_new || (!is_candidate(backend) && wanted.weight > 0 &&
                                  wanted.mode == BackendMode::enabled);
    backend.weight = wanted.weight;
    backend.mode = wanted.mode;
    if (is_new) {
      backend.trusted = trusted;
      backend.since_ns = trusted ? 0 : now_ns;
    }
    // Whoever was out comes back as anybody does.
    if (!is_candidate(backend)) backend.trusted = false;
    if (!probed_) {
      backend.seen = Seen::up;
      backend.blind = false;
      backend.seen_reason.clear();
    } else if (newly_probed && configured_ && !is_new) {
      backend.seen = Seen::up;
    }
    if (comes && backend.seen == Seen::up) begin_slow_start(backend, now_ns);
    if (is_new) backend.state = state_of(backend);
  }
  configured_ = true;
}

// What it was stays: of one that nobody has judged yet, nothing is known.
void PoolState::leave(const Address& address) {
  Backend& backend = backends_[address];
  backend.leaving = true;
  backend.weight = 0;
  backend.slow_ns = 0;
  backend.trusted = false;
  if (!probed_) {
    backend.seen = Seen::up;
    backend.blind = false;
  }
}

void PoolState::judged(const Address& address, const Judge::Change& change, uint64_t now_ns) {
  const auto entry = backends_.find(address);
  if (entry == backends_.end() || !probed_) return;
  Backend& backend = entry->second;
  backend.blind = change.blind;
  backend.blind_reason = change.blind ? change.reason : "";
  if (change.blind || change.seen == Seen::unknown) return;
  if (change.seen == Seen::down && backend.seen != Seen::down) {
    backend.fell_ns = now_ns;
    backend.agreed = false;
    backend.slow_ns = 0;
  } else if (change.seen == Seen::up && backend.seen != Seen::up) {
    begin_slow_start(backend, now_ns);
  }
  backend.trusted = false;
  // That probing works again is no reason for what was known before.
  if (backend.seen != change.seen || backend.seen_reason.empty())
    backend.seen_reason = change.reason;
  backend.seen = change.seen;
}

void PoolState::reachable(const Address& address, bool is, const std::string& reason) {
  const auto entry = backends_.find(address);
  if (entry == backends_.end()) return;
  entry->second.reachable = is;
  // It is not probed, so that nobody would say that probing works again.
  if (!is) entry->second.blind = false;
  entry->second.unreachable_reason = is ? "" : reason;
}

PoolState::Settled PoolState::settle(uint64_t now_ns) {
  Settled out;
  for (auto& [address, backend] : backends_) {
    const BackendState state = state_of(backend);
    // Nobody asks any more how one is that was removed.
    if (backend.leaving || state == backend.state) continue;
    const bool ordered =
        backend.state == BackendState::draining || backend.state == BackendState::disabled;
    std::string reason = ordered && state == BackendState::up ? "by order" : reason_of(backend);
    if (backend.state == BackendState::draining && state == BackendState::disabled)
      reason = "its drain has ended";
    out.transitions.push_back(
        {address, state_name(backend.state), state_name(state), reason, now_ns});
    backend.state = state;
    backend.since_ns = now_ns;
  }
  settle_condition(now_ns, out.transitions);
  out.released = set_releases(now_ns);
  return out;
}

void PoolState::settle_condition(uint64_t now_ns, Transitions& out) {
  size_t candidates = 0;
  size_t up = 0;
  size_t down = 0;
  bool undecided = false;
  std::string blind;
  for (const auto& [address, backend] : backends_) {
    if (backend.blind && !backend.leaving && blind.empty()) blind = backend.blind_reason;
    if (!is_candidate(backend)) continue;
    ++candidates;
    up += is_up(backend);
    down += backend.seen == Seen::down;
    undecided |= backend.seen == Seen::unknown && backend.reachable;
  }
  PoolCondition condition = PoolCondition::normal;
  std::string reason;
  if (up == 0 && down > 0 && !undecided) {
    condition = PoolCondition::panic;
    reason = "none of " + std::to_string(candidates) +
             (candidates == 1 ? " backend is" : " backends is") +
             " up: those that were up last keep their slots";
  } else if (!blind.empty()) {
    condition = PoolCondition::blind;
    reason = blind;
  }
  if (condition == PoolCondition::panic) {
    // The choice stays, unless all that were chosen have been taken away by order.
    const bool chosen = std::any_of(backends_.begin(), backends_.end(), [&](const auto& entry) {
      return is_candidate(entry.second) && entry.second.in_panic;
    });
    if (condition_ != condition || !chosen) choose_for_panic(now_ns);
  }
  if (condition != condition_) {
    out.push_back(
        {std::nullopt, condition_name(condition_), condition_name(condition), reason, now_ns});
    condition_ = condition;
    condition_since_ = now_ns;
  }
  condition_reason_ = std::move(reason);
}

void PoolState::choose_for_panic(uint64_t now_ns) {
  bool any = false;
  for (auto& [address, backend] : backends_) {
    backend.in_panic = is_candidate(backend) && backend.reachable && backend.seen == Seen::down &&
                       now_ns - backend.fell_ns <= panic_grace_ns_;
    any |= backend.in_panic;
  }
  if (any) return;
  // The last that was up was taken away by order, or has no way: any chance is better than none.
  for (auto& [address, backend] : backends_) backend.in_panic = is_candidate(backend);
}

uint32_t PoolState::slow_share(const Backend& backend, uint64_t now_ns) const {
  if (backend.slow_ns == 0) return GW_SHARE_ALL;
  const uint64_t step = slow_step_ns(slow_start_ns_);
  const uint64_t steps = (slow_start_ns_ + step - 1) / step;
  const uint64_t done = (now_ns - backend.slow_ns) / step + 1;
  if (done > steps) return GW_SHARE_ALL;
  return static_cast<uint32_t>(GW_SHARE_ALL * done / (steps + 1));
}

bool PoolState::set_releases(uint64_t now_ns) {
  settled_ns_ = now_ns;
  bool full = false;  // somebody is up and has all its slots
  bool any_up = false;
  for (auto& [address, backend] : backends_) {
    if (slow_share(backend, now_ns) == GW_SHARE_ALL) backend.slow_ns = 0;
    if (!is_up(backend)) continue;
    any_up = true;
    full |= backend.slow_ns == 0;
  }
  bool changed = false;
  for (auto& [address, backend] : backends_) {
    // Nobody could have what a slow starter leaves.
    if (!full) backend.slow_ns = 0;
    const Release release = release_of(backend, any_up, now_ns);
    changed |= !(release == backend.release);
    backend.release = release;
  }
  return changed;
}

Release PoolState::release_of(const Backend& backend, bool any_up, uint64_t now_ns) const {
  if (backend.mode == BackendMode::disabled) return {0, false};
  if (is_candidate(backend)) {
    const bool trial = !any_up && (backend.seen == Seen::unknown ||
                                   (condition_ == PoolCondition::panic && backend.in_panic));
    if (backend.seen == Seen::up || is_presumed(backend) || trial)
      return {slow_share(backend, now_ns), true};
    // One that is not judged yet may have been here before, and have connections from then.
    return {0, backend.seen == Seen::unknown || (gue_ && lingers(backend, now_ns))};
  }
  if (gue_) {
    if (backend.seen == Seen::down) return {0, lingers(backend, now_ns)};
    return {GW_SHARE_ALL, true};
  }
  // It drains, or has no weight.
  return {0, backend.seen != Seen::down};
}

uint64_t PoolState::linger_end(const Backend& backend) const {
  return backend.fell_ns + (backend.agreed ? kDownLingerLeast : kDownLinger);
}

bool PoolState::lingers(const Backend& backend, uint64_t now_ns) const {
  return backend.seen == Seen::down && now_ns < linger_end(backend);
}

void PoolState::agreed_down(const std::set<Address>& backends) {
  for (auto& [address, backend] : backends_)
    backend.agreed = backend.seen == Seen::down && backends.contains(address);
}

uint64_t PoolState::next_settle_ns() const {
  uint64_t next = 0;
  const uint64_t step = slow_step_ns(slow_start_ns_);
  const auto take = [&](uint64_t due) { next = next == 0 ? due : std::min(next, due); };
  for (const auto& [address, backend] : backends_) {
    if (gue_ && lingers(backend, settled_ns_)) take(linger_end(backend));
    if (backend.slow_ns != 0)
      take(backend.slow_ns + ((settled_ns_ - backend.slow_ns) / step + 1) * step);
  }
  return next;
}

Release PoolState::release(const Address& backend) const {
  const auto entry = backends_.find(backend);
  return entry == backends_.end() ? Release{} : entry->second.release;
}

std::optional<PoolState::View> PoolState::view(const Address& address) const {
  const auto entry = backends_.find(address);
  if (entry == backends_.end()) return {};
  const Backend& backend = entry->second;
  return View{backend.state, reason_of(backend), backend.since_ns, backend.release};
}

PoolOutlook PoolState::outlook() const {
  PoolOutlook out;
  for (const auto& [address, backend] : backends_) {
    if (!is_candidate(backend)) continue;
    ++out.of;
    if (!backend.reachable) {
      out.not_up[address] = Sight::no_way;
    } else if (backend.seen == Seen::down) {
      out.not_up[address] = Sight::down;
    } else if (backend.blind) {
      out.not_up[address] = Sight::blind;
    } else if (backend.seen == Seen::unknown) {
      out.not_up[address] = Sight::unknown;
    } else {
      ++out.up;
    }
  }
  return out;
}

}  // namespace guideway
