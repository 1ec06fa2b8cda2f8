// SPDX-License-Identifier: Apache-2.0
#include "controlplane/planner.h"

#include <netinet/in.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <new>
#include <system_error>
#include <utility>

#include "controlplane/pool_plan.h"
#include "controlplane/priority.h"

namespace guideway {
namespace {

// Agents count TCP connections: of anything else nobody knows when it has ended, but the deadline.
bool is_tcp_alone(const Intent& intent, const std::string& pool) {
  return std::all_of(intent.services.begin(), intent.services.end(), [&](const auto& service) {
    return service.second.pool != pool || service.first.protocol == IPPROTO_TCP;
  });
}

// Whether an earlier epoch has been kept for long enough. `all`: since the pool was at rest;
// `last`: since the epoch is an earlier one, with a one-step plan since the last change.
bool is_over(const Pool& pool, std::chrono::nanoseconds all, std::chrono::nanoseconds last) {
  const std::chrono::seconds hold(pool.hold_s);
  if (has_steps(pool)) return hold.count() != 0 && last >= hold;
  constexpr std::chrono::seconds most(kOneStepHoldS);
  if (last >= (hold.count() == 0 ? most : std::min(hold, most))) return true;
  return all >= kOneStepMost && last >= kOneStepLeast;
}

}  // namespace

Planner::Planner(EventLoop& loop, World world, Pace pace)
    : loop_(loop), world_(std::move(world)), pace_(pace) {
  timer_ = loop_.every(pace_.look, [this] { look(); });
}

Planner::~Planner() {
  *alive_ = false;
  loop_.cancel(timer_);
  if (thread_.joinable()) thread_.join();
}

std::string Planner::waits(const std::string& pool) const {
  const auto found = watches_.find(pool);
  return found == watches_.end() ? "" : found->second.waits;
}

void Planner::look() {
  if (busy_) {
    again_ = true;
    return;
  }
  if (world_.acts && !world_.acts()) {
    watches_.clear();
    drains_.clear();
    return;
  }
  const uint64_t confirmed = world_.confirmed();
  const std::shared_ptr<const Intent> intent = world_.intent();
  std::erase_if(watches_, [&](const auto& entry) {
    const auto pool = intent->pools.find(entry.first);
    return pool == intent->pools.end() || !pool->second.plan || at_rest(*pool->second.plan);
  });
  for (const auto& [name, pool] : intent->pools)
    if (pool.plan && !at_rest(*pool.plan)) watch(name, pool, confirmed);
  end_drains(confirmed);
  ask_drains(confirmed);
  if (auto todo = jobs(confirmed); !todo.empty()) start(std::move(todo), confirmed);
}

void Planner::watch(const std::string& name, const Pool& pool, uint64_t confirmed) {
  const auto now = Clock::now();
  const auto [entry, is_new] = watches_.try_emplace(name);
  Watch& watch = entry->second;
  if (is_new) watch.first = now;
  if (watch.revision != pool.plan->revision) {
    watch.revision = pool.plan->revision;
    watch.confirmed_at = {};
    watch.next_ask = {};
    watch.answers = {};
  }
  if (watch.confirmed_at == Clock::time_point{} && confirmed >= watch.revision) {
    watch.confirmed_at = now;
    watch.waits.clear();
  }
  std::map<uint64_t, Clock::time_point> earlier;
  for (const Epoch& epoch : pool.plan->history.earlier) {
    const auto known = watch.earlier.find(epoch.number);
    earlier[epoch.number] = known == watch.earlier.end() ? now : known->second;
  }
  watch.earlier = std::move(earlier);
}

// Drains that are over are stored, one change at a time.
void Planner::disable(IsOver is_over) {
  const std::shared_ptr<const Intent> intent = world_.intent();
  std::string what;
  for (const auto& [name, pool] : intent->pools)
    for (const auto& [address, backend] : pool.backends)
      if (backend.mode == BackendMode::draining && is_tcp_alone(*intent, name) &&
          is_over(name, pool, address))
        what += (what.empty() ? "drained " : ", ") + name + " " + address.text();
  if (what.empty() || disables_) return;
  disables_ = true;
  const auto change = [is_over](const Intent& before) -> ChangeResult {
    Intent next = before;
    for (auto& [name, pool] : next.pools) {
      const Pool& was = before.pools.at(name);
      if (!is_tcp_alone(before, name)) continue;
      for (auto& [address, backend] : pool.backends) {
        if (backend.mode != BackendMode::draining || !is_over(name, was, address)) continue;
        backend.mode = BackendMode::disabled;
        backend.drain_until = 0;
      }
    }
    return next;
  };
  // What went wrong is in the log, and it is tried again.
  world_.change(change, what, [this, alive = alive_](const Store::ChangeOutcome&) {
    if (*alive) disables_ = false;
  });
}

// Those that no list needs any more are out of service.
void Planner::end_drains(uint64_t confirmed) {
  disable([confirmed](const std::string&, const Pool& pool, const Address& address) {
    return pool.plan && confirmed >= pool.plan->revision && is_drained(pool, address);
  });
}

// A backend that gets no new flows, and whose agent says that it has none of the pool's connections
// left, need not wait until its epochs are retired.
void Planner::ask_drains(uint64_t confirmed) {
  if (!world_.ask) return;
  const std::shared_ptr<const Intent> intent = world_.intent();
  const auto now = Clock::now();
  std::map<std::pair<std::string, Address>, Drain> drains;
  for (const auto& [name, pool] : intent->pools) {
    if (!is_tcp_alone(*intent, name)) continue;
    for (const auto& [address, backend] : pool.backends) {
      if (backend.mode != BackendMode::draining || takes_new(pool, address)) continue;
      if (confirmed < (has_steps(pool) ? pool.plan->revision : intent->revision)) continue;
      const auto known = drains_.find({name, address});
      Drain drain = known == drains_.end() ? Drain{.since = now} : known->second;
      if (!drain.asked && now >= drain.since + pace_.settle && now >= drain.next_ask) {
        drain.asked = true;
        drain.next_ask = now + pace_.ask_again;
        loop_.post([this, alive = alive_, name = name, address = address] {
          if (!*alive) return;
          world_.ask(name, {{address, {{0, UINT32_MAX}}}},
                     [this, alive, name, address](const Sockets& sockets) {
                       if (*alive) drained(name, address, sockets);
                     });
        });
      }
      drains.emplace(std::pair(name, address), drain);
    }
  }
  drains_ = std::move(drains);
}

void Planner::drained(const std::string& name, const Address& address, const Sockets& sockets) {
  const auto drain = drains_.find({name, address});
  if (drain == drains_.end()) return;
  drain->second.asked = false;
  const auto answer = sockets.find(address);
  if (answer == sockets.end() || answer->second != 0) return;
  disable([pool = name, backend = address](const std::string& name, const Pool& in,
                                           const Address& address) {
    return name == pool && address == backend && !takes_new(in, address);
  });
}

std::vector<Planner::Job> Planner::jobs(uint64_t confirmed) {
  std::vector<Job> out;
  const std::shared_ptr<const Intent> intent = world_.intent();
  const auto now = Clock::now();
  for (auto& [name, watch] : watches_) {
    const auto found = intent->pools.find(name);
    if (found == intent->pools.end() || !found->second.plan) continue;
    const Pool& pool = found->second;
    Job job{.pool = name, .plan = *pool.plan, .events = {}, .ask = false};
    if (watch.asked == 0 && !watch.answers.each.empty())
      job.events.emplace_back(std::exchange(watch.answers, {}));
    if (watch.confirmed_at == Clock::time_point{}) {
      if (has_steps(pool))
        watch.waits = "for revision " + std::to_string(watch.revision) + " to be adopted";
      continue;
    }
    for (const auto& [epoch, since] : watch.earlier)
      if (is_over(pool, now - watch.first, now - since))
        job.events.emplace_back(Deadline{watch.revision, epoch});
    job.ask = has_steps(pool) && watch.asked == 0 && !watch.earlier.empty() &&
              now >= watch.confirmed_at + pace_.settle && now >= watch.next_ask;
    const bool goes_on =
        has_steps(pool) && (pool.plan->history.incoming.has_value() ||
                            next_epoch(pool.plan->history.current, pool.plan->wanted).has_value());
    // A change that waits for room is tried again when something was retired, or asked.
    if (goes_on && (watch.waits.empty() || job.ask || !job.events.empty()))
      job.events.emplace_back(Confirmed{confirmed});
    if (!job.events.empty() || job.ask) out.push_back(std::move(job));
  }
  return out;
}

void Planner::start(std::vector<Job> todo, uint64_t confirmed) {
  busy_ = true;
  if (thread_.joinable()) thread_.join();
  const uint64_t next_revision = world_.intent()->revision + 1;
  const auto run = [this, confirmed, next_revision](std::vector<Job> work) {
    set_thread_nice(kBuilderNice);
    auto outcomes = std::make_shared<std::vector<Outcome>>();
    for (Job& job : work) {
      Outcome outcome;
      outcome.pool = job.pool;
      outcome.before = job.plan;
      outcome.stepped = !job.events.empty();
      for (const PlanEvent& event : job.events) {
        PlanStep taken = step(job.plan, event, next_revision);
        // Of several reasons the first: an agent's answer says more than that there is no room.
        if (taken.changed || outcome.step.waits.empty()) outcome.step = std::move(taken);
        if (outcome.step.changed) break;
      }
      if (!outcome.step.changed && job.ask)
        outcome.questions = retire_questions(job.plan, confirmed);
      outcomes->push_back(std::move(outcome));
    }
    loop_.post([this, alive = alive_, outcomes] {
      if (*alive) take(std::move(*outcomes));
    });
  };
  try {
    thread_ = std::thread([run, work = std::move(todo)]() mutable { run(std::move(work)); });
  } catch (const std::system_error& error) {
    spdlog::error("no thread for the next step of a change: {}", error.what());
    busy_ = false;  // tried again with the next look
  }
}

void Planner::take(std::vector<Outcome> outcomes) {
  const std::shared_ptr<const Intent> intent = world_.intent();
  auto steps = std::make_shared<std::vector<Outcome>>();
  std::string what;
  for (Outcome& outcome : outcomes) {
    const auto pool = intent->pools.find(outcome.pool);
    if (pool == intent->pools.end() || pool->second.plan != outcome.before) continue;
    if (outcome.stepped) watches_[outcome.pool].waits = outcome.step.waits;
    ask(outcome.pool, std::move(outcome.questions));
    if (!outcome.step.changed) continue;
    what += (what.empty() ? "" : "; ") + outcome.pool + ": " + outcome.step.did;
    steps->push_back(std::move(outcome));
  }
  if (steps->empty()) return end_of_step();
  // Other changes may come first; a step of a plan that is not the same any more is left out.
  const auto change = [steps](const Intent& before) -> ChangeResult {
    Intent next = before;
    for (const Outcome& one : *steps) {
      const auto pool = next.pools.find(one.pool);
      if (pool == next.pools.end() || pool->second.plan != one.before) continue;
      pool->second.plan = one.step.plan;
      pool->second.plan->revision = before.revision + 1;
    }
    return next;
  };
  // What went wrong is in the log, and it is tried again.
  world_.change(change, what, [this, alive = alive_](const Store::ChangeOutcome&) {
    if (*alive)
      loop_.post([this, alive] {
        if (*alive) end_of_step();
      });
  });
}

void Planner::end_of_step() {
  busy_ = false;
  if (std::exchange(again_, false)) look();
}

void Planner::ask(const std::string& pool, std::vector<RetireQuestion> questions) {
  if (questions.empty()) return;
  Watch& watch = watches_[pool];
  watch.next_ask = Clock::now() + pace_.ask_again;
  watch.answers = {questions.front().revision, {}};
  for (RetireQuestion& question : questions) {
    if (!question.ask.empty() && !world_.ask) {
      watch.waits = "no agents are asked ([agents] key_file): epoch " +
                    std::to_string(question.epoch) + " stays for the time of `hold`";
      continue;
    }
    const size_t number = watch.answers.each.size();
    watch.answers.each.push_back(unanswered(question));
    if (question.ask.empty()) continue;
    ++watch.asked;
    world_.ask(pool, std::move(question.ask),
               [this, alive = alive_, pool, revision = question.revision, number](Sockets sockets) {
                 if (*alive) answered(pool, revision, number, std::move(sockets));
               });
  }
  // Nobody had to be asked.
  again_ |= watch.asked == 0 && !watch.answers.each.empty();
}

void Planner::answered(const std::string& pool, uint64_t revision, size_t number, Sockets sockets) {
  const auto found = watches_.find(pool);
  if (found == watches_.end()) return;
  Watch& watch = found->second;
  if (watch.asked > 0) --watch.asked;
  const bool is_of_now = watch.answers.revision == revision && number < watch.answers.each.size();
  if (is_of_now) watch.answers.each[number].sockets = std::move(sockets);
  if (watch.asked == 0) look();
}

}  // namespace guideway
