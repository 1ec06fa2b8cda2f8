// SPDX-License-Identifier: Apache-2.0
// For tests of the prober's engine: a port, the backends behind it and a clock, all of them made
// up. What a backend answers, and how long that takes, is a function of the time at which it is
// asked. The scoreboard forgets as the real one does (score.h): one place for each eighth attempt.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "controlplane/probe_engine.h"

namespace guideway {

// Something that changes with time; asked about the past and the present.
template <typename T>
class Timeline {
 public:
  explicit Timeline(T first) : changes_{{0, first}} {}
  void set(uint64_t at_ns, T value) { changes_[at_ns] = value; }
  T at(uint64_t ns) const { return std::prev(changes_.upper_bound(ns))->second; }

 private:
  std::map<uint64_t, T> changes_;
};

class FakeWorld;

class FakePath : public ProbePath {
 public:
  explicit FakePath(FakeWorld& world) : world_(world) {}
  Result<void> open() override;
  Result<void> check() override;
  void expect(uint32_t target, uint32_t attempt, uint32_t awaited) override;
  void forget(uint32_t target) override;
  Scoreboard::Reply read(uint32_t target, uint32_t attempt) const override;
  Sent send(std::span<const Frame> frames) override;

 private:
  FakeWorld& world_;
};

class FakeWorld {
 public:
  static constexpr uint32_t kGateway = kProbeTargetsMax;  // its target id as a canary
  struct Answer {
    gw_reply_kind kind = GW_REPLY_alive;
    uint64_t after_ns = 200 * kUs;
  };
  using Backend = std::function<std::optional<Answer>(uint64_t asked_ns)>;
  static std::optional<Answer> alive(uint64_t) { return Answer{}; }
  static std::optional<Answer> dead(uint64_t) { return {}; }
  static std::optional<Answer> refusing(uint64_t) { return Answer{.kind = GW_REPLY_refused}; }
  // Another behaviour from then on.
  static Backend until(uint64_t ns, Backend first, Backend then) {
    return [=](uint64_t at) { return at < ns ? first(at) : then(at); };
  }

  FakeWorld()
      : engine({{1, 2}}, {.make_path =
                              [this](const ProbePort&) {
                                ++paths;
                                return std::make_unique<FakePath>(*this);
                              },
                          .start_http = [this](HttpRequest request) { http.push_back(request); }}) {
  }

  static Address address_of(uint32_t id) {
    const uint8_t bytes[] = {10, 0, static_cast<uint8_t>(id >> 8), static_cast<uint8_t>(id)};
    return Address::from_v4(bytes);
  }
  static ProbeTarget target(uint32_t id, uint32_t interval_ms = 10, uint32_t timeout_ms = 10) {
    ProbeTarget target;
    target.id = id;
    target.probe.kind = ProbeKind::tcp;
    target.probe.port = 80;
    target.probe.interval_ms = interval_ms;
    target.probe.timeout_ms = timeout_ms;
    target.interface = "eth1";
    target.outer.assign(14, 0);
    target.source = *Address::parse("10.1.0.1");
    target.destination = address_of(id);
    return target;
  }
  static ProbePort port(bool gateway = false) {
    ProbePort port;
    port.interface = "eth1";
    if (gateway)
      port.canaries.push_back(
          {std::vector<uint8_t>(14), *Address::parse("10.1.0.1"), address_of(kGateway)});
    return port;
  }
  void set_targets(std::vector<ProbeTarget> targets) {
    engine.set_targets(std::move(targets), now);
  }
  // Targets 0 to count - 1, all alive.
  void start(uint32_t count, bool gateway = false, uint32_t interval_ms = 10,
             uint32_t timeout_ms = 10) {
    engine.set_ports({port(gateway)}, now);
    std::vector<ProbeTarget> targets;
    for (uint32_t id = 0; id < count; ++id) {
      targets.push_back(target(id, interval_ms, timeout_ms));
      backends.emplace(id, alive);
    }
    if (gateway) backends.emplace(kGateway, alive);
    set_targets(targets);
  }

  // The prober's thread, for that long. `oversleep` says how much too late it wakes up.
  void run(uint64_t ns) {
    const uint64_t end = now + ns;
    while (now < end) {
      const uint64_t begun = now;
      const uint64_t next = engine.step(now);
      ++steps;
      for (const ProbeChange& change : engine.take_changes()) {
        EXPECT_LE(change.change.at_ns, now);
        EXPECT_FALSE(change.change.reason.empty());
        changes.push_back({change, now});
      }
      ASSERT_GT(next, begun);
      now = std::max(now, std::min(next + (oversleep ? oversleep() : 0), end));
    }
  }

  struct Seen1 {
    ProbeChange change;
    uint64_t known_ns;  // at the end of which step
  };
  // The changes of a verdict, not those of blindness alone.
  std::vector<Seen1> turns(uint32_t id) const {
    std::vector<Seen1> out;
    Seen seen = Seen::unknown;
    for (const Seen1& one : changes) {
      if (one.change.id != id || one.change.change.seen == seen) continue;
      seen = one.change.change.seen;
      out.push_back(one);
    }
    return out;
  }
  unsigned falls() const {
    std::map<uint32_t, Seen> seen;
    unsigned count = 0;
    for (const Seen1& one : changes) {
      Seen& before = seen[one.change.id];
      count += one.change.change.seen == Seen::down && before != Seen::down;
      before = one.change.change.seen;
    }
    return count;
  }
  ProbeSight sight(uint32_t id) const {
    for (const ProbeSight& sight : engine.sights())
      if (sight.id == id) return sight;
    ADD_FAILURE() << "no target " << id;
    return {};
  }
  std::string problem() const {
    const auto problems = engine.problems();
    const auto it = problems.find("eth1");
    return it == problems.end() ? "" : it->second;
  }

