// SPDX-License-Identifier: Apache-2.0
#include "controlplane/health_view.h"

#include <gtest/gtest.h>

namespace guideway {
namespace {

Address backend(unsigned number) {
  return *Address::parse("10." + std::to_string(number >> 16) + "." +
                         std::to_string(number >> 8 & 255) + "." + std::to_string(number & 255));
}

HealthView example() {
  HealthView out;
  out.serves = true;
  out.doubt = 7;
  out.out = {"api", "web"};
  out.answers = {{"n2", 4}, {"n3", ~uint64_t{0}}};
  out.pools["web"] = {5,
                      1,
                      false,
                      {{backend(1), Sight::down},
                       {backend(2), Sight::no_way},
                       {backend(3), Sight::blind},
                       {backend(4), Sight::unknown}}};
  out.pools["v6"] = {1, 0, false, {{*Address::parse("2001:db8::7"), Sight::down}}};
  out.pools["well"] = {3, 3, false, {}};
  return out;
}

std::string sealed(const std::string& line, const std::string& node = "n1") {
  return seal(line, "views/" + node);
}

TEST(HealthView, IsReadAsWritten) {
  for (const HealthView& view : {HealthView{}, example()}) {
    auto read = read_view(write_view(view, "n1"), "n1");
    ASSERT_TRUE(read) << read.error().why;
    EXPECT_EQ(*read, view);
  }
  EXPECT_FALSE(read_view(write_view(example(), "n1"), "n2")) << "it is another node's";
}

TEST(HealthView, IsBoundedAndSaysWhatIsCut) {
  HealthView view;
  PoolOutlook big{20'000, 0, false, {}};
  for (unsigned i = 0; i < big.of; ++i) big.not_up[backend(i)] = Sight::down;
  view.pools["big"] = big;
  view.pools["small"] = {2, 1, false, {{backend(1), Sight::down}}};
  for (unsigned i = 0; i < 5000; ++i) view.pools["a" + std::to_string(i)] = {1, 1, false, {}};
  const std::string text = write_view(view, "n1");
  EXPECT_LT(text.size(), 100'000u);
  auto read = read_view(text, "n1");
  ASSERT_TRUE(read) << read.error().why;
  EXPECT_EQ(read->pools.size(), kViewPoolsMax);
  const PoolOutlook& cut = read->pools.at("big");
  EXPECT_TRUE(cut.cut);
  EXPECT_EQ(cut.of, big.of);
  EXPECT_EQ(cut.up, 0u);
  EXPECT_EQ(cut.not_up.size(), kViewNotUpMax);
  EXPECT_TRUE(read->pools.at("small").cut) << "with trouble, so it is in; there was no room left";
}

TEST(HealthView, GarbageIsRefused) {
  const std::string good = write_view(example(), "n1");
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] ^= 0x11;
    EXPECT_FALSE(read_view(bad, "n1")) << i;
    EXPECT_FALSE(read_view(good.substr(0, i), "n1")) << i;
  }
  for (const char* line : {
           "",
           "x",
           "[]",
           "{}",
           R"({"doubt":-1})",
           R"({"doubt":0,"serves":1})",
           R"({"doubt":0,"out":"web"})",
           R"({"doubt":0,"out":[1]})",
           R"({"doubt":0,"out":["/"]})",
           R"({"doubt":0,"answers":[]})",
           R"({"doubt":0,"answers":{"n2":"4"}})",
           R"({"doubt":0,"pools":[]})",
           R"({"doubt":0,"pools":{"web":1}})",
           R"({"doubt":0,"pools":{"../x":{"of":1,"up":1}}})",
           R"({"doubt":0,"pools":{"web":{"of":1}}})",
           R"({"doubt":0,"pools":{"web":{"of":1,"up":2}}})",
           R"({"doubt":0,"pools":{"web":{"of":2,"up":1}}})",
           R"({"doubt":0,"pools":{"web":{"of":2,"up":2,"not_up":{"10.0.0.1":"down"}}}})",
           R"({"doubt":0,"pools":{"web":{"of":2,"up":1,"not_up":{"10.0.0.1":"fine"}}}})",
           R"({"doubt":0,"pools":{"web":{"of":2,"up":1,"not_up":{"here":"down"}}}})",
           R"({"doubt":0,"pools":{"web":{"of":4294967296,"up":1}}})",
       }) {
    auto read = read_view(sealed(line), "n1");
    ASSERT_FALSE(read) << line;
    EXPECT_FALSE(read.error().newer);
    EXPECT_FALSE(read.error().why.empty());
  }
  EXPECT_FALSE(read_view(sealed(std::string(2 << 20, ' ')), "n1"));
}

TEST(HealthView, ANewerFormatIsToldApart) {
  std::string text = write_view(example(), "n1");
  text.replace(text.find("\"format\":1"), 10, "\"format\":2");
  auto read = read_view(text, "n1");
  ASSERT_FALSE(read);
  EXPECT_TRUE(read.error().newer);
  // What the same format gets more of is left aside.
  auto more = read_view(sealed(R"({"doubt":0,"serves":true,"mood":"fine"})"), "n1");
  ASSERT_TRUE(more) << more.error().why;
  EXPECT_TRUE(more->serves);
}

}  // namespace
}  // namespace guideway
