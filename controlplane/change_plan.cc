// SPDX-License-Identifier: Apache-2.0
#include "controlplane/change_plan.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace guideway {
namespace {

PoolShape normal(PoolShape shape) {
  shape.members = sorted_members(std::move(shape.members));
  return shape;
}

PoolHistory prepared(PoolHistory history, Epoch incoming) {
  history.incoming = std::move(incoming);
  return history;
}

PoolHistory committed(PoolHistory history) {
  history.earlier.insert(history.earlier.begin(), std::move(history.current));
  history.current = std::move(*history.incoming);
  history.incoming.reset();
  return history;
}

// `history` with the change prepared, if it can be prepared and committed. With tables of two sizes
// the lists of the two steps differ; what only retires in between makes them shorter.
std::optional<PoolHistory> with_room(const PoolHistory& history, const Epoch& next,
                                     const PoolShape& wanted, HopShortage& shortage) {
  PoolHistory first = prepared(history, next);
  const bool resizes = history.current.slots != wanted.slots;
  bool fits = build_hop_table(first, &shortage).has_value();
  if (!fits && !resizes && shortage.hops != 0) {
    keep_stand_ins(first);
    fits = build_hop_table(first, &shortage).has_value();
  }
  if (fits && history.current.slots != next.slots) {
    fits = build_hop_table(committed(first), &shortage).has_value();
  }
  if (!fits) return {};
  return first;
}

const Epoch* find_earlier(const ChangePlan& plan, uint64_t number) {
  for (const Epoch& epoch : plan.history.earlier) {
    if (epoch.number == number) return &epoch;
  }
  return nullptr;
}

std::string connections(uint64_t sockets) {
  return std::to_string(sockets) + (sockets == 1 ? " connection" : " connections");
}

bool nobody_holds(const Answer& answer) {
  return std::all_of(answer.asked.begin(), answer.asked.end(), [&](const Address& asked) {
    const auto sockets = answer.sockets.find(asked);
    return sockets != answer.sockets.end() && sockets->second == 0;
  });
}

// Somebody who holds connections of that epoch.
std::optional<std::pair<Address, uint64_t>> holder_of(const Answers* answers, uint64_t epoch) {
  if (answers == nullptr) return {};
  for (const Answer& answer : answers->each) {
    if (answer.epoch != epoch || answer.part == EpochPart::and_older) continue;
    for (const auto& [address, sockets] : answer.sockets)
      if (sockets > 0) return std::pair(address, sockets);
  }
  return {};
}

// "slot 4711 would need 5 hops, and 4 is the most: 10.0.0.7 still holds 3 connections from epoch
// 12"
std::string why_no_room(const ChangePlan& plan, const HopShortage& shortage,
                        const Answers* answers) {
  if (shortage.hops == 0) {
    return "the pool would have more than " + std::to_string(GW_POOL_BACKENDS_MAX) +
           " backends, those of earlier epochs included";
  }
  std::string held;
  for (const HopShortage::Held& hop : shortage.held) {
    // The epochs that the change itself would make earlier are in nobody's way.
    if (find_earlier(plan, hop.epoch) == nullptr) continue;
    const std::string from = " from epoch " + std::to_string(hop.epoch);
    if (held.empty()) held = ": " + hop.address.text() + " may still hold connections" + from;
    // Whoever it is that holds any: an epoch goes as a whole.
    const auto holder = holder_of(answers, hop.epoch);
    if (!holder) continue;
    held = ": " + holder->first.text() + " still holds " + connections(holder->second) + from;
    break;
  }
  return "slot " + std::to_string(shortage.slot) + " would need " + std::to_string(shortage.hops) +
         " hops, and " + std::to_string(GW_HOPS_MAX) + " is the most" + held;
}

PlanStep unchanged(const ChangePlan& plan, std::string waits = {}) {
  return {plan, false, {}, std::move(waits)};
}

PlanStep changed(ChangePlan plan, uint64_t revision, std::string did) {
  plan.revision = revision;
  return {std::move(plan), true, std::move(did), {}};
}

std::string unconfirmed(const ChangePlan& plan) {
  return "not all live nodes have confirmed revision " + std::to_string(plan.revision);
}

// What the wanted change waits for, if it is not under way.
std::string waits_for_room(const ChangePlan& plan, const Answers* answers) {
  if (plan.history.incoming) return {};
  const std::optional<Epoch> next = next_epoch(plan.history.current, plan.wanted);
  HopShortage shortage;
  if (!next || with_room(plan.history, *next, plan.wanted, shortage)) return {};
  return why_no_room(plan, shortage, answers);
}

PlanStep advance(ChangePlan plan, uint64_t next_revision) {
  if (plan.history.incoming) {
    const uint64_t number = plan.history.incoming->number;
    plan.history = committed(std::move(plan.history));
    if (!next_epoch(plan.history.current, plan.wanted)) plan.forced = false;
    return changed(std::move(plan), next_revision, "committed epoch " + std::to_string(number));
  }
  const std::optional<Epoch> next = next_epoch(plan.history.current, plan.wanted);
  if (!next) return unchanged(plan);
  HopShortage shortage;
  std::string given_up;
  std::optional<PoolHistory> roomy;
  while (!(roomy = with_room(plan.history, *next, plan.wanted, shortage))) {
    if (!plan.forced || plan.history.earlier.empty()) {
      return unchanged(plan, why_no_room(plan, shortage, nullptr));
    }
    given_up += ", gave up epoch " + std::to_string(plan.history.earlier.back().number);
    plan.history.earlier.pop_back();
  }
  plan.history = std::move(*roomy);
  return changed(std::move(plan), next_revision,
                 "prepared epoch " + std::to_string(next->number) + given_up);
}

PlanStep retire(ChangePlan plan, uint64_t epoch, EpochPart part, uint64_t next_revision) {
  plan.history = without(std::move(plan.history), epoch, part);
  const std::string number = std::to_string(epoch);
  return changed(std::move(plan), next_revision,
                 part == EpochPart::stand_ins   ? "retired the stand-ins of epoch " + number
                 : part == EpochPart::and_older ? "retired epoch " + number + " and all before it"
                                                : "retired epoch " + number);
}

std::string why_it_stays(const Answer& answer) {
  const std::string stays = "epoch " + std::to_string(answer.epoch) + " stays: ";
  for (const Address& asked : answer.asked) {
    const auto sockets = answer.sockets.find(asked);
    if (sockets == answer.sockets.end()) return stays + "no answer from " + asked.text();
    if (sockets->second > 0)
      return stays + asked.text() + " still holds " + connections(sockets->second);
  }
  return {};
}

PlanStep on(const ChangePlan& plan, const Want& want, uint64_t) {
  ChangePlan next = plan;
  next.wanted = normal(want.shape);
  const bool differs = next.wanted != plan.wanted;
  next.forced = want.forced || (plan.forced && !differs);
  const bool stored = next != plan;
  std::string waits = waits_for_room(next, nullptr);
  return {std::move(next), stored, {}, std::move(waits)};
}

PlanStep on(const ChangePlan& plan, const Confirmed& event, uint64_t next_revision) {
  if (event.revision < plan.revision) return unchanged(plan, unconfirmed(plan));
  return advance(plan, next_revision);
}

PlanStep on(const ChangePlan& plan, const Answers& event, uint64_t next_revision) {
  if (event.revision != plan.revision) return unchanged(plan);
  const Answer* oldest_told = nullptr;  // the one that says most: of one epoch, the oldest
  for (const Answer& answer : event.each) {
    const Epoch* epoch = find_earlier(plan, answer.epoch);
    const bool had = epoch != nullptr && (answer.part != EpochPart::stand_ins || epoch->stand_ins);
    if (!had) continue;
    if (nobody_holds(answer)) return retire(plan, answer.epoch, answer.part, next_revision);
    if (oldest_told == nullptr || answer.part == EpochPart::all) oldest_told = &answer;
  }
  if (oldest_told == nullptr) return unchanged(plan);
  std::string waits = waits_for_room(plan, &event);
  return unchanged(plan, waits.empty() ? why_it_stays(*oldest_told) : std::move(waits));
}

PlanStep on(const ChangePlan& plan, const Deadline& event, uint64_t next_revision) {
  if (find_earlier(plan, event.epoch) == nullptr) return unchanged(plan);
  if (event.revision < plan.revision) return unchanged(plan, unconfirmed(plan));
  return retire(plan, event.epoch, EpochPart::all, next_revision);
}

PlanStep on(const ChangePlan& plan, const Force&, uint64_t) {
  if (plan.forced || !next_epoch(plan.history.current, plan.wanted)) return unchanged(plan);
  ChangePlan next = plan;
  next.forced = true;
  return {std::move(next), true, {}, {}};
}

}  // namespace

