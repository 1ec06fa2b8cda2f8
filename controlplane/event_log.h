// SPDX-License-Identifier: Apache-2.0
// What happened to backends and pools lately, numbered, with times: when it was noticed, and how
// long it took until the dataplane forwarded accordingly. In memory, the last kEventsMax.
//
// Lives in the loop's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "controlplane/pool_state.h"

namespace guideway {

inline constexpr size_t kEventsMax = 10'000;

// Nanoseconds of CLOCK_MONOTONIC; and such a time as RFC 3339 with microseconds, UTC, by the
// present relation of the clocks.
uint64_t monotonic_ns();
std::string wall_time(uint64_t monotonic_ns);

class EventLog {
 public:
  // `releases`: the forwarding image changes by it.
  void add(const std::string& pool, const PoolTransition& transition, bool releases);

  // An image that has all events so far in it goes out as `generation`; it has been adopted.
  void published(uint64_t generation);
  void adopted(uint64_t generation, uint64_t now_ns);

  // {"events":[...],"next":N}: those numbered `since` or higher, at most `limit` and of these the
  // newest; `next` is what to ask for the next time. docs/openapi.yaml, GET /v1/events.
  std::string json(uint64_t since, size_t limit) const;

 private:
  struct Event {
    uint64_t number = 0;
    std::string time;
    std::string pool;
    PoolTransition transition;
    bool releases = false;
    uint64_t generation = 0;  // 0: not published
    std::optional<uint64_t> adopted_ns;
  };
  static std::string write(const Event& event);

  std::deque<Event> events_;
  uint64_t next_ = 1;
};

}  // namespace guideway
