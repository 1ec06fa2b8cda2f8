// SPDX-License-Identifier: Apache-2.0
#include "bpf/prefix.h"

#include <gtest/gtest.h>

namespace guideway {
namespace {

TEST(Prefix, ReadsAndWritesBothFamilies) {
  struct {
    const char* text;
    const char* shown;
    unsigned bits;
  } const cases[] = {{"10.0.0.0/24", "10.0.0.0/24", 120}, {"10.0.0.7", "10.0.0.7/32", 128},
                     {"0.0.0.0/0", "0.0.0.0/0", 96},      {"fd00::/64", "fd00::/64", 64},
                     {"fd00::7", "fd00::7/128", 128},     {"2000::/3", "2000::/3", 3},
                     {"8000::/1", "8000::/1", 1},         {"::1", "::1/128", 128}};
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text);
    Result<Prefix> prefix = Prefix::parse(c.text);
    ASSERT_TRUE(prefix) << prefix.error().text();
    EXPECT_EQ(prefix->text(), c.shown);
    EXPECT_EQ(prefix->bits, c.bits);
  }
}

TEST(Prefix, SaysWhatIsWrong) {
  struct {
    const char* text;
    const char* error;
  } const cases[] = {
      {"", "is no prefix (write 10.0.0.0/24 or fd00::/64)"},
      {"eth0", "eth0: is no prefix (write 10.0.0.0/24 or fd00::/64)"},
      {"10.0.0/24", "10.0.0/24: is no prefix (write 10.0.0.0/24 or fd00::/64)"},
      {"10.0.0.0/33", "10.0.0.0/33: prefix length must be 0 to 32"},
      {"10.0.0.0/", "10.0.0.0/: prefix length must be 0 to 32"},
      {"10.0.0.0/-1", "10.0.0.0/-1: prefix length must be 0 to 32"},
      {"10.0.0.0/8x", "10.0.0.0/8x: prefix length must be 0 to 32"},
      {"fd00::/129", "fd00::/129: prefix length must be 0 to 128"},
      {"10.0.0.1/24", "10.0.0.1/24: bits are set after the prefix (write 10.0.0.0/24)"},
      {"fd00::1/64", "fd00::1/64: bits are set after the prefix (write fd00::/64)"},
      {"::/0", "::/0: is too wide (2000::/3 holds all public IPv6 addresses)"},
      {"::/64", "::/64: is too wide (2000::/3 holds all public IPv6 addresses)"},
      {"::fffe:0:0/95", "::fffe:0:0/95: is too wide (2000::/3 holds all public IPv6 addresses)"},
      {"::ffff:10.0.0.0/104",
       "::ffff:10.0.0.0/104: is no prefix (write 10.0.0.0/24 or fd00::/64)"}};
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text);
    Result<Prefix> prefix = Prefix::parse(c.text);
    ASSERT_FALSE(prefix);
    EXPECT_EQ(prefix.error().text(), c.error);
  }
}

}  // namespace
}  // namespace guideway
