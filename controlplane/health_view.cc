// SPDX-License-Identifier: Apache-2.0
#include "controlplane/health_view.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "controlplane/intent_rules.h"
#include "controlplane/json_text.h"

namespace guideway {
namespace {

using nlohmann::json;

constexpr size_t kTextMax = 1 << 20;  // far more than write_view() makes

std::string seal_name(const std::string& node) {
  return "views/" + node;
}

std::optional<Sight> sight_of(const std::string& name) {
  for (Sight sight : {Sight::down, Sight::no_way, Sight::blind, Sight::unknown})
    if (name == sight_name(sight)) return sight;
  return {};
}

// `left`: so many addresses may still be written.
std::string write_pool(const PoolOutlook& pool, size_t& left) {
  std::string out = "{\"of\":" + std::to_string(pool.of) + ",\"up\":" + std::to_string(pool.up);
  if (pool.cut || pool.not_up.size() > left) out += ",\"cut\":true";
  out += ",\"not_up\":{";
  for (const auto& [address, sight] : pool.not_up) {
    if (left == 0) break;
    --left;
    if (out.back() != '{') out += ',';
    out += '"' + address.text() + "\":\"" + sight_name(sight) + '"';
  }
  return out + "}}";
}

std::string write_pools(const std::map<std::string, PoolOutlook>& pools) {
  size_t left = kViewNotUpMax;
  size_t count = 0;
  std::string out = "{";
  for (bool well : {false, true}) {
    for (const auto& [name, pool] : pools) {
      if (pool.not_up.empty() != well || count == kViewPoolsMax) continue;
      ++count;
      if (out.back() != '{') out += ',';
      out += json_quoted(name) + ":" + write_pool(pool, left);
    }
  }
  return out + "}";
}

Result<uint64_t> read_count(const json& object, const char* key, const std::string& path,
                            uint64_t most = std::numeric_limits<uint32_t>::max()) {
  const auto value = object.find(key);
  if (value == object.end()) return fail(json_path(path, key), "is missing");
  return json_number(*value, json_path(path, key), 0, most);
}

Result<bool> read_flag(const json& object, const char* key, const std::string& path) {
  const auto value = object.find(key);
  if (value == object.end()) return false;
  if (!value->is_boolean()) return fail(json_path(path, key), json_wrong_type("a boolean", *value));
  return value->get<bool>();
}

Result<json> read_object(const json& object, const char* key, const std::string& path) {
  const auto value = object.find(key);
  if (value == object.end()) return json::object();
  if (!value->is_object()) return fail(json_path(path, key), json_wrong_type("an object", *value));
  return *value;
}

Result<PoolOutlook> read_pool(const json& object, const std::string& path) {
  if (!object.is_object()) return fail(path, json_wrong_type("an object", object));
  PoolOutlook out;
  auto of = read_count(object, "of", path), up = read_count(object, "up", path);
  if (!of) return tl::unexpected(of.error());
  if (!up) return tl::unexpected(up.error());
  out.of = static_cast<uint32_t>(*of);
  out.up = static_cast<uint32_t>(*up);
  auto cut = read_flag(object, "cut", path);
  if (!cut) return tl::unexpected(cut.error());
  out.cut = *cut;
  auto not_up = read_object(object, "not_up", path);
  if (!not_up) return tl::unexpected(not_up.error());
  for (const auto& [key, value] : not_up->items()) {
    const auto address = Address::parse(key);
    const auto sight =
        value.is_string() ? sight_of(value.get_ref<const std::string&>()) : std::optional<Sight>();
    if (!address || !sight)
      return fail(json_path(path + ".not_up", key), "is no address with what is seen of it");
    out.not_up[*address] = *sight;
  }
  if (out.up > out.of || out.not_up.size() > out.of - out.up)
    return fail(path, "counts more backends than it has");
  if (!out.cut && out.not_up.size() != out.of - out.up)
    return fail(path, "does not say which backends are not up");
  return out;
}

Result<HealthView> read_body(std::string_view line) {
  auto object = parse_json(line, "");
  if (!object) return tl::unexpected(object.error());
  HealthView out;
  auto serves = read_flag(*object, "serves", "");
  if (!serves) return tl::unexpected(serves.error());
  out.serves = *serves;
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  auto doubt = read_count(*object, "doubt", "", kMost);
  if (!doubt) return tl::unexpected(doubt.error());
  out.doubt = *doubt;
  if (const auto list = object->find("out"); list != object->end()) {
    if (!list->is_array()) return fail("out", json_wrong_type("an array", *list));
    for (const json& name : *list) {
      if (!name.is_string() || !is_pool_name(name.get_ref<const std::string&>()))
        return fail("out", "must be names of pools");
      out.out.insert(name.get<std::string>());
    }
  }
  auto answers = read_object(*object, "answers", "");
  if (!answers) return tl::unexpected(answers.error());
  for (const auto& [node, value] : answers->items()) {
    auto number = json_number(value, json_path("answers", node), 0, kMost);
    if (!number) return tl::unexpected(number.error());
    out.answers[node] = *number;
  }
  auto pools = read_object(*object, "pools", "");
  if (!pools) return tl::unexpected(pools.error());
  for (const auto& [name, value] : pools->items()) {
    const std::string path = json_path("pools", name);
    if (!is_pool_name(name)) return fail(path, "is no name of a pool");
    auto pool = read_pool(value, path);
    if (!pool) return tl::unexpected(pool.error());
    out.pools.emplace(name, std::move(*pool));
  }
  return out;
}

}  // namespace

std::string write_view(const HealthView& view, const std::string& node) {
  std::string line = std::string("{\"serves\":") + (view.serves ? "true" : "false") + ",\"out\":[";
  for (const std::string& pool : view.out)
    line += (line.back() == '[' ? "" : ",") + json_quoted(pool);
  line += "],\"doubt\":" + std::to_string(view.doubt) + ",\"answers\":{";
  for (const auto& [name, number] : view.answers)
    line += (line.back() == '{' ? "" : ",") + json_quoted(name) + ":" + std::to_string(number);
  return seal(line + "},\"pools\":" + write_pools(view.pools) + "}", seal_name(node));
}

tl::expected<HealthView, Unsealable> read_view(std::string_view text, const std::string& node) {
  if (text.size() > kTextMax) return tl::unexpected(Unsealable{"is too long"});
  const auto line = unseal(text, seal_name(node));
  if (!line) return tl::unexpected(line.error());
  auto view = read_body(*line);
  if (!view) return tl::unexpected(Unsealable{"cannot be read: " + view.error().text()});
  return std::move(*view);
}

}  // namespace guideway
