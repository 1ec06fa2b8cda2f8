// SPDX-License-Identifier: Apache-2.0
#include "dataplane/copy_timer.h"

#include <gtest/gtest.h>

namespace guideway {
namespace {

TEST(CopyTimer, AChangeAloneIsWrittenAtOnce) {
  CopyTimer timer;
  EXPECT_FALSE(timer.due(1000, false));
  EXPECT_EQ(timer.wait(1000, 500), 500);
  timer.changed(1000);
  EXPECT_TRUE(timer.due(1000, false));
  EXPECT_EQ(timer.wait(1000, 500), 0);
  timer.written(1001);
  EXPECT_FALSE(timer.pending());
  EXPECT_FALSE(timer.due(2000, false));
}

TEST(CopyTimer, ChangesInARowShareACopy) {
  CopyTimer timer;
  timer.changed(0);
  timer.written(0);
  timer.changed(1);
  timer.changed(30);
  EXPECT_FALSE(timer.due(49, false));
  EXPECT_EQ(timer.wait(30, 500), 20);
  EXPECT_EQ(timer.wait(30, 5), 5);
  EXPECT_TRUE(timer.due(50, false));
  EXPECT_EQ(timer.wait(60, 500), 0);
}

TEST(CopyTimer, AControlPlaneWithoutAPauseCannotPutItOffForEver) {
  CopyTimer timer;
  timer.changed(1000);
  timer.changed(1400);
  EXPECT_FALSE(timer.due(1499, true));
  EXPECT_TRUE(timer.due(1500, true));
}

}  // namespace
}  // namespace guideway
