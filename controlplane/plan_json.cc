// SPDX-License-Identifier: Apache-2.0
#include "controlplane/plan_json.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "controlplane/json_text.h"

namespace guideway {
namespace {

using nlohmann::json;

constexpr uint64_t kAny = std::numeric_limits<uint64_t>::max();
constexpr uint64_t kAny32 = std::numeric_limits<uint32_t>::max();

std::string write_epoch(const Epoch& epoch) {
  std::string out = "{\"number\":" + std::to_string(epoch.number) +
                    ",\"slots\":" + std::to_string(epoch.slots) +
                    ",\"fill_slots\":" + std::to_string(epoch.fill_slots) + ",\"members\":{";
  for (const MaglevBackend& member : epoch.members) {
    if (out.back() != '{') out += ',';
    out += '"' + member.address.text() + "\":" + std::to_string(member.weight);
  }
  out += "},\"kept_stand_ins\":{";
  for (const auto& [address, slots] : epoch.kept_stand_ins) {
    if (out.back() != '{') out += ',';
    out += '"' + address.text() + "\":[";
    for (const uint32_t slot : slots) {
      if (out.back() != '[') out += ',';
      out += std::to_string(slot);
    }
    out += ']';
  }
  return out + "},\"stand_ins\":" + (epoch.stand_ins ? "true" : "false") + "}";
}

// An object with exactly these fields; `optional`, one of them, may be absent.
Result<void> need_fields(const json& object, const std::string& path,
                         std::initializer_list<std::string_view> fields,
                         std::string_view optional = {}) {
  if (!object.is_object()) return fail(path, json_wrong_type("an object", object));
  if (auto known = json_only_fields(object, path, fields); !known) return known;
  for (const std::string_view field : fields)
    if (field != optional && !object.contains(field))
      return fail(path + "." + std::string(field), "is missing");
  return {};
}

Result<uint64_t> number(const json& object, const std::string& path, const char* field,
                        uint64_t most) {
  return json_number(object.at(field), path + "." + field, 0, most);
}

Result<bool> truth(const json& object, const std::string& path, const char* field) {
  const json& value = object.at(field);
  if (!value.is_boolean()) return fail(path + "." + field, json_wrong_type("a truth", value));
  return value.get<bool>();
}

Result<Address> address_of(const std::string& text, const std::string& path) {
  const auto address = Address::parse(text);
  if (!address) return fail(path + "." + text, "is no address");
  return *address;
}

Result<void> read_members(const json& object, const std::string& path, Epoch& epoch) {
  if (!object.is_object()) return fail(path, json_wrong_type("an object", object));
  for (const auto& [key, value] : object.items()) {
    auto address = address_of(key, path);
    if (!address) return tl::unexpected(address.error());
    auto weight = json_number(value, json_path(path, key), 0, kAny32);
    if (!weight) return tl::unexpected(weight.error());
    epoch.members.push_back({*address, static_cast<uint32_t>(*weight)});
  }
  epoch.members = sorted_members(std::move(epoch.members));
  const auto twice = std::adjacent_find(
      epoch.members.begin(), epoch.members.end(),
      [](const MaglevBackend& a, const MaglevBackend& b) { return a.address == b.address; });
  if (twice != epoch.members.end()) return fail(path, twice->address.text() + " stands twice");
  return {};
}

Result<void> read_kept(const json& object, const std::string& path, Epoch& epoch) {
  if (!object.is_object()) return fail(path, json_wrong_type("an object", object));
  for (const auto& [key, value] : object.items()) {
    auto address = address_of(key, path);
    if (!address) return tl::unexpected(address.error());
    if (!value.is_array()) return fail(json_path(path, key), json_wrong_type("a list", value));
    auto& slots = epoch.kept_stand_ins[*address];
    for (const json& item : value) {
      auto slot = json_number(item, json_path(path, key), 0, kAny32);
      if (!slot) return tl::unexpected(slot.error());
      slots.push_back(static_cast<uint32_t>(*slot));
    }
  }
  return {};
}

Result<Epoch> read_epoch(const json& object, const std::string& path) {
  auto fields = need_fields(
      object, path, {"number", "slots", "fill_slots", "members", "kept_stand_ins", "stand_ins"});
  if (!fields) return tl::unexpected(fields.error());
  Epoch epoch;
  auto which = number(object, path, "number", kAny);
  auto slots = number(object, path, "slots", kAny32);
  auto fill = number(object, path, "fill_slots", kAny32);
  for (const auto* one : {&which, &slots, &fill})
    if (!*one) return tl::unexpected(one->error());
  epoch.number = *which;
  epoch.slots = static_cast<uint32_t>(*slots);
  epoch.fill_slots = static_cast<uint32_t>(*fill);
  auto stand_ins = truth(object, path, "stand_ins");
  if (!stand_ins) return tl::unexpected(stand_ins.error());
  epoch.stand_ins = *stand_ins;
  auto members = read_members(object.at("members"), path + ".members", epoch);
  if (!members) return tl::unexpected(members.error());
  auto kept = read_kept(object.at("kept_stand_ins"), path + ".kept_stand_ins", epoch);
  if (!kept) return tl::unexpected(kept.error());
  return epoch;
}

}  // namespace

std::string write_plan(const ChangePlan& plan) {
  std::string out = "{\"revision\":" + std::to_string(plan.revision) +
                    ",\"forced\":" + (plan.forced ? "true" : "false") +
                    (plan.history.one_step ? ",\"one_step\":true" : "") +
                    ",\"current\":" + write_epoch(plan.history.current) + ",\"incoming\":" +
                    (plan.history.incoming ? write_epoch(*plan.history.incoming) : "null") +
                    ",\"earlier\":[";
  for (const Epoch& epoch : plan.history.earlier) {
    if (out.back() != '[') out += ',';
    out += write_epoch(epoch);
  }
  return out + "]}";
}

Result<ChangePlan> read_plan(const json& object, const std::string& path) {
  auto fields =
      need_fields(object, path,
                  {"revision", "forced", "one_step", "current", "incoming", "earlier"}, "one_step");
  if (!fields) return tl::unexpected(fields.error());
  ChangePlan plan;
  auto revision = number(object, path, "revision", kAny);
  if (!revision) return tl::unexpected(revision.error());
  plan.revision = *revision;
  auto forced = truth(object, path, "forced");
  if (!forced) return tl::unexpected(forced.error());
  plan.forced = *forced;
  if (object.contains("one_step")) {
    auto one_step = truth(object, path, "one_step");
    if (!one_step) return tl::unexpected(one_step.error());
    plan.history.one_step = *one_step;
  }
  auto current = read_epoch(object.at("current"), path + ".current");
  if (!current) return tl::unexpected(current.error());
  plan.history.current = std::move(*current);
  if (!object.at("incoming").is_null()) {
    auto incoming = read_epoch(object.at("incoming"), path + ".incoming");
    if (!incoming) return tl::unexpected(incoming.error());
    plan.history.incoming = std::move(*incoming);
  }
  const json& earlier = object.at("earlier");
  if (!earlier.is_array()) return fail(path + ".earlier", json_wrong_type("a list", earlier));
  for (const json& item : earlier) {
    auto epoch = read_epoch(item, path + ".earlier." + std::to_string(plan.history.earlier.size()));
    if (!epoch) return tl::unexpected(epoch.error());
    plan.history.earlier.push_back(std::move(*epoch));
  }
  return plan;
}

}  // namespace guideway
