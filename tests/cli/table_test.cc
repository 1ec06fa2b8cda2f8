// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/table.h"

#include <gtest/gtest.h>

#include <sstream>

namespace guideway::cli {
namespace {

std::string printed(const Table& table, bool colour = false, unsigned indent = 0) {
  std::ostringstream out;
  table.print(out, colour, indent);
  return out.str();
}

TEST(Printable, ControlCharactersAreShownAndNotObeyed) {
  EXPECT_EQ(printable("a\033]0;b\007c\x7f"), "a?]0;b?c?");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m \xc3\xa9 \xc2\xa0"),
            "?31m \xc3\xa9 \xc2\xa0");
}

TEST(Table, NumbersToTheRightAndNoBlanksAtTheEnd) {
  Table table({{"NAME"}, {"PACKETS", true}, {"STATE"}, {"NOTE"}});
  table.add({"a", "5", "up", ""});
  table.add({"longer", "12345678901", "degraded", "see here"});
  table.add({"b"});
  EXPECT_EQ(printed(table),
            "NAME        PACKETS  STATE     NOTE\n"
            "a                 5  up\n"
            "longer  12345678901  degraded  see here\n"
            "b\n");
}

TEST(Table, IndentsEveryRow) {
  Table table({{"A"}, {"N", true}});
  table.add({"x", "10"});
  EXPECT_EQ(printed(table, false, 2), "  A   N\n  x  10\n");
}

TEST(Table, ColourChangesNoWidth) {
  Table plain({{"A"}, {"B"}}), coloured({{"A"}, {"B"}});
  plain.add({"up", "x"});
  coloured.add({{"up", Colour::good}, "x"});
  std::string text = printed(coloured, true);
  for (const char* escape : {"\033[32m", "\033[2m", "\033[0m"}) {
    for (size_t at; (at = text.find(escape)) != std::string::npos;) {
      text.erase(at, std::string(escape).size());
    }
  }
  EXPECT_EQ(text, printed(plain));
  EXPECT_EQ(printed(coloured, false), printed(plain));
}

TEST(Table, CountsCharactersNotBytes) {
  Table table({{"A"}, {"B"}});
  table.add({"\u00e9t\u00e9", "x"});
  table.add({"abc", "y"});
  EXPECT_EQ(printed(table), "A    B\n\u00e9t\u00e9  x\nabc  y\n");
}

TEST(Painted, KeepsControlCharactersFromTheTerminal) {
  EXPECT_EQ(painted("a\033[2Jb\n\x7f", Colour::none, false), "a?[2Jb??");
  EXPECT_EQ(painted("up", Colour::good, true), "\033[32mup\033[0m");
  EXPECT_EQ(painted("up", Colour::good, false), "up");
  EXPECT_EQ(painted("", Colour::good, true), "");
}

}  // namespace
}  // namespace guideway::cli
