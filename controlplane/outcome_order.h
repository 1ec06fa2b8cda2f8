// SPDX-License-Identifier: Apache-2.0
// Outcomes of one target's probes in the order of being sent. With a time-out longer than the
// interval an answer comes long before it is known that an earlier probe has none; "so many in a
// row" would mean nothing in that order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "controlplane/judge.h"

namespace guideway {

class OutcomeOrder {
 public:
  // A probe was sent; attempts come in ascending order.
  void sent(uint32_t attempt) { places_.push_back({attempt, false, {}}); }

  // It is decided; no outcome: it tells nothing. `deliver(const Outcome&)` for each outcome that
  // waits for no earlier one now. An attempt that is not known, or decided already, is ignored.
  template <typename Deliver>
  void decided(uint32_t attempt, std::optional<Outcome> outcome, Deliver deliver) {
    const auto place = std::find_if(places_.rbegin(), places_.rend(), [&](const Place& place) {
      return place.attempt == attempt && !place.decided;
    });
    if (place == places_.rend()) return;
    place->decided = true;
    place->outcome = std::move(outcome);
    size_t done = 0;
    for (; done < places_.size() && places_[done].decided; ++done)
      if (places_[done].outcome) deliver(*places_[done].outcome);
    places_.erase(places_.begin(), places_.begin() + static_cast<ptrdiff_t>(done));
  }

  // What waits is not delivered.
  void forget_waiting() {
    for (Place& place : places_) place.outcome.reset();
  }

 private:
  struct Place {
    uint32_t attempt = 0;
    bool decided = false;
    std::optional<Outcome> outcome;
  };
  std::vector<Place> places_;  // mostly one
};

}  // namespace guideway
