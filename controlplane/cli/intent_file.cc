// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/intent_file.h"

#include <toml++/toml.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

namespace guideway::cli {
namespace {

using Json = nlohmann::ordered_json;

class Translator {
 public:
  explicit Translator(const std::string& name) : name_(name) {}

  std::map<std::string, std::string> places;

  Json translate(const toml::node& node, const std::string& path) {
    if (!path.empty()) places.emplace(path, place(node.source().begin));
    if (const toml::table* table = node.as_table()) {
      Json object = Json::object();
      for (const auto& [key, value] : *table) {
        std::string below = path.empty() ? "" : path + ".";
        object[std::string(key.str())] = translate(value, below + std::string(key.str()));
      }
      return object;
    }
    if (const toml::array* array = node.as_array()) {
      Json out = Json::array();
      for (size_t i = 0; i < array->size(); ++i) {
        out.push_back(translate((*array)[i], path + "." + std::to_string(i)));
      }
      return out;
    }
    if (const auto* value = node.as_string()) return value->get();
    if (const auto* value = node.as_integer()) return value->get();
    if (const auto* value = node.as_floating_point()) return value->get();
    if (const auto* value = node.as_boolean()) return value->get();
    std::ostringstream date;  // JSON has no dates; the server will say what it wants instead
    node.visit([&](const auto& value) {
      if constexpr (toml::is_chronological<decltype(value)>) date << value.get();
    });
    return date.str();
  }

  std::string place(const toml::source_position& at) const {
    return name_ + ":" + std::to_string(at.line) + ":" + std::to_string(at.column);
  }

 private:
  const std::string& name_;
};

toml::array to_array(const Json& json);

// TOML has no null: there is a word for what it means.
std::string word_for_null(const std::string& key) {
  return key == "drain_until" ? "never" : "none";
}

// Settings of a pool stand line by line, what belongs to one backend or service in one.
toml::table to_table(const Json& json, unsigned depth) {
  toml::table out;
  for (const auto& [key, value] : json.items()) {
    if (value.is_object()) {
      out.insert(key, to_table(value, depth + 1));
      const bool has_tables =
          std::any_of(value.begin(), value.end(), [](const Json& one) { return one.is_object(); });
      out.get_as<toml::table>(key)->is_inline(depth > 0 && !has_tables && !value.empty());
    } else if (value.is_array()) {
      out.insert(key, to_array(value));
    } else if (value.is_string()) {
      out.insert(key, value.get<std::string>());
    } else if (value.is_boolean()) {
      out.insert(key, value.get<bool>());
    } else if (value.is_number_integer()) {
      out.insert(key, value.get<int64_t>());
    } else if (value.is_number()) {
      out.insert(key, value.get<double>());
    } else if (key == "probe") {
      toml::table none{{"kind", "none"}};
      none.is_inline(true);
      out.insert(key, std::move(none));
    } else {
      out.insert(key, word_for_null(key));
    }
  }
  return out;
}

toml::array to_array(const Json& json) {
  toml::array out;
  for (const Json& value : json)
    if (value.is_string()) out.push_back(value.get<std::string>());
  return out;
}

}  // namespace

Result<std::string> write_intent_file(const std::string& json) {
  Json intent = Json::parse(json, nullptr, false);
  if (!intent.is_object()) return fail("/v1/intent", "the answer is no object");
  intent.erase("revision");
  // An empty table would not be printed, and its absence means something else.
  for (const char* part : {"pools", "services"})
    if (!intent.contains(part)) intent[part] = Json::object();
  constexpr toml::format_flags kPlain =
      ~(toml::format_flags::indentation | toml::format_flags::allow_literal_strings);
  const toml::table root = to_table(intent, 0);
  std::ostringstream out;
  out << toml::toml_formatter{root, toml::toml_formatter::default_flags & kPlain} << '\n';
  return out.str();
}

std::string IntentFile::place(const std::string& field, const std::string& name) const {
  for (std::string path = field; !path.empty();) {
    if (auto at = places.find(path); at != places.end()) return at->second;
    size_t dot = path.rfind('.');
    path = dot == std::string::npos ? "" : path.substr(0, dot);
  }
  return name;
}

Result<IntentFile> IntentFile::parse(std::string_view toml, const std::string& name) {
  Translator translator(name);
  try {
    toml::table root = toml::parse(toml, name);
    if (!root.contains("pools") && !root.contains("services")) {
      return fail(name, "has neither [pools] nor [services]",
                  "to remove all pools and services, say so with two empty tables");
    }
    Json json = translator.translate(root, "");
    return IntentFile{json.dump(), std::move(translator.places)};
  } catch (const toml::parse_error& problem) {
    return fail(translator.place(problem.source().begin), std::string(problem.description()));
  } catch (const std::exception& problem) {  // a string that is not UTF-8
    return fail(name, problem.what());
  }
}

Result<IntentFile> IntentFile::load(const std::string& path) {
  std::string text;
  if (path == "-") {
    text.assign(std::istreambuf_iterator<char>(std::cin), {});
    return parse(text, "standard input");
  }
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  if (file) bytes << file.rdbuf();
  if (!file || (bytes.fail() && errno != 0)) {
    return fail(path, std::string("cannot read it: ") + strerror(errno));
  }
  return parse(bytes.str(), path);
}

}  // namespace guideway::cli
