// SPDX-License-Identifier: Apache-2.0
#include "controlplane/probe_engine.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>

namespace guideway {
namespace {

constexpr uint64_t kLookFirstNs = 100 * kUs;
// Between two steps: more probes in one go cost less, and nobody notices half a millisecond.
constexpr uint64_t kGapNs = 250 * kUs;
constexpr uint64_t kGapBusyNs = 500 * kUs;
constexpr unsigned kBusyFrames = 2;
constexpr uint64_t kStepLatestNs = 100 * kMs;
constexpr uint64_t kHeldUpNs = 2 * kMs;
constexpr uint32_t kUnderWayMax = 1024;  // of one target
// Of an http request, until its thread must have said something.
constexpr uint64_t kHttpPatienceNs = 2'000 * kMs;

// Attempts that may be under way at a time, and those whose late answers are of interest.
uint32_t awaited(const Probe& probe) {
  const uint32_t in_time = probe.timeout_ms / std::max(probe.interval_ms, 1u) + 1;
  return std::min(in_time + GW_SCORE_REPLIES, GW_SCORE_AWAITED_MAX);
}

// Phases of targets with neighbouring ids are far apart, and however many there are, they are
// spread evenly (Fibonacci hashing).
uint64_t first_due(uint32_t id, uint64_t interval_ns, uint64_t now_ns) {
  const uint64_t phase = (uint64_t{id * 0x9E3779B1u} * (interval_ns / kUs) >> 32) * kUs;
  const uint64_t due = now_ns - now_ns % interval_ns + phase;
  return due > now_ns ? due : due + interval_ns;
}

}  // namespace

void ProbeEngine::set_targets(std::vector<ProbeTarget> targets, uint64_t now_ns) {
  for (auto& probed : probed_)
    if (probed) probed->leaving = Probed::Leaving::for_good;
  std::erase_if(targets, [&](const ProbeTarget& target) { return !is_news(target); });

  // One look at what is under way, however many targets change.
  flights_.each([&](Flight& flight) {
    if (flight.probed->leaving == Probed::Leaving::no) return;
    if (flight.probed->leaving == Probed::Leaving::its_way)
      decide_unsure(flight, "its way has changed", now_ns);
    abandon(flight);
  });
  flights_.tidy(now_ns);
  for (auto& probed : probed_) {
    if (!probed || probed->leaving == Probed::Leaving::no) continue;
    if (probed->port && probed->port->can_send()) probed->port->path().forget(probed->target.id);
  }

  for (ProbeTarget& target : targets) add(std::move(target), now_ns);
  due_.clear();
  for (auto& probed : probed_) {
    if (probed && probed->leaving == Probed::Leaving::for_good) probed.reset();
    if (probed) due_.emplace_back(probed->due_ns, probed->target.id);
  }
  std::make_heap(due_.begin(), due_.end(), std::greater<>());
  link();
}

// Whether the target is another than before; one that is there says how.
bool ProbeEngine::is_news(const ProbeTarget& target) {
  if (target.id >= kProbeTargetsMax || target.probe.kind == ProbeKind::none) return false;
  if (target.id >= probed_.size() || !probed_[target.id]) return true;
  Probed& probed = *probed_[target.id];
  if (probed.target == target) {
    probed.leaving = Probed::Leaving::no;
    return false;
  }
  if (probed.target.probe == target.probe) probed.leaving = Probed::Leaving::its_way;
  return true;
}

void ProbeEngine::add(ProbeTarget target, uint64_t now_ns) {
  const uint32_t id = target.id;
  if (id >= probed_.size()) probed_.resize(id + 1);
  auto& place = probed_[id];
  if (place && place->leaving == Probed::Leaving::its_way) {
    place->target = std::move(target);
  } else {
    // Attempts go on: an answer to the one before is none to this.
    const uint32_t attempt = place ? place->attempt : 0;
    place = std::make_unique<Probed>(std::move(target));
    place->attempt = attempt;
    place->due_ns = first_due(id, std::max(place->interval_ns(), kMs), now_ns);
  }
  place->leaving = Probed::Leaving::no;
  prepare(*place);
}

void ProbeEngine::prepare(Probed& probed) {
  probed.awaited = awaited(probed.target.probe);
  probed.packet.reset();
  probed.problem.clear();
  probed.late_ns = 0;
  if (probed.is_http()) return;
  auto packet = ProbePacket::make(probed.target, secret_);
  if (packet) {
    probed.packet = *packet;
  } else {
    probed.problem = packet.error().text();
  }
}

void ProbeEngine::link() {
  for (auto& probed : probed_) {
    if (!probed) continue;
    const auto port = ports_.find(probed->target.interface);
    probed->port = port == ports_.end() ? nullptr : port->second.get();
  }
}

// It is of no interest any more.
void ProbeEngine::abandon(Flight& flight) {
  if (flight.state == Flight::State::open) queue_reset(*flight.probed, flight.attempt);
  flight.state = Flight::State::gone;
}

void ProbeEngine::set_ports(std::vector<ProbePort> ports, uint64_t now_ns) {
  std::map<std::string, std::unique_ptr<PortWatch>> kept;
  for (ProbePort& port : ports) {
    auto known = ports_.extract(port.interface);
    if (!known.empty() && known.mapped()->port().owned == port.owned) {
      PortWatch& watch = *known.mapped();
      if (const auto reason = watch.set_connection(port.connection))
        discard(watch, *reason, now_ns);
      if (watch.port().canaries != port.canaries) {
        abandon_canaries(watch);
        watch.set_canaries(port.canaries, secret_);
      }
      kept.insert(std::move(known));
      continue;
    }
    if (!known.empty()) ports_.insert(std::move(known));
    if (kept.count(port.interface)) continue;
    auto watch = std::make_unique<PortWatch>(port, world_.make_path(port));
    watch->set_canaries(port.canaries, secret_);
    kept.emplace(port.interface, std::move(watch));
  }
  for (const auto& [interface, watch] : ports_) {
    discard(*watch, interface + " is a port no more", now_ns);
    abandon_canaries(*watch);
  }
  flights_.tidy(now_ns);
  ports_ = std::move(kept);
  link();
}

void ProbeEngine::abandon_canaries(const PortWatch& port) {
  flights_.each([&](Flight& flight) {
    if (flight.probed->canary && flight.probed->port == &port) abandon(flight);
  });
}

// Nothing that is under way there, or was about to be, tells anything.
void ProbeEngine::discard(PortWatch& port, const std::string& reason, uint64_t now_ns) {
  port.drop_probes();
  flights_.each([&](Flight& flight) {
    if (flight.probed->port != &port || flight.http) return;
    decide_unsure(flight, reason, now_ns);
    flight.state = Flight::State::gone;
  });
}

uint64_t ProbeEngine::step(uint64_t now_ns) {
  if (expected_ns_ != 0 && now_ns > expected_ns_ + kHeldUpNs) {
    held_up_from_ = expected_ns_;
    held_up_to_ = now_ns;
  }
  launched_ = 0;
  check_ports(now_ns);

  overdue_.clear();
  flights_.each_due(now_ns, [&](Flight& flight) { look(flight, now_ns); });
  for (Flight* flight : overdue_)
    if (flight->state == Flight::State::overdue) decide(*flight, now_ns);
  flights_.tidy(now_ns);

  send_due(now_ns);
  for (auto& [interface, port] : ports_) flush(*port);

  uint64_t next = std::min(flights_.next_ns(), now_ns + kStepLatestNs);
  if (!due_.empty()) next = std::min(next, due_.front().first);
  for (const auto& [interface, port] : ports_) next = std::min(next, port->next_check_ns());
  expected_ns_ = std::max(next, now_ns + (launched_ > kBusyFrames ? kGapBusyNs : kGapNs));
  return expected_ns_;
}

void ProbeEngine::check_ports(uint64_t now_ns) {
  for (auto& [interface, port] : ports_) {
    if (port->next_check_ns() > now_ns) continue;
    if (const auto reason = port->check(now_ns)) discard(*port, *reason, now_ns);
  }
}

void ProbeEngine::send_due(uint64_t now_ns) {
  while (!due_.empty() && due_.front().first <= now_ns) {
    std::pop_heap(due_.begin(), due_.end(), std::greater<>());
    auto& [due, id] = due_.back();
    Probed& probed = *probed_[id];
    // Those missed are not made up for; nor does the next follow on the heels of a late one, or the
    // end of an outage could cost both.
    const uint64_t interval = std::max(probed.interval_ns(), kMs);
    const uint64_t heel = now_ns - due < kHeldUpNs ? 0 : interval / 2;
    due += ((now_ns + heel - due) / interval + 1) * interval;
    probed.due_ns = due;
    std::push_heap(due_.begin(), due_.end(), std::greater<>());
    begin(probed, now_ns);
  }
}

void ProbeEngine::begin(Probed& probed, uint64_t now_ns) {
  if (probed.is_http()) {
    if (probed.http_token != 0) return;
    probed.http_token = ++http_tokens_;
    Flight flight{.probed = &probed, .http = true, .sent_ns = now_ns, .looked_ns = now_ns};
    flight.deadline_ns = now_ns + probed.timeout_ns() + kHttpPatienceNs;
    flight.look_ns = now_ns + std::min(probed.timeout_ns() / 2, probed.interval_ns());
    flights_.add(flight);
    ++probed.under_way;
    ++probed.sent;
    world_.start_http(
        {probed.target.id, probed.http_token, probed.target.destination, probed.target.probe});
    return;
  }
  const PortWatch* port = probed.port;
  if (!probed.packet) return unsure(probed, probed.problem, now_ns, now_ns);
  if (!port) return unsure(probed, probed.target.interface + " is no port", now_ns, now_ns);
  if (!port->can_send()) {
    if (!probed.judge.blind()) unsure(probed, port->why_not(), now_ns, now_ns);
    return;
  }
  if (probed.under_way < kUnderWayMax) queue_probe(probed);
}

void ProbeEngine::queue_probe(Probed& probed) {
  ++probed.attempt;
  probed.port->path().expect(probed.target.id, probed.attempt, probed.awaited);
  probed.port->queue(probed, probed.attempt, true, probed.packet->probe(probed.attempt));
}

void ProbeEngine::queue_reset(Probed& probed, uint32_t attempt) {
  if (probed.is_tcp() && probed.packet && probed.port)
    probed.port->queue(probed, attempt, false, probed.packet->reset(attempt));
}

void ProbeEngine::flush(PortWatch& port) {
  auto& outgoing = port.outgoing();
  if (!port.can_send()) return port.keep_resets();
  for (size_t at = 0; at < outgoing.size();) {
    frames_.clear();
    const size_t end = std::min(at + ProbePath::kFramesMax, outgoing.size());
    for (size_t i = at; i < end; ++i)
      frames_.emplace_back(outgoing[i].bytes.data(), outgoing[i].size);
    const ProbePath::Sent sent = port.path().send(frames_);
    for (const size_t done = at + sent.frames; at < done; ++at) launched(outgoing[at], sent);
    if (sent.error == 0) continue;
    // A full queue may have room for the next; what else there is, is the same for all of them.
    const bool full = sent.error == ENOBUFS || sent.error == EAGAIN;
    const size_t lost = full ? std::min(at + 1, end) : end;
    for (; at < lost; ++at) not_launched(outgoing[at], sent);
  }
  launched_ += static_cast<unsigned>(outgoing.size());
  outgoing.clear();
}

void ProbeEngine::launched(const PortWatch::Outgoing& out, const ProbePath::Sent& sent) {
  if (!out.is_probe) return;
  Probed& probed = *out.probed;
  Flight flight{.probed = &probed, .attempt = out.attempt, .sent_ns = sent.before_ns};
  const uint64_t timeout = probed.timeout_ns();
  flight.deadline_ns = sent.after_ns + timeout;
  flight.looked_ns = sent.after_ns;
  flight.look_ns = std::min(sent.after_ns + kLookFirstNs, flight.deadline_ns);
  flight.held_up = sent.after_ns - sent.before_ns > timeout / 2;
  flights_.add(flight);
  if (probed.canary) return;
  probed.order.sent(out.attempt);
  ++probed.under_way;
  ++probed.sent;
}

void ProbeEngine::not_launched(const PortWatch::Outgoing& out, const ProbePath::Sent& sent) {
  if (!out.is_probe || out.probed->canary) return;
  unsure(*out.probed,
         "sending by " + out.probed->target.interface + ": " + std::strerror(sent.error),
         sent.before_ns, sent.after_ns);
}

std::vector<ProbeSight> ProbeEngine::sights() const {
  std::vector<ProbeSight> out;
  out.reserve(due_.size());
  for (const auto& probed : probed_) {
    if (!probed) continue;
    const Judge& judge = probed->judge;
    out.push_back({.id = probed->target.id,
                   .seen = judge.seen(),
                   .blind = judge.blind(),
                   .rtt_us = static_cast<uint32_t>((probed->srtt_ns + kUs - 1) / kUs),
                   .sent = probed->sent,
                   .answered = probed->answered,
                   .successes = judge.successes(),
                   .successes_needed = judge.successes_needed()});
  }
  return out;
}

std::map<std::string, std::string> ProbeEngine::problems() const {
  std::map<std::string, std::string> out;
  for (const auto& [interface, port] : ports_)
    if (std::string problem = port->problem(); !problem.empty()) out[interface] = problem;
  return out;
}

}  // namespace guideway
