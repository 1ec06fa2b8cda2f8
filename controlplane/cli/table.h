// SPDX-License-Identifier: Apache-2.0
// Aligned tables for people. Two blanks between columns, no lines; numbers to the right; a row
// ends where its text ends. Colour never changes a width.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace guideway::cli {

enum class Colour : uint8_t { none, good, warning, bad, heading, faint };

// What a terminal shows and does not obey: control characters, also those beyond ASCII, become '?'.
// What a name holds must not be able to drive the operator's terminal.
std::string printable(std::string_view text);

// printable(), in its colour if `on`.
std::string painted(std::string_view text, Colour colour, bool on);

struct Cell {
  std::string text;
  Colour colour = Colour::none;

  Cell(std::string t, Colour c = Colour::none) : text(std::move(t)), colour(c) {}
  Cell(const char* t, Colour c = Colour::none) : text(t), colour(c) {}
};

struct Column {
  std::string name;
  bool number = false;    // aligned to the right
  bool optional = false;  // left out if no row has anything in it
  size_t least = 0;       // characters
};

class Table {
 public:
  explicit Table(std::initializer_list<Column> columns) : columns_(columns) {}

  // One cell per column; missing ones are empty.
  void add(std::vector<Cell> row);
  bool empty() const { return rows_.empty(); }
  // Header and rows, each indented by `indent` blanks.
  void print(std::ostream& out, bool colour, unsigned indent = 0, bool with_header = true) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace guideway::cli
