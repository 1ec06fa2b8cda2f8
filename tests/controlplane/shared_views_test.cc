// SPDX-License-Identifier: Apache-2.0
#include "controlplane/shared_views.h"

#include <gtest/gtest.h>

namespace guideway {
namespace {

using Strings = std::vector<std::string>;

const Address kOne = *Address::parse("10.0.0.21");
const Address kTwo = *Address::parse("10.0.0.22");

HealthView view(std::map<Address, Sight> not_up) {
  HealthView out;
  const auto up = static_cast<uint32_t>(3 - not_up.size());
  out.pools["web"] = {3, up, false, std::move(not_up)};
  return out;
}

Cluster::Shared shared(const std::string& node, const std::string& value, int64_t revision) {
  return {"/guideway/live/views/" + node, value, revision};
}

TEST(SharedViews, TellsWhoSeesWhat) {
  SharedViews views("n2");
  views.set_own(view({{kOne, Sight::down}}));
  EXPECT_FALSE(views.seen("web", kOne)) << "nobody else says anything";
  views.take({{"n1", shared("n1", write_view(view({}), "n1"), 1)},
              {"n2", shared("n2", "whatever: it is this node's own", 2)},
              {"n3", shared("n3", write_view(view({{kTwo, Sight::blind}}), "n3"), 3)}});
  auto seen = views.seen("web", kOne);
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->down_on, Strings{"n2"});
  EXPECT_EQ(seen->blind_on, Strings{});
  EXPECT_EQ(seen->nodes, 3u);
  EXPECT_EQ(views.seen("web", kTwo)->blind_on, Strings{"n3"});
  EXPECT_FALSE(views.seen("other", kOne)) << "nobody knows the pool";
  views.take({{"n1", shared("n1", write_view(view({{kOne, Sight::no_way}}), "n1"), 4)},
              {"n3", shared("n3", write_view(view({{kOne, Sight::down}}), "n3"), 5)}});
  EXPECT_EQ(views.seen("web", kOne)->down_on, (Strings{"n1", "n2", "n3"}));
  views.take({});
  EXPECT_FALSE(views.seen("web", kOne)) << "they have gone";
}

TEST(SharedViews, ACutListSaysNothingOfTheRest) {
  SharedViews views("n1");
  views.set_own(view({}));
  HealthView cut = view({{kOne, Sight::down}, {kTwo, Sight::down}});
  cut.pools["web"].not_up.erase(kTwo);
  cut.pools["web"].cut = true;
  views.take({{"n2", shared("n2", write_view(cut, "n2"), 1)}});
  EXPECT_EQ(views.seen("web", kOne)->down_on, Strings{"n2"});
  EXPECT_FALSE(views.seen("web", kTwo));
}

TEST(SharedViews, AllDownIsWhatEachOfThemSays) {
  SharedViews views("n1");
  views.set_own(view({{kOne, Sight::down}, {kTwo, Sight::down}}));
  views.take(
      {{"n2",
        shared("n2", write_view(view({{kOne, Sight::down}, {kTwo, Sight::blind}}), "n2"), 1)}});
  EXPECT_TRUE(views.all_down({"n1", "n2"}, "web", kOne));
  EXPECT_FALSE(views.all_down({"n1", "n2"}, "web", kTwo)) << "n2 cannot tell";
  EXPECT_FALSE(views.all_down({"n1", "n2", "n3"}, "web", kOne)) << "n3 has not said";
  EXPECT_FALSE(views.all_down({"n1", "n2"}, "api", kOne));
}

TEST(SharedViews, WhatCannotBeReadIsNamedAndHarmsNobody) {
  SharedViews views("n1");
  views.set_own(view({}));
  const auto good = shared("n3", write_view(view({{kOne, Sight::down}}), "n3"), 1);
  std::string newer = write_view(view({}), "n2");
  newer.replace(newer.find("\"format\":1"), 10, "\"format\":9");
  int64_t revision = 1;
  for (const std::string& bad : {std::string("garbage"), std::string(), newer}) {
    views.take({{"n2", shared("n2", bad, ++revision)}, {"n3", good}});
    ASSERT_EQ(views.refused().size(), 1u) << bad;
    EXPECT_EQ(views.refused().begin()->first, "/guideway/live/views/n2");
    EXPECT_FALSE(views.refused().begin()->second.empty());
    EXPECT_EQ(views.of("n2"), nullptr);
    EXPECT_EQ(views.seen("web", kOne)->nodes, 2u);
    EXPECT_EQ(views.seen("web", kOne)->down_on, Strings{"n3"});
  }
  views.take({{"n2", shared("n2", write_view(view({}), "n2"), ++revision)}, {"n3", good}});
  EXPECT_TRUE(views.refused().empty());
  EXPECT_EQ(views.seen("web", kOne)->nodes, 3u);
  views.take({{"n2", shared("n2", "garbage", ++revision)}});
  views.take({});
  EXPECT_TRUE(views.refused().empty()) << "the key has gone";
  // Again, and nothing is known of before.
  views.take({{"n3", good}});
  views.forget();
  EXPECT_TRUE(views.others().empty());
  views.take({{"n3", good}});
  EXPECT_EQ(views.others().size(), 1u);
}

}  // namespace
}  // namespace guideway