ChangePlan first_plan(PoolShape shape, uint64_t revision) {
  ChangePlan plan;
  plan.wanted = normal(std::move(shape));
  Epoch& first = plan.history.current;
  first.number = 1;
  first.slots = first.fill_slots = plan.wanted.slots;
  first.members = plan.wanted.members;
  plan.revision = revision;
  return plan;
}

PlanStep step(const ChangePlan& plan, const PlanEvent& event, uint64_t next_revision) {
  return std::visit([&](const auto& e) { return on(plan, e, next_revision); }, event);
}

bool at_rest(const ChangePlan& plan) {
  return !plan.history.incoming && plan.history.earlier.empty() &&
         !next_epoch(plan.history.current, plan.wanted);
}

std::optional<Epoch> next_epoch(const Epoch& current, const PoolShape& wanted) {
  const bool same_members = current.members == wanted.members;
  if (current.slots == wanted.slots && current.fill_slots == wanted.slots && same_members) {
    return {};
  }
  // Tables of two sizes have slots that straddle. Such a step must change nothing else: the finer
  // table then has the fill of the coarser one, and no stand-ins of its own.
  Epoch next;
  next.number = current.number + 1;
  next.slots = next.fill_slots = wanted.slots;
  next.members = wanted.members;
  const bool plain = current.kept_stand_ins.empty();
  if (current.slots < wanted.slots) {
    if (plain && current.fill_slots == current.slots) {
      next.fill_slots = current.slots;
      next.members = current.members;
    } else {
      next.slots = next.fill_slots = current.slots;
    }
  } else if (current.slots > wanted.slots) {
    const bool ready = plain && current.fill_slots == wanted.slots && same_members;
    if (!ready) next.slots = current.slots;
  }
  return next;
}

Answer unanswered(const RetireQuestion& question) {
  Answer answer{question.epoch, question.part, {}, {}};
  for (const BackendRanges& backend : question.ask) answer.asked.push_back(backend.address);
  return answer;
}

std::vector<RetireQuestion> retire_questions(const ChangePlan& plan, uint64_t confirmed) {
  std::vector<RetireQuestion> questions;
  const std::vector<Epoch>& earlier = plan.history.earlier;
  if (confirmed < plan.revision || earlier.empty()) return questions;
  const HistoryHops hops = hops_of(plan.history);
  const auto ask = [&](uint64_t epoch, EpochPart part) {
    questions.push_back({plan.revision, epoch, part, ranges_only_in(hops, epoch, part)});
  };
  // All of them, the older half, the older quarter ..
  for (size_t many = earlier.size(); many > 1; many /= 2)
    ask(earlier[earlier.size() - many].number, EpochPart::and_older);
  const bool blocked = !waits_for_room(plan, nullptr).empty();
  for (const Epoch& epoch : earlier) {
    ask(epoch.number, EpochPart::all);
    if (blocked && epoch.stand_ins) ask(epoch.number, EpochPart::stand_ins);
  }
  return questions;
}

}  // namespace guideway
