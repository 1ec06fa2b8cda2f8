// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/table.h"

#include <algorithm>

namespace guideway::cli {
namespace {

constexpr std::string_view kEscapes[] = {"",           "\033[32m", "\033[33m",
                                         "\033[1;31m", "\033[1m",  "\033[2m"};
constexpr std::string_view kReset = "\033[0m";

// Code points, so that a name in UTF-8 does not shift the columns after it.
size_t width(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

}  // namespace

std::string printable(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    // The C1 controls, U+0080 to U+009F, are two bytes in UTF-8; some terminals obey them.
    const bool c1 = c == 0xc2 && i + 1 < text.size() && (text[i + 1] & 0xe0) == 0x80;
    if (c1) ++i;
    clean += c1 || c < ' ' || c == 0x7f ? '?' : text[i];
  }
  return clean;
}

std::string painted(std::string_view text, Colour colour, bool on) {
  std::string clean = printable(text);
  if (!on || colour == Colour::none || clean.empty()) return clean;
  std::string out(kEscapes[static_cast<size_t>(colour)]);
  out += clean;
  out += kReset;
  return out;
}

void Table::add(std::vector<Cell> row) {
  row.resize(columns_.size(), Cell(""));
  rows_.push_back(std::move(row));
}

void Table::print(std::ostream& out, bool colour, unsigned indent, bool with_header) const {
  std::vector<Cell> header;
  std::vector<size_t> widths;
  std::vector<bool> shown;
  for (size_t i = 0; i < columns_.size(); ++i) {
    const Column& column = columns_[i];
    header.emplace_back(column.name, Colour::faint);
    widths.push_back(std::max(column.least, width(column.name)));
    bool filled = false;
    for (const auto& row : rows_) {
      widths[i] = std::max(widths[i], width(row[i].text));
      filled = filled || !row[i].text.empty();
    }
    shown.push_back(filled || !column.optional);
  }

  auto line = [&](const std::vector<Cell>& row) {
    std::string text;
    size_t blanks = indent;  // held back until something follows them
    for (size_t i = 0; i < row.size(); ++i) {
      if (!shown[i]) continue;
      size_t padding = widths[i] - width(row[i].text);
      if (columns_[i].number) blanks += padding;
      if (!row[i].text.empty()) {
        text.append(blanks, ' ');
        text += painted(row[i].text, row[i].colour, colour);
        blanks = 0;
      }
      if (!columns_[i].number) blanks += padding;
      blanks += 2;
    }
    out << text << '\n';
  };
  if (with_header) line(header);
  for (const auto& row : rows_) line(row);
}

}  // namespace guideway::cli
