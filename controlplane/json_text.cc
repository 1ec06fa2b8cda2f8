// SPDX-License-Identifier: Apache-2.0
#include "controlplane/json_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

namespace guideway {
namespace {

using nlohmann::json;

constexpr size_t kShownMax = 64;
constexpr size_t kSyntaxShownMax = 200;

std::string printable(std::string_view text, size_t most) {
  std::string out;
  for (char c : text.substr(0, most)) {
    out += (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) ? '?' : c;
  }
  if (text.size() <= most) return out;
  // Not in the middle of a UTF-8 sequence.
  while (!out.empty() && (static_cast<unsigned char>(out.back()) & 0xc0) == 0x80) out.pop_back();
  if (!out.empty() && (static_cast<unsigned char>(out.back()) & 0x80) != 0) out.pop_back();
  return out + "...";
}

// Walks the text without building anything, so that a bomb costs nothing.
class Guard : public nlohmann::json_sax<json> {
 public:
  explicit Guard(std::string path) : path_(std::move(path)) {}

  Error error;

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }

  bool start_object(size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool start_array(size_t) override { return enter(); }
  bool end_array() override { return leave(); }

  bool key(string_t& name) override {
    Level& level = levels_.back();
    level.key = name;
    if (level.keys.insert(name).second) return true;
    error = Error{path(), "is given twice", {}};
    return false;
  }

  bool parse_error(size_t, const std::string&, const json::exception& exception) override {
    std::string what = exception.what();
    size_t prefix = what.find("] ");
    if (prefix != std::string::npos) what.erase(0, prefix + 2);
    error = Error{
        path_.empty() ? "body" : path_, "is not JSON: " + printable(what, kSyntaxShownMax), {}};
    return false;
  }

 private:
  struct Level {
    std::string key;
    std::set<std::string> keys;
  };

  bool enter() {
    if (levels_.size() >= kJsonDepthMax) {
      error =
          Error{path(), "is nested deeper than " + std::to_string(kJsonDepthMax) + " levels", {}};
      return false;
    }
    levels_.emplace_back();
    return true;
  }

  bool leave() {
    levels_.pop_back();
    return true;
  }

  std::string path() const {
    std::string out = path_;
    for (const Level& level : levels_) {
      if (!level.key.empty()) out = json_path(out, level.key);
    }
    return out.empty() ? "body" : out;
  }

  std::string path_;
  std::vector<Level> levels_;
};

const char* type_name(const json& value) {
  switch (value.type()) {
    case json::value_t::object:
      return "an object";
    case json::value_t::array:
      return "an array";
    case json::value_t::string:
      return "a string";
    case json::value_t::boolean:
      return "a boolean";
    case json::value_t::null:
      return "null";
    default:
      return "a number";
  }
}

}  // namespace

Result<json> parse_json(std::string_view text, const std::string& path) {
  try {
    Guard guard(path);
    if (!json::sax_parse(text, &guard)) return tl::unexpected<Error>(std::move(guard.error));
    json tree = json::parse(text);
    if (!tree.is_object()) {
      return fail(path.empty() ? "body" : path, json_wrong_type("an object", tree));
    }
    return tree;
  } catch (const json::exception& exception) {
    return fail(path.empty() ? "body" : path,
                "is not JSON: " + printable(exception.what(), kSyntaxShownMax));
  }
}

std::string json_path(const std::string& path, std::string_view key) {
  std::string shown = printable(key, kShownMax);
  return path.empty() ? shown : path + "." + shown;
}

std::string json_shown(const json& value) {
  if (value.is_object() || value.is_array()) return type_name(value);
  return printable(value.dump(-1, ' ', false, json::error_handler_t::replace), kShownMax);
}

std::string json_wrong_type(const char* wanted, const json& got) {
  return std::string("must be ") + wanted + ", got " + type_name(got);
}

std::string json_known_here(const std::vector<std::string_view>& known) {
  std::string out = "known here: ";
  for (size_t i = 0; i < known.size(); ++i) {
    if (i > 0) out += ", ";
    out += known[i];
  }
  return out;
}

Result<void> json_only_fields(const json& object, const std::string& path,
                              const std::vector<std::string_view>& known) {
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    return fail(json_path(path, key), "unknown field", json_known_here(known));
  }
  return {};
}

Result<uint64_t> json_number(const json& value, const std::string& path, uint64_t least,
                             uint64_t most) {
  // What is made here, and not parsed, may be signed without being negative.
  const bool natural =
      value.is_number_unsigned() || (value.is_number_integer() && value.get<int64_t>() >= 0);
  const bool fits = natural && value.get<uint64_t>() >= least && value.get<uint64_t>() <= most;
  if (fits) return value.get<uint64_t>();
  const char* kind = value.is_number_integer() ? "" : "a whole number, ";
  return fail(path, "must be " + std::string(kind) + std::to_string(least) + " to " +
                        std::to_string(most) + ", got " + json_shown(value));
}

std::string json_quoted(std::string_view text) {
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace guideway
