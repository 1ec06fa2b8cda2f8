// SPDX-License-Identifier: Apache-2.0
#include "controlplane/lone_view.h"

#include <algorithm>

namespace guideway {
namespace {

bool is_lost(Sight sight) {
  return sight != Sight::unknown;
}

// Of the backends that the other sees up, so many are lost here.
uint32_t lost_of(const PoolOutlook& own, const PoolOutlook& other) {
  uint32_t lost = 0;
  for (const auto& [address, sight] : own.not_up)
    lost += is_lost(sight) && !other.not_up.contains(address) ? 1 : 0;
  return lost;
}

std::string listed(const std::vector<std::string>& names) {
  constexpr size_t kShown = 3;
  std::string out;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) out += (i > 0 ? ", " : "") + names[i];
  if (names.size() > kShown) out += " and " + std::to_string(names.size() - kShown) + " more";
  return out;
}

}  // namespace

LoneView::Comparison LoneView::compare(const std::string& pool, const PoolOutlook& own,
                                       const Views& others) {
  Comparison out;
  bool all_alone = true, all_poor = true;
  for (const auto& [name, view] : others) {
    const auto found = view.pools.find(pool);
    if (found == view.pools.end()) continue;
    const PoolOutlook& other = found->second;
    // Of another revision, or more down than it can say.
    if (other.cut || other.of != own.of) continue;
    const uint32_t lost = lost_of(own, other);
    const bool sees_it_well = 2 * other.up > other.of;
    all_alone &= sees_it_well && 2 * lost > other.up;
    all_poor &= sees_it_well && 4 * lost > other.up;
    out.lost = std::max(out.lost, lost);
    out.others.push_back(name);
  }
  out.alone = all_alone && !out.others.empty();
  out.mended = !all_poor || out.others.empty();
  return out;
}

bool LoneView::may_go(const Comparison& seen, const Facts& facts, uint64_t asked) const {
  return std::any_of(seen.others.begin(), seen.others.end(), [&](const std::string& name) {
    const HealthView& other = facts.others.at(name);
    const auto answer = other.answers.find(facts.node);
    const bool answered =
        answer != other.answers.end() && answer->second >= asked && answer->second <= last_;
    const bool goes_first = other.doubt != 0 && name < facts.node;
    return answered && other.serves && !goes_first;
  });
}

void LoneView::doubt(const std::string& pool, const Comparison& seen, const Facts& facts,
                     Time now) {
  if (!seen.alone) {
    doubts_.erase(pool);
    return;
  }
  auto [entry, is_new] = doubts_.try_emplace(pool);
  Doubt& doubt = entry->second;
  if (is_new) doubt.since = now;
  if (doubt.asked == 0 && now - doubt.since >= facts.holds.at(pool)) doubt.asked = ++last_;
  if (doubt.asked == 0 || !may_go(seen, facts, doubt.asked)) return;
  out_[pool] = "pool " + pool + ": " + std::to_string(seen.lost) + " of " +
               std::to_string(facts.own.pools.at(pool).of) +
               " backends cannot be reached from this node alone, and are up on " +
               listed(seen.others);
  doubt = {};
}

void LoneView::stay_out(const std::string& pool, const Comparison& seen, const Facts& facts,
                        Time now) {
  Doubt& doubt = doubts_[pool];
  const bool anybody_serves = std::any_of(facts.others.begin(), facts.others.end(),
                                          [](const auto& other) { return other.second.serves; });
  if (!seen.mended) doubt.mending = false;
  if (seen.mended && !doubt.mending) doubt = {now, 0, true};
  if (anybody_serves && !(doubt.mending && now - doubt.since >= kReturns)) return;
  out_.erase(pool);
  doubts_.erase(pool);
}

void LoneView::step(const Facts& facts, Time now) {
  if (!facts.current) {
    doubts_.clear();
    out_.clear();
    question_ = 0;
    return;
  }
  const auto is_gone = [&](const auto& entry) {
    return !facts.holds.contains(entry.first) || !facts.own.pools.contains(entry.first);
  };
  std::erase_if(doubts_, is_gone);
  std::erase_if(out_, is_gone);
  for (const auto& [pool, holds] : facts.holds) {
    const auto own = facts.own.pools.find(pool);
    if (own == facts.own.pools.end()) continue;
    const Comparison seen = compare(pool, own->second, facts.others);
    if (out_.contains(pool)) {
      stay_out(pool, seen, facts, now);
    } else {
      doubt(pool, seen, facts, now);
    }
  }
  question_ = 0;
  for (const auto& [pool, doubt] : doubts_) question_ = std::max(question_, doubt.asked);
}

}  // namespace guideway
