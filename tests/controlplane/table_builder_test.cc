// SPDX-License-Identifier: Apache-2.0
#include "controlplane/table_builder.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <optional>

namespace guideway {
namespace {

TEST(TableBuilder, AThreadThatCannotBeMadeIsABuildThatFailed) {
  auto loop = std::move(EventLoop::create().value());
  std::optional<Result<TableMap>> got;
  TableBuilder builder(*loop, [&](std::shared_ptr<const Intent>, Result<TableMap> tables) {
    got = std::move(tables);
    loop->stop();
  });
  pthread_attr_t usual;
  ASSERT_EQ(pthread_getattr_default_np(&usual), 0);
  pthread_attr_t huge = usual;
  ASSERT_EQ(pthread_attr_setstacksize(&huge, size_t{1} << 47), 0);
  ASSERT_EQ(pthread_setattr_default_np(&huge), 0);
  builder.start(std::make_shared<const Intent>(), {});
  ASSERT_EQ(pthread_setattr_default_np(&usual), 0);
  EXPECT_TRUE(builder.busy());
  loop->run();
  EXPECT_FALSE(builder.busy());
  ASSERT_TRUE(got.has_value());
  ASSERT_FALSE(*got);
  EXPECT_EQ(got->error().field, "pools");
}

}  // namespace
}  // namespace guideway
