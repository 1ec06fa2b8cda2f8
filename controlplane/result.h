// SPDX-License-Identifier: Apache-2.0
// Errors are values: what went wrong, where, and what would be right.
// (tl::expected and not std::expected: clang 14, which lints and fuzzes this code, cannot
// compile the latter.)
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace guideway {

struct Error {
  std::string field;    // where: "pools.web.backends.10.0.0.7.weight", a file, a flag; may be empty
  std::string message;  // what: "must be 0 to 65535, got -1"
  std::string hint;     // what to do: a command, a value; may be empty

  // "field: message (hint)" on one line.
  std::string text() const {
    std::string out = field.empty() ? message : field + ": " + message;
    if (!hint.empty()) out += " (" + hint + ")";
    return out;
  }
  bool operator==(const Error&) const = default;
};

template <typename T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(std::string field, std::string message, std::string hint = {}) {
  return tl::unexpected<Error>(Error{std::move(field), std::move(message), std::move(hint)});
}

}  // namespace guideway
