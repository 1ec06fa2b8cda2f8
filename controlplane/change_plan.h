// SPDX-License-Identifier: Apache-2.0
// Planned changes of a pool, in steps that no established flow notices. A pure function: durable
// state and event in, durable state out. No clock, no I/O: the caller (one elected node) stores the
// result before anybody acts on it, and gives each event again whenever it likes. Steps:
//
//   prepare: the wanted epoch is `incoming`, a later hop everywhere
//   commit:  it is `current`; the old one is the most recent `earlier`
//   retire:  earlier epochs go, or the stand-ins of one do, once no socket needs them
//
// One rule keeps all flows: a step is taken only when all live nodes have confirmed the revision of
// the step before. So nodes are at most one step apart. Why that is enough: docs/design/hops.md.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "controlplane/epochs.h"
#include "controlplane/hop_table.h"

namespace guideway {

// All of it is durable.
struct ChangePlan {
  PoolHistory history;
  PoolShape wanted;
  uint64_t revision = 0;  // of the last step: the first revision that has this history
  bool forced = false;    // the wanted change must not wait for earlier epochs
  bool operator==(const ChangePlan&) const = default;
};

// The operator wants another shape. Replaces what was wanted and not yet prepared; what is prepared
// is committed first.
struct Want {
  PoolShape shape;
  bool forced = false;
};

// All live nodes run images of `revision` or a later one.
struct Confirmed {
  uint64_t revision = 0;
};

// What the agents said to a RetireQuestion.
struct Answer {
  uint64_t epoch = 0;  // as in the question
  EpochPart part = EpochPart::all;
  std::vector<Address> asked;
  std::map<Address, uint64_t> sockets;  // of those that answered
};

// Of one round of questions, in their order: the first that allows a step is taken.
struct Answers {
  uint64_t revision = 0;  // as in the questions
  std::vector<Answer> each;
};

// The operator's deadline of an earlier epoch is over (counted by the caller from its commit).
struct Deadline {
  uint64_t revision = 0;  // confirmed by all live nodes
  uint64_t epoch = 0;
};

// The change that waits shall not: the oldest epochs go, with their flows, until it has room.
struct Force {};

using PlanEvent = std::variant<Want, Confirmed, Answers, Deadline, Force>;

struct PlanStep {
  ChangePlan plan;  // to be stored if `changed`
  bool changed = false;
  std::string did;    // "prepared epoch 13"; empty: no step
  std::string waits;  // why the next step is not taken now; empty: nothing is to be done
};

// A new pool: nobody sends it packets yet, so it starts in its shape.
ChangePlan first_plan(PoolShape shape, uint64_t revision);

// `next_revision`: what a step that changes the history is stored as; above plan.revision. An event
// that is out of date (other revision, epoch gone) changes nothing.
PlanStep step(const ChangePlan& plan, const PlanEvent& event, uint64_t next_revision);

// Nothing wanted that is not current, nothing prepared, nothing earlier.
bool at_rest(const ChangePlan& plan);

// The next epoch on the way from `current` to `wanted`; nothing if it is there. Usually `wanted`
// itself; a resize goes by an epoch in between, so that no list needs more than four hops.
std::optional<Epoch> next_epoch(const Epoch& current, const PoolShape& wanted);

struct RetireQuestion {
  uint64_t revision = 0;
  uint64_t epoch = 0;
  EpochPart part = EpochPart::all;
  std::vector<BackendRanges> ask;  // empty: there is nothing to ask
};

// To that question, before anybody has answered.
Answer unanswered(const RetireQuestion& question);

// What to ask the agents now; nothing before plan.revision is confirmed, since until then flows may
// still begin where they are asked about. (The caller lets SYNs in flight and SYN cookies settle.)
// First about many epochs at once, the oldest ones: a backend that was the hop of a slot through
// all of them has flows that belong to none of them alone. Then about each. Stand-ins alone are
// asked about only if they are in the way of the wanted change.
std::vector<RetireQuestion> retire_questions(const ChangePlan& plan, uint64_t confirmed);

}  // namespace guideway
