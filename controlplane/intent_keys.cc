// SPDX-License-Identifier: Apache-2.0
#include "controlplane/intent_keys.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "controlplane/intent_json.h"
#include "controlplane/intent_rules.h"
#include "controlplane/json_text.h"
#include "controlplane/plan_json.h"
#include "controlplane/sealed_text.h"

namespace guideway {
namespace {

constexpr std::string_view kPools = "pools/";
constexpr std::string_view kBackends = "backends/";
constexpr std::string_view kPlans = "plans/";
constexpr std::string_view kServices = "services/";

std::string key_of(std::string_view kind, const std::string& name) {
  return std::string(kind) + name;
}

std::string hex(uint64_t value) {
  char out[17];
  std::snprintf(out, sizeof out, "%016llx", static_cast<unsigned long long>(value));
  return out;
}

Result<uint64_t> read_hex(const nlohmann::json& object, const char* field) {
  const auto found = object.find(field);
  uint64_t value = 0;
  if (found != object.end() && found->is_string()) {
    const auto& text = found->get_ref<const std::string&>();
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
    if (text.size() == 16 && error == std::errc() && stop == text.data() + text.size())
      return value;
  }
  return fail(field, "must be 16 hex digits");
}

std::string plan_of(const Pool& pool) {
  return pool.plan ? write_plan(*pool.plan) : "";
}

std::string service_of(const Service& service) {
  return "{\"pool\":\"" + service.pool + "\"}";
}

class Writes {
 public:
  // Texts before and after; empty: not there.
  void put(const std::string& key, const std::string& before, const std::string& after) {
    if (before == after) return;
    out.push_back({key, after.empty() ? "" : seal(after, key)});
  }
  void pool(const std::string& name, const Pool* before, const Pool* after) {
    if (before != nullptr && after != nullptr && *before == *after) return;
    const auto text = [](const Pool* pool, auto write) {
      return pool != nullptr ? write(*pool) : "";
    };
    put(key_of(kPools, name), text(before, write_settings), text(after, write_settings));
    put(key_of(kBackends, name), text(before, write_backends), text(after, write_backends));
    put(key_of(kPlans, name), text(before, plan_of), text(after, plan_of));
  }
  std::vector<KeyWrite> out;
};

}  // namespace

std::string write_head(const IntentHead& head) {
  return seal("{\"revision\":" + std::to_string(head.revision) + ",\"flow_seed\":\"" +
                  hex(head.flow_seed) + "\",\"cluster\":\"" + hex(head.cluster) +
                  "\",\"by\":" + json_quoted(head.by) + (head.part ? ",\"part\":true}" : "}"),
              kHeadKey);
}

Result<IntentHead> read_head(std::string_view value) {
  auto line = unseal(value, kHeadKey);
  if (!line) return fail(kHeadKey, line.error().why);
  auto object = parse_json(*line, "");
  if (!object) return tl::unexpected(object.error());
  IntentHead head;
  const auto revision = object->find("revision");
  if (revision == object->end()) return fail("revision", "is missing");
  auto number = json_number(*revision, "revision", 1, kRevisionMost);
  auto seed = read_hex(*object, "flow_seed");
  auto cluster = read_hex(*object, "cluster");
  for (const auto* one : {&number, &seed, &cluster})
    if (!*one) return tl::unexpected(one->error());
  head.revision = *number;
  head.flow_seed = *seed;
  head.cluster = *cluster;
  if (const auto by = object->find("by"); by != object->end() && by->is_string())
    head.by = by->get<std::string>();
  if (const auto part = object->find("part"); part != object->end() && part->is_boolean())
    head.part = part->get<bool>();
  return head;
}

std::vector<KeyWrite> key_writes(const Intent& before, const Intent& after) {
  Writes writes;
  for (const auto& [key, service] : before.services)
    if (after.services.count(key) == 0) writes.put(key_of(kServices, key.text()), "-", "");
  for (const auto& [name, pool] : after.pools) {
    const auto old = before.pools.find(name);
    writes.pool(name, old == before.pools.end() ? nullptr : &old->second, &pool);
  }
  for (const auto& [key, service] : after.services) {
    const auto old = before.services.find(key);
    writes.put(key_of(kServices, key.text()),
               old == before.services.end() ? "" : service_of(old->second), service_of(service));
  }
  for (const auto& [name, pool] : before.pools)
    if (after.pools.count(name) == 0) writes.pool(name, &pool, nullptr);
  return std::move(writes.out);
}

std::optional<IntentKeys::Object> IntentKeys::object_of(const std::string& key) {
  for (const std::string_view kind : {kPools, kBackends, kPlans, kServices})
    if (key.starts_with(kind)) return Object{kind != kServices, key.substr(kind.size())};
  return {};
}

void IntentKeys::touch(const std::string& key) {
  if (const auto object = object_of(key)) dirty_.insert(*object);
}

std::string IntentKeys::newer_beside(const std::string& key) const {
  if (const auto object = object_of(key))
    for (const std::string& one : keys_of(*object))
      if (is_newer(one)) return one;
  return {};
}

void IntentKeys::set(const std::string& key, std::string value) {
  touch(key);
  values_[key] = std::move(value);
}

void IntentKeys::remove(const std::string& key) {
  touch(key);
  values_.erase(key);
}

void IntentKeys::restart(const Intent& last) {
  seen_.clear();
  for (const auto& [key, value] : std::exchange(values_, {})) touch(key);
  for (const auto& [name, pool] : last.pools) dirty_.insert({true, name});
  for (const auto& [key, service] : last.services) dirty_.insert({false, key.text()});
}

Result<IntentHead> IntentKeys::head() const {
  const auto found = values_.find(kHeadKey);
  if (found == values_.end()) return fail(kHeadKey, "is not there");
  return read_head(found->second);
}

std::vector<std::string> IntentKeys::keys_of(const Object& object) {
  if (!object.is_pool) return {key_of(kServices, object.name)};
  return {key_of(kPools, object.name), key_of(kBackends, object.name), key_of(kPlans, object.name)};
}

// The line of a value; empty if there is none.
Result<std::string_view> IntentKeys::value(const std::string& key) {
  const auto found = values_.find(key);
  if (found == values_.end()) return std::string_view();
  auto line = unseal(found->second, key);
  if (line && line->empty()) return fail(key, "is damaged: it says nothing");
  if (line) return *line;
  if (line.error().newer) newer_.insert(key);
  return fail(key, line.error().why);
}

Result<void> IntentKeys::take_pool(const std::string& name, Intent& into) {
  const Object object{true, name};
  std::vector<std::string_view> lines;
  for (const std::string& key : keys_of(object)) {
    auto line = value(key);
    if (!line) return tl::unexpected(line.error());
    lines.push_back(*line);
  }
  if (!is_pool_name(name)) return fail(key_of(kPools, name), "is no name of a pool");
  const bool gone = lines[0].empty() && lines[1].empty() && lines[2].empty();
  if (gone) {
    into.pools.erase(name);
    return {};
  }
  if (lines[0].empty()) return fail(key_of(kPools, name), "is missing");
  if (lines[1].empty()) return fail(key_of(kBackends, name), "is missing");
  auto pool = read_stored_pool(name, lines[0], lines[1], lines[2]);
  if (!pool) return fail(key_of(kPools, name), pool.error().text());
  into.pools[name] = std::move(*pool);
  return {};
}

Result<void> IntentKeys::take_service(const std::string& name, Intent& into) {
  const std::string where = key_of(kServices, name);
  auto line = value(where);
  if (!line) return tl::unexpected(line.error());
  auto key = ServiceKey::parse(name);
  if (!key || key->text() != name) return fail(where, "is no name of a service");
  if (line->empty()) {
    into.services.erase(*key);
    return {};
  }
  auto service = read_wanted_service(*line, *key);
  if (!service) return fail(where, service.error().text());
  into.services[*key] = std::move(*service);
  return {};
}

Result<void> IntentKeys::take(const Object& object, Intent& into) {
  return object.is_pool ? take_pool(object.name, into) : take_service(object.name, into);
}

void IntentKeys::refuse(const Object& object, const Error& error) {
  const auto keys = keys_of(object);
  const bool names_one = std::find(keys.begin(), keys.end(), error.field) != keys.end();
  refused_[names_one ? error.field : keys.front()] = names_one ? error.message : error.text();
}

Result<Intent> IntentKeys::intent(const Intent& last) {
  auto head = this->head();
  if (!head) return tl::unexpected(head.error());
  refused_.clear();
  newer_.clear();
  Intent base = last;
  base.revision = head->revision;
  base.flow_seed = head->flow_seed;
  std::set<Object> left_out;
  Intent next = base;
  for (const Object& object : dirty_) {
    if (auto taken = take(object, next); !taken) {
      refuse(object, taken.error());
      left_out.insert(object);
    }
  }
  if (!check_intent(next)) {
    // Together they contradict each other: one by one, pools before services that need them, and
    // those that go after.
    next = base;
    std::set<Object> todo = dirty_;
    for (const Object& object : left_out) todo.erase(object);
    for (bool goes_on = true; goes_on;) {
      goes_on = false;
      for (auto at = todo.begin(); at != todo.end();) {
        Intent with = next;
        const bool good = take(*at, with) && check_intent(with);
        if (good) next = std::move(with);
        goes_on = goes_on || good;
        at = good ? todo.erase(at) : std::next(at);
      }
    }
    for (const Object& object : todo) {
      Intent with = next;
      (void)take(object, with);
      if (auto valid = check_intent(with); !valid) refuse(object, valid.error());
      left_out.insert(object);
    }
  }
  for (const Object& object : dirty_)
    if (left_out.count(object) == 0) seen_.insert(object);
  dirty_ = std::move(left_out);
  return next;
}

std::vector<KeyWrite> IntentKeys::repairs(const Intent& now,
                                          const std::vector<KeyWrite>& writes) const {
  std::set<Object> may_write = seen_;
  for (const KeyWrite& one : writes)
    if (const auto object = object_of(one.key)) may_write.insert(*object);
  std::vector<KeyWrite> out;
  for (const Object& object : dirty_) {
    if (may_write.count(object) == 0) continue;
    const auto keys = keys_of(object);
    if (std::any_of(keys.begin(), keys.end(), [this](const auto& key) { return is_newer(key); }))
      continue;
    std::map<std::string, std::string> wanted;
    for (const KeyWrite& one : key_writes(Intent{}, only(object, now)))
      wanted.emplace(one.key, one.value);
    for (const std::string& key : keys) {
      const auto value = wanted.find(key);
      if (value != wanted.end()) out.push_back({key, value->second});
      if (value == wanted.end() && values_.count(key) != 0) out.push_back({key, ""});
    }
  }
  return out;
}

// An intent with that object alone.
Intent IntentKeys::only(const Object& object, const Intent& all) {
  Intent out;
  for (const auto& [name, pool] : all.pools)
    if (object.is_pool && name == object.name) out.pools[name] = pool;
  for (const auto& [key, service] : all.services)
    if (!object.is_pool && key.text() == object.name) out.services[key] = service;
  return out;
}

}  // namespace guideway