  uint64_t now = 1'000'000 * kMs + 12'345;
  Timeline<unsigned> program{7};  // the `edge` on the interface; 0: none
  Timeline<bool> link{true};
  std::function<uint64_t()> oversleep;
  // When a frame that is sent then leaves the queues of the way; not given: at once.
  std::function<uint64_t(uint64_t sent_ns)> leaves;
  uint64_t send_takes = 2 * kUs;
  std::function<int(size_t frame)> send_error;  // errno, 0: none; of the frame in its batch
  std::map<uint32_t, Backend> backends;
  std::vector<HttpRequest> http;
  std::vector<Seen1> changes;
  uint64_t steps = 0, batches = 0;
  unsigned paths = 0;
  struct Frame {
    uint64_t at_ns;
    uint32_t id;
    bool reset;
  };
  std::vector<Frame> frames;

  unsigned sent(uint32_t id, bool reset) const {
    return static_cast<unsigned>(std::count_if(frames.begin(), frames.end(), [&](const Frame& f) {
      return f.id == id && f.reset == reset;
    }));
  }

  ProbeEngine engine;

 private:
  friend class FakePath;
  struct Reply {
    uint32_t attempt = 0;
    gw_reply_kind kind = GW_REPLY_none;
    uint64_t received_ns = 0;
  };
  struct Score {
    uint32_t attempt = 0, awaited = 0;
    std::array<Reply, 1024> replies;  // that came, or will; by attempt
  };
  const Reply* reply(const Score& score, uint32_t attempt) const {
    const Reply& reply = score.replies[attempt % score.replies.size()];
    const bool came = reply.kind != GW_REPLY_none && reply.attempt == attempt &&
                      reply.received_ns <= now && program.at(reply.received_ns) == mapped_ &&
                      link.at(reply.received_ns);
    return came ? &reply : nullptr;
  }
  unsigned mapped_ = 0;  // the program whose scoreboard is mapped
  std::map<uint32_t, Score> scores_;

  void take(ProbePath::Frame frame, uint64_t at_ns) {
    const uint32_t id = static_cast<uint32_t>(frame[14 + 18] << 8 | frame[14 + 19]);
    const bool reset = frame[14 + 9] == 6 && (frame[14 + 20 + 13] & 0x04) != 0;
    frames.push_back({at_ns, id, reset});
    const auto backend = backends.find(id);
    if (reset || backend == backends.end() || !link.at(at_ns)) return;
    const uint64_t left_ns = leaves ? leaves(at_ns) : at_ns;
    const auto answer = backend->second(left_ns);
    if (!answer) return;
    const uint64_t received = left_ns + answer->after_ns;
    Score& score = scores_[id];
    score.replies[score.attempt % score.replies.size()] = {score.attempt, answer->kind, received};
  }
};

inline Result<void> FakePath::open() {
  world_.mapped_ = world_.program.at(world_.now);
  world_.scores_.clear();
  if (world_.mapped_ == 0) return fail("eth1", "the edge program is not attached");
  return {};
}

inline Result<void> FakePath::check() {
  if (world_.program.at(world_.now) == world_.mapped_) return {};
  return fail("eth1", "the edge program was taken off or replaced");
}

inline void FakePath::expect(uint32_t target, uint32_t attempt, uint32_t awaited) {
  EXPECT_NE(world_.mapped_, 0u);
  auto& score = world_.scores_[target];
  EXPECT_TRUE(score.awaited == 0 || attempt == score.attempt + 1);
  score.attempt = attempt;
  score.awaited = awaited;
}

inline void FakePath::forget(uint32_t target) {
  world_.scores_[target].awaited = 0;
}

inline Scoreboard::Reply FakePath::read(uint32_t target, uint32_t attempt) const {
  EXPECT_NE(world_.mapped_, 0u);
  const auto score = world_.scores_.find(target);
  if (score == world_.scores_.end()) return {};
  const uint32_t newest = score->second.attempt;
  if (newest - attempt >= score->second.awaited) return {};
  // A newer attempt takes the place of an older, never the other way.
  for (uint32_t later = attempt + GW_SCORE_REPLIES; later <= newest; later += GW_SCORE_REPLIES)
    if (world_.reply(score->second, later)) return {};
  const FakeWorld::Reply* reply = world_.reply(score->second, attempt);
  if (!reply) return {};
  return {reply->kind, reply->received_ns};
}

inline ProbePath::Sent FakePath::send(std::span<const Frame> frames) {
  EXPECT_NE(world_.mapped_, 0u);
  EXPECT_LE(frames.size(), kFramesMax);
  Sent sent{.before_ns = world_.now};
  ++world_.batches;
  for (const Frame& frame : frames) {
    const int error = world_.send_error ? world_.send_error(sent.frames) : 0;
    if (error != 0) {
      if (sent.frames == 0) sent.error = error;
      break;
    }
    world_.take(frame, world_.now);
    ++sent.frames;
  }
  world_.now += world_.send_takes;
  sent.after_ns = world_.now;
  return sent;
}

}  // namespace guideway
