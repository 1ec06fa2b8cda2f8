// SPDX-License-Identifier: Apache-2.0
#include "dataplane/pulse.h"

#include <gtest/gtest.h>

namespace guideway {
namespace {

TEST(Pulse, is_felt_while_all_workers_beat) {
  Pulse pulse;
  EXPECT_TRUE(pulse.felt({1, 7}));
  EXPECT_TRUE(pulse.felt({2, 8}));
  EXPECT_TRUE(pulse.felt({300, 9}));
}

TEST(Pulse, one_that_stands_still_is_enough_to_lose_it) {
  Pulse pulse;
  ASSERT_TRUE(pulse.felt({1, 7}));
  EXPECT_FALSE(pulse.felt({2, 7}));
  EXPECT_FALSE(pulse.felt({3, 7}));
  EXPECT_TRUE(pulse.felt({4, 8})) << "it was only slow";
}

TEST(Pulse, beats_at_different_times_count_together) {
  Pulse pulse;
  ASSERT_TRUE(pulse.felt({1, 1}));
  EXPECT_FALSE(pulse.felt({2, 1}));
  EXPECT_TRUE(pulse.felt({2, 2})) << "each has beaten since it was last felt";
}

TEST(Pulse, a_worker_that_never_began_is_not_alive) {
  Pulse pulse;
  EXPECT_FALSE(pulse.felt({5, 0}));
  EXPECT_FALSE(pulse.felt({6, 0}));
}

}  // namespace
}  // namespace guideway
