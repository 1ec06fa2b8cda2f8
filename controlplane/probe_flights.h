// SPDX-License-Identifier: Apache-2.0
// All probes under way. Those just sent are looked at often, so they are kept apart from the many
// that wait for the time-out of a dead backend.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "controlplane/probed.h"

namespace guideway {

class ProbeFlights {
 public:
  void add(const Flight& flight) { put(young_, flight); }

  // `visit(Flight&)` for each that is to be looked at by now. It may change the flight, but not add
  // any. Pointers hold until the next add() or tidy().
  template <typename Visit>
  void each_due(uint64_t now_ns, Visit visit) {
    for (List* list : {&old_, &young_}) {
      if (list->next_ns > now_ns) continue;
      list->touched = true;
      for (Flight& flight : list->flights)
        if (flight.look_ns <= now_ns && flight.state != Flight::State::gone) visit(flight);
    }
  }

  // For each that is not gone; as above.
  template <typename Visit>
  void each(Visit visit) {
    for (List* list : {&old_, &young_}) {
      list->touched = true;
      for (Flight& flight : list->flights)
        if (flight.state != Flight::State::gone) visit(flight);
    }
  }

  // After changes: forgets those that are gone.
  void tidy(uint64_t now_ns) {
    if (young_.touched) {
      tidy(young_, [&](const Flight& flight) {
        if (flight.sent_ns + kYoungNs > now_ns) return false;
        put(old_, flight);
        return true;
      });
    }
    if (!old_.touched) return;
    tidy(old_, [](const Flight&) { return false; });
    // So many are not looked at one by one.
    if (!old_.flights.empty()) old_.next_ns = std::max(old_.next_ns, now_ns + kOldLookNs);
  }

  // A flight's look_ns was moved forward: the next each_due() finds it.
  void look_now() { young_.next_ns = old_.next_ns = 0; }

  uint64_t next_ns() const { return std::min(young_.next_ns, old_.next_ns); }
  size_t size() const { return young_.flights.size() + old_.flights.size(); }

 private:
  static constexpr uint64_t kYoungNs = 2 * kMs;
  static constexpr uint64_t kOldLookNs = 500 * kUs;

  struct List {
    std::vector<Flight> flights;  // in order of being sent, nearly
    uint64_t next_ns = UINT64_MAX;
    bool touched = false;
  };

  static void put(List& list, const Flight& flight) {
    list.flights.push_back(flight);
    list.next_ns = std::min(list.next_ns, flight.look_ns);
  }

  template <typename Move>
  static void tidy(List& list, Move move) {
    list.touched = false;
    list.next_ns = UINT64_MAX;
    size_t kept = 0;
    for (size_t i = 0; i < list.flights.size(); ++i) {
      const Flight& flight = list.flights[i];
      if (flight.state == Flight::State::gone || move(flight)) continue;
      list.next_ns = std::min(list.next_ns, flight.look_ns);
      if (kept != i) list.flights[kept] = flight;
      ++kept;
    }
    list.flights.resize(kept);
  }

  List young_, old_;
};

}  // namespace guideway
