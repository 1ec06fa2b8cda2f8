// SPDX-License-Identifier: Apache-2.0
// Reads values out of a TOML file with types and ranges checked. An error names file, line and key
// ("node.toml:7: dataplane.workers"). The first error stays; what is read after it is not to be
// believed. Heavy: for source files only.
#pragma once

#include <toml++/toml.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "controlplane/result.h"

namespace guideway {

inline const char* toml_type_name(toml::node_type type) {
  switch (type) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a floating-point number";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

class TomlReader {
 public:
  explicit TomlReader(std::string_view file) : file_(file) {}

  std::optional<Error> error;

  void refuse(const toml::node* at, const std::string& key, std::string message,
              std::string hint = {}) {
    if (error) return;
    std::string field = file_;
    if (at != nullptr && at->source().begin.line > 0) {
      field += ":" + std::to_string(at->source().begin.line);
    }
    error = Error{field + ": " + key, std::move(message), std::move(hint)};
  }

  void only_keys(const toml::table& table, const std::string& path,
                 std::initializer_list<std::string_view> known) {
    for (const auto& [key, node] : table) {
      if (std::find(known.begin(), known.end(), key.str()) != known.end()) continue;
      std::string names;
      for (std::string_view name : known) names += (names.empty() ? "" : ", ") + std::string(name);
      std::string full =
          path.empty() ? std::string(key.str()) : path + "." + std::string(key.str());
      refuse(&node, full, "unknown key", "known here: " + names);
    }
  }

  const toml::table* section(const toml::table& root, std::string_view name,
                             std::initializer_list<std::string_view> known) {
    const toml::node* node = root.get(name);
    if (node == nullptr) return nullptr;
    const toml::table* table = node->as_table();
    if (table == nullptr) {
      refuse(node, std::string(name), wrong_type("a table", *node));
      return nullptr;
    }
    only_keys(*table, std::string(name), known);
    return table;
  }

  // Each `take` leaves `out` alone when the key is absent, and returns the node when it was read.
  const toml::node* take(const toml::table* table, const std::string& path, std::string_view key,
                         std::string& out) {
    const toml::node* node = table == nullptr ? nullptr : table->get(key);
    if (node == nullptr) return nullptr;
    std::string full = path + "." + std::string(key);
    const auto* value = node->as_string();
    if (value == nullptr) {
      refuse(node, full, wrong_type("a string", *node));
      return nullptr;
    }
    if (value->get().empty() || value->get().find('\0') != std::string::npos) {
      refuse(node, full, "must not be empty nor hold a zero byte");
      return nullptr;
    }
    out = value->get();
    return node;
  }

  template <typename Number>
  const toml::node* take_number(const toml::table* table, const std::string& path,
                                std::string_view key, int64_t least, int64_t most, Number& out) {
    const toml::node* node = table == nullptr ? nullptr : table->get(key);
    if (node == nullptr) return nullptr;
    return number(*node, path + "." + std::string(key), least, most, out) ? node : nullptr;
  }

  template <typename Number>
  bool number(const toml::node& node, const std::string& full, int64_t least, int64_t most,
              Number& out) {
    const auto* value = node.as_integer();
    if (value == nullptr) {
      refuse(&node, full, wrong_type("an integer", node));
      return false;
    }
    if (value->get() < least || value->get() > most) {
      refuse(&node, full,
             "must be " + std::to_string(least) + " to " + std::to_string(most) + ", got " +
                 std::to_string(value->get()));
      return false;
    }
    out = static_cast<Number>(value->get());
    return true;
  }

  void take_bool(const toml::table* table, const std::string& path, std::string_view key,
                 bool& out) {
    const toml::node* node = table == nullptr ? nullptr : table->get(key);
    if (node == nullptr) return;
    const auto* value = node->as_boolean();
    if (value == nullptr) {
      refuse(node, path + "." + std::string(key), wrong_type("true or false", *node));
      return;
    }
    out = value->get();
  }

  static std::string wrong_type(const std::string& wanted, const toml::node& got) {
    return "must be " + wanted + ", got " + toml_type_name(got.type());
  }

 private:
  std::string file_;
};

}  // namespace guideway
