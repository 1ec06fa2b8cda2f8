// SPDX-License-Identifier: Apache-2.0
#include "dataplane/address.h"

#include <gtest/gtest.h>

namespace guideway {
namespace {

TEST(Address, TextComesBackInItsShortestForm) {
  const std::pair<const char*, const char*> cases[] = {
      {"203.0.113.10", "203.0.113.10"},
      {"2001:DB8:0:0::10", "2001:db8::10"},
      {"::", "::"},
      {"fd00:0:0:1::21", "fd00:0:0:1::21"},
  };
  for (const auto& [text, shortest] : cases) {
    ASSERT_TRUE(Address::parse(text)) << text;
    EXPECT_EQ(Address::parse(text)->text(), shortest);
  }
}

TEST(Address, OneSpellingForEachAddress) {
  using namespace std::string_view_literals;
  const std::string_view refused[] = {
      "",
      "10.0.0",
      "10.0.0.021",
      "10.0.0.256",
      " 10.0.0.1",
      "10.0.0.1/24",
      "::ffff:10.0.0.1",
      "fe80::1%eth0",
      "[2001:db8::1]",
      "2001:db8:::1",
      "10.0.0.1\0x"sv,
      "example.org",
      "0x0a.0.0.1",
      "10.0.0.1\n",
  };
  for (const std::string_view text : refused) EXPECT_FALSE(Address::parse(text)) << text;
}

TEST(Address, FamilyIsData) {
  EXPECT_TRUE(Address::parse("10.0.0.1")->is_v4());
  EXPECT_FALSE(Address::parse("2001:db8::1")->is_v4());
  EXPECT_LT(*Address::parse("10.0.0.1"), *Address::parse("2001:db8::1"));
}

}  // namespace
}  // namespace guideway
