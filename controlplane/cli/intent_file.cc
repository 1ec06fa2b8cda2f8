// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/intent_file.h"

#include <toml++/toml.h>

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

}  // namespace

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
