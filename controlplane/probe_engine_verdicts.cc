// SPDX-License-Identifier: Apache-2.0
// The engine's second half: what an answer, or its absence, means.
#include <algorithm>
#include <utility>

#include "controlplane/probe_engine.h"

namespace guideway {
namespace {

constexpr uint64_t kSecondNs = 1'000 * kMs;
// How soon after its deadline a silent probe may be decided, for one check of the port.
constexpr uint64_t kVerifyGapNs = 1 * kMs;
constexpr uint64_t kDoubtLookNs = 500 * kUs;
constexpr uint64_t kAskGapNs = 1 * kMs;
// For those that are down already it matters little.
constexpr uint64_t kAskGapDownNs = 100 * kMs;
constexpr uint64_t kDownDoubtNs = kSecondNs;

uint64_t before(uint64_t now_ns, uint64_t ago_ns) {
  return now_ns > ago_ns ? now_ns - ago_ns : 0;
}

uint64_t ask_ns(const Flight& flight) {
  return flight.sent_ns + std::min(flight.probed->timeout_ns() / 2, flight.probed->interval_ns());
}

// How long a silent probe waits for somebody to vouch.
uint64_t patience_ns(const Flight& flight) {
  return std::clamp(flight.probed->timeout_ns(), 10 * kMs, 100 * kMs);
}

// Most answers come soon after the probe, so later looks are rarer.
uint64_t next_look_ns(const Flight& flight, uint64_t now_ns) {
  const uint64_t age = now_ns - std::min(now_ns, flight.sent_ns);
  uint64_t gap = age < 4 * kMs ? std::clamp(age, 100 * kUs, 500 * kUs)
                               : std::clamp(age / 8, 500 * kUs, 4 * kMs);
  const Probed& probed = *flight.probed;
  // The place of its answer is given to another attempt after GW_SCORE_REPLIES intervals.
  if (probed.awaited > 2 * GW_SCORE_REPLIES) gap = std::min(gap, 2 * probed.interval_ns());
  uint64_t next = now_ns + gap;
  if (flight.state == Flight::State::judged) return next;
  for (const uint64_t event : {ask_ns(flight), flight.deadline_ns})
    if (event > now_ns) next = std::min(next, event);
  return next;
}

}  // namespace

void ProbeEngine::look(Flight& flight, uint64_t now_ns) {
  if (flight.http) return look_http(flight, now_ns);
  const Probed& probed = *flight.probed;
  const ProbePath& path = probed.port->path();
  if (flight.answer_ns != 0) {
    flight.state = Flight::State::overdue;
    overdue_.push_back(&flight);
    return;
  }
  const auto reply = path.read(probed.target.id, flight.attempt);
  if (reply.kind != GW_REPLY_none) return answered(flight, reply);

  if (now_ns - flight.looked_ns > 4 * probed.interval_ns()) {
    for (uint32_t later = flight.attempt + GW_SCORE_REPLIES;
         static_cast<int32_t>(probed.attempt - later) >= 0; later += GW_SCORE_REPLIES)
      flight.forgotten |= path.read(probed.target.id, later).kind != GW_REPLY_none;
  }
  flight.looked_ns = now_ns;
  if (flight.state == Flight::State::judged) {
    if (now_ns >= flight.until_ns) flight.state = Flight::State::gone;
  } else if (now_ns >= flight.deadline_ns) {
    flight.state = Flight::State::overdue;
    overdue_.push_back(&flight);
  } else if (flight.asked == 0 && now_ns >= ask_ns(flight) && !probed.canary) {
    flight.asked = 1;
    if (!is_believed(flight)) ask_canaries(flight, now_ns);
  }
  flight.look_ns = next_look_ns(flight, now_ns);
}

void ProbeEngine::look_http(Flight& flight, uint64_t now_ns) {
  Probed& probed = *flight.probed;
  if (!probed.http_answer) {
    if (flight.asked == 0 && now_ns >= ask_ns(flight)) {
      flight.asked = 1;
      if (!is_believed(flight)) ask_canaries(flight, now_ns);
    }
    flight.look_ns = flight.deadline_ns;
    if (now_ns >= flight.deadline_ns)
      decide_unsure(flight, "the http prober did not answer", now_ns);
    return;
  }
  const Outcome& outcome = probed.http_answer->outcome;
  flight.sent_ns = outcome.sent_ns;
  flight.deadline_ns = outcome.decided_ns;
  if (outcome.kind == Outcome::Kind::silent) {
    flight.state = Flight::State::overdue;
    overdue_.push_back(&flight);
    return;
  }
  if (outcome.kind != Outcome::Kind::unsure) {
    if (probed.port) probed.port->note_answer(outcome.sent_ns, outcome.decided_ns);
    ++probed.answered;
    if (outcome.kind == Outcome::Kind::alive) note_rtt(probed, outcome.rtt_us * kUs);
    finish(flight, outcome);
  } else {
    unsure(probed, outcome.detail, outcome.sent_ns, now_ns);
  }
  close(flight, now_ns);
}

void ProbeEngine::take_http(HttpAnswer answer) {
  if (answer.id >= probed_.size() || !probed_[answer.id]) return;
  Probed& probed = *probed_[answer.id];
  if (probed.http_token == 0 || probed.http_token != answer.token) return;
  probed.http_answer = std::move(answer);
  flights_.each([&](Flight& flight) {
    if (flight.probed == &probed) flight.look_ns = 0;
  });
  flights_.look_now();
}

void ProbeEngine::answered(Flight& flight, const Scoreboard::Reply& reply) {
  Probed& probed = *flight.probed;
  const bool was_judged = flight.state == Flight::State::judged;
  flight.state = Flight::State::gone;
  probed.port->note_answer(flight.sent_ns, reply.received_ns);
  if (probed.canary) return;

  // Stamps of two CPUs, rounded down: not less than nothing.
  const uint64_t rtt = std::max(reply.received_ns, flight.sent_ns + 1) - flight.sent_ns;
  ++probed.answered;
  note_rtt(probed, rtt);
  if (reply.kind == GW_REPLY_alive) queue_reset(probed, flight.attempt);
  if (was_judged) {
    probed.late_ns = rtt;
    return;
  }
  if (reply.kind == GW_REPLY_alive && reply.received_ns > flight.deadline_ns) {
    // Whether that is its fault, others know.
    flight.answer_ns = reply.received_ns;
    flight.held_up |= was_held_up(flight, reply.received_ns);
    flight.state = Flight::State::overdue;
    overdue_.push_back(&flight);
    return;
  }
  --probed.under_way;
  Outcome outcome{.kind = Outcome::Kind::alive,
                  .sent_ns = flight.sent_ns,
                  .decided_ns = reply.received_ns,
                  .rtt_us = static_cast<uint32_t>((rtt + kUs - 1) / kUs),
                  .detail = {}};
  if (reply.kind == GW_REPLY_refused) {
    // It counts at once, and what was before it does not any more.
    outcome.kind = Outcome::Kind::refused;
    probed.order.forget_waiting();
    judge(probed, outcome);
    return finish(flight, {});
  }
  probed.late_ns = 0;
  finish(flight, std::move(outcome));
}

// It was answered, after its deadline.
void ProbeEngine::decide_late(Flight& flight, uint64_t now_ns) {
  const uint64_t rtt = flight.answer_ns - flight.sent_ns;
  flight.probed->late_ns = rtt;
  finish(flight, Outcome{.kind = Outcome::Kind::late,
                         .sent_ns = flight.sent_ns,
                         .decided_ns = flight.answer_ns,
                         .rtt_us = static_cast<uint32_t>((rtt + kUs - 1) / kUs),
                         .detail = {}});
  close(flight, now_ns);
}

// RFC 6298 section 2.
void ProbeEngine::note_rtt(Probed& probed, uint64_t rtt_ns) {
  const uint64_t rtt = std::max<uint64_t>(rtt_ns, 1);
  probed.srtt_ns = probed.srtt_ns == 0 ? rtt : (probed.srtt_ns * 7 + rtt + 7) / 8;
}

// Whether the port is known to have worked while this probe should have been answered: somebody who
// was asked soon after was heard in time, and when this one's answer was due or later. So an outage
// of the port costs one probe of a target at its end, and none at its beginning; and where frames
// wait in the node's queues for as long as a probe may take, nobody is believed.
bool ProbeEngine::is_believed(const Flight& flight) const {
  const Probed& probed = *flight.probed;
  if (!probed.port) return true;  // http, by an interface of which nothing is known
  if (probed.judge.seen() == Seen::down)
    return probed.port->answered_since(before(flight.sent_ns, kDownDoubtNs));
  uint64_t due = probed.timeout_ns() / 2;
  if (probed.srtt_ns != 0) due = std::min(due, std::max(kMs, 4 * probed.srtt_ns));
  return probed.port->vouches(flight.sent_ns, probed.interval_ns(), flight.sent_ns + due,
                              probed.timeout_ns());
}

bool ProbeEngine::was_held_up(const Flight& flight, uint64_t until_ns) const {
  const uint64_t from = std::max(flight.sent_ns, held_up_from_);
  const uint64_t to = std::min(until_ns, held_up_to_);
  return to > from && to - from > flight.probed->timeout_ns() / 2;
}

void ProbeEngine::decide(Flight& flight, uint64_t now_ns) {
  if (flight.probed->canary) {
    flight.state = Flight::State::gone;
    return;
  }
  PortWatch* port = flight.probed->port;
  if (!flight.http && port->verified_ns() < flight.deadline_ns) {
    if (now_ns < port->last_check_ns() + kVerifyGapNs) {
      flight.state = Flight::State::open;
      flight.look_ns = port->last_check_ns() + kVerifyGapNs;
      return;
    }
    if (const auto reason = port->check(now_ns)) return discard(*port, *reason, now_ns);
  }
  if (flight.forgotten) {
    finish(flight, {});
    return close(flight, now_ns);
  }
  if (flight.held_up) return decide_unsure(flight, "this machine was held up", now_ns);
  if (is_believed(flight))
    return flight.answer_ns != 0 ? decide_late(flight, now_ns) : decide_silent(flight, now_ns);
  if (port->distrusts(flight.sent_ns)) {
    return decide_unsure(
        flight, "nothing came back by " + port->port().interface + " when it was sent", now_ns);
  }
  if (now_ns < flight.deadline_ns + patience_ns(flight)) {
    flight.state = Flight::State::open;
    flight.look_ns = now_ns + kDoubtLookNs;
    if (flight.asked < 2) {
      flight.asked = 2;
      ask_canaries(flight, now_ns);
    }
    return;
  }
  port->note_silence(flight.sent_ns);
  const std::string problem = port->problem();
  decide_unsure(flight, problem.empty() ? "nobody else was heard in time" : problem, now_ns);
}

void ProbeEngine::decide_silent(Flight& flight, uint64_t now_ns) {
  Probed& probed = *flight.probed;
  Outcome outcome{.kind = Outcome::Kind::silent,
                  .sent_ns = flight.sent_ns,
                  .decided_ns = flight.deadline_ns,
                  .rtt_us = 0,
                  .detail = {}};
  if (flight.http && probed.http_answer) {
    outcome.detail = std::move(probed.http_answer->outcome.detail);
  } else if (probed.late_ns != 0 && probed.judge.seen() != Seen::down) {
    outcome.detail =
        "an earlier one was answered after " + std::to_string(probed.late_ns / kMs) + " ms";
  }
  finish(flight, std::move(outcome));
  close(flight, now_ns);
}

void ProbeEngine::decide_unsure(Flight& flight, const std::string& reason, uint64_t now_ns) {
  const bool open = flight.state == Flight::State::open || flight.state == Flight::State::overdue;
  if (!open) return;
  if (flight.probed->canary) {
    flight.state = Flight::State::gone;
    return;
  }
  unsure(*flight.probed, reason, flight.sent_ns, now_ns);
  finish(flight, {});
  close(flight, now_ns);
}

// It is decided. What may have been left at the backend is taken back, whether or not its SYN-ACK
// was lost; and a late answer is worth knowing.
void ProbeEngine::close(Flight& flight, uint64_t now_ns) {
  Probed& probed = *flight.probed;
  if (probed.under_way > 0) --probed.under_way;
  if (flight.answer_ns != 0) {
    flight.state = Flight::State::gone;
    return;
  }
  if (flight.http) {
    probed.http_token = 0;
    probed.http_answer.reset();
    flight.state = Flight::State::gone;
    return;
  }
  queue_reset(probed, flight.attempt);
  flight.state = Flight::State::judged;
  flight.until_ns = now_ns + std::min(6 * probed.interval_ns(), kSecondNs);
  flight.look_ns = next_look_ns(flight, now_ns);
}

void ProbeEngine::ask_canaries(Flight& flight, uint64_t now_ns) {
  PortWatch* port = flight.probed->port;
  if (!port || !port->can_send() || now_ns < port->asked_ns + kAskGapNs) return;
  if (flight.probed->judge.seen() == Seen::down) {
    if (now_ns < port->asked_ns + kAskGapDownNs) return;
  } else if (flight.asked == 1 && port->asked_ns >= flight.sent_ns) {
    return;
  }
  port->asked_ns = now_ns;
  for (const auto& canary : port->canaries()) queue_probe(*canary);
}

void ProbeEngine::finish(const Flight& flight, std::optional<Outcome> outcome) {
  Probed& probed = *flight.probed;
  if (outcome) probed.sure_ns = std::max(probed.sure_ns, outcome->sent_ns);
  if (!flight.http) {
    return probed.order.decided(flight.attempt, std::move(outcome),
                                [&](const Outcome& next) { judge(probed, next); });
  }
  if (outcome) judge(probed, *outcome);
}

void ProbeEngine::judge(Probed& probed, const Outcome& outcome) {
  if (auto change = probed.judge.take(outcome))
    changes_.push_back({probed.target.id, *std::move(change)});
}

void ProbeEngine::unsure(Probed& probed, const std::string& reason, uint64_t sent_ns,
                         uint64_t now_ns) {
  // A later one was sure: this one tells nothing about now.
  if (probed.judge.blind() || sent_ns < probed.sure_ns) return;
  judge(probed, {.kind = Outcome::Kind::unsure,
                 .sent_ns = sent_ns,
                 .decided_ns = now_ns,
                 .rtt_us = 0,
                 .detail = reason});
}

}  // namespace guideway
