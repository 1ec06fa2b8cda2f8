// SPDX-License-Identifier: Apache-2.0
#include "controlplane/outcome_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace guideway {
namespace {

// Which attempts come out, by their rtt_us.
struct Order {
  OutcomeOrder order;
  std::vector<uint32_t> out;

  void decided(uint32_t attempt, bool tells = true) {
    std::optional<Outcome> outcome;
    if (tells) {
      outcome.emplace();
      outcome->rtt_us = attempt;
    }
    order.decided(attempt, outcome, [&](const Outcome& next) { out.push_back(next.rtt_us); });
  }
};

TEST(OutcomeOrder, LaterOnesWait) {
  Order order;
  for (uint32_t attempt : {1u, 2u, 3u, 5u}) order.order.sent(attempt);
  order.decided(3);
  order.decided(2, false);
  EXPECT_TRUE(order.out.empty());
  order.decided(1);
  EXPECT_EQ(order.out, (std::vector<uint32_t>{1, 3}));
  order.decided(4);
  order.decided(3);
  order.decided(5);
  EXPECT_EQ(order.out, (std::vector<uint32_t>{1, 3, 5})) << "each once, and none that was not sent";
}

TEST(OutcomeOrder, WhatWaitsMayBeForgotten) {
  Order order;
  for (uint32_t attempt : {1u, 2u, 3u}) order.order.sent(attempt);
  order.decided(2);
  order.order.forget_waiting();
  order.decided(1);
  order.decided(3);
  EXPECT_EQ(order.out, (std::vector<uint32_t>{1, 3}));
}

TEST(OutcomeOrder, AnyOrderComesOutInOrder) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    Order order;
    std::vector<uint32_t> attempts(1 + random() % 40);
    std::iota(attempts.begin(), attempts.end(), 4294967290u);  // wraps
    for (const uint32_t attempt : attempts) order.order.sent(attempt);
    std::vector<uint32_t> shuffled = attempts;
    std::shuffle(shuffled.begin(), shuffled.end(), random);
    for (const uint32_t attempt : shuffled) order.decided(attempt);
    EXPECT_EQ(order.out, attempts);
  }
}

}  // namespace
}  // namespace guideway
