// SPDX-License-Identifier: Apache-2.0
#include "controlplane/intent_json.h"

#include <charconv>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "controlplane/intent_rules.h"
#include "controlplane/json_text.h"
#include "controlplane/plan_json.h"
#include "controlplane/pool_plan.h"
#include "controlplane/probe_json.h"
#include "controlplane/time_text.h"
#include "dataplane/abi.h"

namespace guideway {
namespace {

using nlohmann::json;

Result<void> need_object(const json& value, const std::string& path) {
  if (value.is_object()) return {};
  return fail(path, json_wrong_type("an object", value));
}

// Weight and mode: what both forms of a backend have.
Result<WantedBackend> read_backend_head(const json& object, const std::string& path) {
  WantedBackend out;
  if (auto value = object.find("weight"); value != object.end()) {
    auto weight = json_number(*value, path + ".weight", 0, kWeightMax);
    if (!weight) return tl::unexpected(weight.error());
    out.weight = static_cast<uint32_t>(*weight);
  }
  if (auto value = object.find("mode"); value != object.end()) {
    if (value->is_string()) out.mode = mode_of(value->get_ref<const std::string&>());
    if (!out.mode) {
      return fail(path + ".mode",
                  "must be \"enabled\", \"draining\" or \"disabled\", got " + json_shown(*value));
    }
  }
  return out;
}

tl::unexpected<Error> only_of_draining(const std::string& path) {
  return fail(path, "belongs to mode \"draining\" only");
}

Result<WantedBackend> read_backend(const json& object, const std::string& path) {
  if (auto is = need_object(object, path); !is) return tl::unexpected(is.error());
  if (auto known = json_only_fields(object, path, {"weight", "mode", "drain_until"}); !known) {
    return tl::unexpected(known.error());
  }
  auto out = read_backend_head(object, path);
  if (!out) return out;
  auto until = object.find("drain_until");
  if (until == object.end()) return out;
  const std::string until_path = path + ".drain_until";
  if (until->is_null()) {
    if (out->mode == BackendMode::draining) out->drain_until = 0;
    return out;
  }
  if (out->mode != BackendMode::draining) return only_of_draining(until_path);
  // TOML has no null.
  if (*until == "never") {
    out->drain_until = 0;
    return out;
  }
  if (until->is_string()) out->drain_until = utc_seconds(until->get_ref<const std::string&>());
  if (out->drain_until.value_or(0) == 0) {
    return fail(
        until_path,
        "must be a time in UTC, or null or \"never\" for no deadline, got " + json_shown(*until),
        "like \"2026-11-23T12:00:00Z\"");
  }
  return out;
}

Result<std::map<Address, WantedBackend>> read_backends(const json& object,
                                                       const std::string& path) {
  if (auto is = need_object(object, path); !is) return tl::unexpected(is.error());
  if (object.size() > GW_POOL_BACKENDS_MAX) {
    return fail(path, "at most " + std::to_string(GW_POOL_BACKENDS_MAX) +
                          " backends in one pool, got " + std::to_string(object.size()));
  }
  std::map<Address, WantedBackend> out;
  for (const auto& [key, value] : object.items()) {
    const std::string backend_path = json_path(path, key);
    std::optional<Address> address = Address::parse(key);
    if (!address) {
      return fail(backend_path, "is not an IPv4 or IPv6 address", "like 10.0.0.21 or fd00::21");
    }
    auto backend = read_backend(value, backend_path);
    if (!backend) return tl::unexpected(backend.error());
    if (!out.emplace(*address, *backend).second) {
      return fail(backend_path, "is given twice: it is " + address->text());
    }
  }
  return out;
}

Result<WantedPool> read_pool(const json& object, const std::string& path) {
  if (auto is = need_object(object, path); !is) return tl::unexpected(is.error());
  auto known = json_only_fields(
      object, path, {"forwarding", "table_slots", "probe", "slow_start_ms", "hold_s", "backends"});
  if (!known) return tl::unexpected(known.error());
  WantedPool out;
  if (auto value = object.find("forwarding"); value != object.end()) {
    if (value->is_string()) out.forwarding = forwarding_of(value->get_ref<const std::string&>());
    if (!out.forwarding) {
      return fail(path + ".forwarding",
                  "must be \"l2\", \"ipip\" or \"gue\", got " + json_shown(*value));
    }
  }
  if (auto value = object.find("table_slots"); value != object.end()) {
    auto slots = json_number(*value, path + ".table_slots", kTableSlotsMin, GW_TABLE_SLOTS_MAX);
    if (!slots) return tl::unexpected(slots.error());
    out.table_slots = static_cast<uint32_t>(*slots);
  }
  if (auto value = object.find("probe"); value != object.end()) {
    auto probe = read_probe(*value, path + ".probe");
    if (!probe) return tl::unexpected(probe.error());
    out.probe = std::move(*probe);
  }
  if (auto value = object.find("slow_start_ms"); value != object.end()) {
    auto slow_start = json_number(*value, path + ".slow_start_ms", 0, kSlowStartMax);
    if (!slow_start) return tl::unexpected(slow_start.error());
    out.slow_start_ms = static_cast<uint32_t>(*slow_start);
  }
  if (auto value = object.find("hold_s"); value != object.end()) {
    auto hold = json_number(*value, path + ".hold_s", 0, kHoldMax);
    if (!hold) return tl::unexpected(hold.error());
    out.hold_s = static_cast<uint32_t>(*hold);
  }
  if (auto value = object.find("backends"); value != object.end()) {
    auto backends = read_backends(*value, path + ".backends");
    if (!backends) return tl::unexpected(backends.error());
    out.backends = std::move(*backends);
  }
  return out;
}

Result<std::map<std::string, WantedPool>> read_pools(const json& object) {
  if (auto is = need_object(object, "pools"); !is) return tl::unexpected(is.error());
  std::map<std::string, WantedPool> out;
  for (const auto& [name, value] : object.items()) {
    const std::string path = json_path("pools", name);
    auto wanted = read_pool(value, path);
    if (!wanted) return tl::unexpected(wanted.error());
    if (!wanted->forwarding) {
      return fail(path + ".forwarding", "is missing", "\"l2\", \"ipip\" or \"gue\"");
    }
    out.emplace(name, std::move(*wanted));
  }
  return out;
}

Result<Service> read_service(const json& object, const std::string& path) {
  if (auto is = need_object(object, path); !is) return tl::unexpected(is.error());
  if (auto known = json_only_fields(object, path, {"pool"}); !known) {
    return tl::unexpected(known.error());
  }
  auto pool = object.find("pool");
  if (pool == object.end()) return fail(path + ".pool", "is missing", "the name of a pool");
  if (!pool->is_string()) return fail(path + ".pool", json_wrong_type("a string", *pool));
  Service out{pool->get<std::string>()};
  if (!is_pool_name(out.pool)) {
    return fail(path + ".pool", "there is no pool " + json_shown(*pool));
  }
  return out;
}

Result<std::map<ServiceKey, Service>> read_services(const json& object) {
  if (auto is = need_object(object, "services"); !is) return tl::unexpected(is.error());
  std::map<ServiceKey, Service> out;
  for (const auto& [name, value] : object.items()) {
    const std::string path = json_path("services", name);
    auto key = ServiceKey::parse(name);
    if (!key) return fail(path, key.error().message, key.error().hint);
    auto service = read_service(value, path);
    if (!service) return tl::unexpected(service.error());
    if (!out.emplace(*key, std::move(*service)).second) {
      return fail(path, "is given twice: it is " + key->text());
    }
  }
  return out;
}

Result<json> parse_body(std::string_view body, const std::string& path) {
  return parse_json(body.empty() ? "{}" : body, path);
}

Result<uint64_t> read_seed(const json& value) {
  constexpr size_t kDigits = 16;
  uint64_t seed = 0;
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const char* end = text.data() + text.size();
    auto [stop, error] = std::from_chars(text.data(), end, seed, 16);
    if (text.size() == kDigits && error == std::errc() && stop == end) return seed;
  }
  return fail("flow_seed", "must be a string of 16 hex digits, got " + json_shown(value));
}

// The part that PUT /v1/intent and the stored file have in common.
Result<WantedIntent> read_document(const json& root) {
  WantedIntent out;
  if (auto value = root.find("revision"); value != root.end()) {
    auto revision = json_number(*value, "revision", 0, std::numeric_limits<uint64_t>::max());
    if (!revision) return tl::unexpected(revision.error());
    out.revision = *revision;
  }
  if (auto value = root.find("pools"); value != root.end()) {
    auto pools = read_pools(*value);
    if (!pools) return tl::unexpected(pools.error());
    out.pools = std::move(*pools);
  }
  if (auto value = root.find("services"); value != root.end()) {
    auto services = read_services(*value);
    if (!services) return tl::unexpected(services.error());
    out.services = std::move(*services);
  }
  return out;
}

// Without its closing brace.
std::string open_settings(const Pool& pool) {
  return std::string("{\"forwarding\":\"") + forwarding_name(pool.forwarding) +
         "\",\"table_slots\":" + std::to_string(pool.table_slots) +
         ",\"probe\":" + write_probe(pool.probe) +
         ",\"slow_start_ms\":" + std::to_string(pool.slow_start_ms) +
         ",\"hold_s\":" + std::to_string(pool.hold_s);
}

// Names and addresses need no escapes: pool names have been checked, the rest is our own text.
void write_pools_and_services(const Intent& intent, bool with_plans, std::string& out) {
  out += "\"pools\":{";
  for (const auto& [name, pool] : intent.pools) {
    if (out.back() != '{') out += ',';
    out += '"' + name + "\":" + open_settings(pool) + ",\"backends\":" + write_backends(pool);
    if (with_plans && pool.plan) out += ",\"plan\":" + write_plan(*pool.plan);
    out += '}';
  }
  out += "},\"services\":{";
  for (const auto& [key, service] : intent.services) {
    if (out.back() != '{') out += ',';
    out += '"' + key.text() + "\":{\"pool\":\"" + service.pool + "\"}";
  }
  out += '}';
}

using Plans = std::map<std::string, ChangePlan>;  // by pool

std::string plan_path(const std::string& pool) {
  return json_path("pools", pool) + ".plan";
}

// What the document of a pool says beside its settings.
Result<Plans> take_plans(json& pools) {
  Plans out;
  if (!pools.is_object()) return out;
  for (auto& [name, pool] : pools.items()) {
    if (!pool.is_object()) continue;
    const auto value = pool.find("plan");
    if (value == pool.end()) continue;
    auto plan = read_plan(*value, plan_path(name));
    if (!plan) return tl::unexpected(plan.error());
    out.emplace(name, std::move(*plan));
    pool.erase(value);
  }
  return out;
}

Result<void> give_plans(Plans plans, Intent& intent) {
  for (auto& [name, pool] : intent.pools) {
    const auto plan = plans.find(name);
    const bool has_list = pool.forwarding == Forwarding::gue;
    if (plan == plans.end()) {
      if (has_list) return fail(plan_path(name), "is missing");
      continue;  // at rest
    }
    if (has_list == plan->second.history.one_step)
      return fail(plan_path(name), has_list ? "is in one step, but forwarding gue goes by steps"
                                            : "goes by steps, which is for forwarding gue only");
    plan->second.wanted = shape_of(pool);
    if (auto valid = check_plan(plan->second); !valid) {
      Error error = valid.error();
      error.field = plan_path(name) + "." + error.field;
      return tl::unexpected(std::move(error));
    }
    pool.plan = std::move(plan->second);
  }
  return check_intent(intent);
}

}  // namespace

Result<WantedIntent> read_wanted_intent(std::string_view body) {
  auto root = parse_body(body, "");
  if (!root) return tl::unexpected(root.error());
  if (auto known = json_only_fields(*root, "", {"revision", "flow_seed", "pools", "services"});
      !known) {
    return tl::unexpected(known.error());
  }
  // What is absent goes: an empty body would take everything away, by a slip.
  if (!root->contains("pools") && !root->contains("services")) {
    return fail("body", "has neither pools nor services",
                "to remove everything say so: {\"pools\":{},\"services\":{}}");
  }
  auto wanted = read_document(*root);
  if (!wanted) return wanted;
  if (auto value = root->find("flow_seed"); value != root->end()) {
    auto seed = read_seed(*value);
    if (!seed) return tl::unexpected(seed.error());
    wanted->flow_seed = *seed;
  }
  return wanted;
}

Result<WantedPool> read_wanted_pool(std::string_view body, const std::string& name) {
  const std::string path = json_path("pools", name);
  auto root = parse_body(body, path);
  if (!root) return tl::unexpected(root.error());
  return read_pool(*root, path);
}

Result<WantedBackend> read_wanted_backend(std::string_view body, const std::string& pool,
                                          const Address& address, int64_t now) {
  const std::string path = json_path("pools", pool) + ".backends." + address.text();
  auto root = parse_body(body, path);
  if (!root) return tl::unexpected(root.error());
  if (auto known = json_only_fields(*root, path, {"weight", "mode", "deadline_s"}); !known) {
    return tl::unexpected(known.error());
  }
  auto out = read_backend_head(*root, path);
  if (!out) return out;
  out->default_drain_until = now + int64_t{kDrainDeadline};
  if (auto value = root->find("deadline_s"); value != root->end()) {
    if (out->mode != BackendMode::draining) return only_of_draining(path + ".deadline_s");
    auto number = json_number(*value, path + ".deadline_s", 0, kDrainDeadlineMax);
    if (!number) return tl::unexpected(number.error());
    out->drain_until = *number == 0 ? 0 : now + static_cast<int64_t>(*number);
  }
  return out;
}

Result<Service> read_wanted_service(std::string_view body, const ServiceKey& key) {
  const std::string path = "services." + key.text();
  auto root = parse_body(body, path);
  if (!root) return tl::unexpected(root.error());
  return read_service(*root, path);
}

std::string write_settings(const Pool& pool) {
  return open_settings(pool) + "}";
}

std::string write_backends(const Pool& pool) {
  std::string out = "{";
  for (const auto& [address, backend] : pool.backends) {
    if (out.back() != '{') out += ',';
    out += '"' + address.text() + "\":{\"weight\":" + std::to_string(backend.weight) +
           ",\"mode\":\"" + mode_name(backend.mode) + '"';
    if (backend.mode == BackendMode::draining) {
      out += ",\"drain_until\":" +
             (backend.drain_until == 0 ? "null" : '"' + utc_text(backend.drain_until) + '"');
    }
    out += '}';
  }
  return out + "}";
}

Result<Pool> read_stored_pool(const std::string& name, std::string_view settings,
                              std::string_view backends, std::string_view plan) {
  std::string text = R"({"revision":0,"flow_seed":0,"services":{},"pools":{")" + name + "\":";
  text += settings.substr(0, settings.empty() ? 0 : settings.size() - 1);
  text += ",\"backends\":" + std::string(backends);
  if (!plan.empty()) text += ",\"plan\":" + std::string(plan);
  auto intent = read_stored_intent(text + "}}}");
  if (!intent) return tl::unexpected(intent.error());
  return std::move(intent->pools.at(name));
}

std::string write_intent(const Intent& intent) {
  char seed[17];
  std::snprintf(seed, sizeof seed, "%016llx", static_cast<unsigned long long>(intent.flow_seed));
  std::string out =
      "{\"revision\":" + std::to_string(intent.revision) + ",\"flow_seed\":\"" + seed + "\",";
  write_pools_and_services(intent, false, out);
  return out + "}";
}

std::string write_stored_intent(const Intent& intent) {
  std::string out = "{\"revision\":" + std::to_string(intent.revision) +
                    ",\"flow_seed\":" + std::to_string(intent.flow_seed) + ",";
  write_pools_and_services(intent, true, out);
  return out + "}";
}

Result<Intent> read_stored_intent(std::string_view text) {
  auto root = parse_json(text, "");
  if (!root) return tl::unexpected(root.error());
  if (auto known = json_only_fields(*root, "", {"revision", "flow_seed", "pools", "services"});
      !known) {
    return tl::unexpected(known.error());
  }
  for (const char* needed : {"revision", "flow_seed", "pools", "services"}) {
    if (!root->contains(needed)) return fail(needed, "is missing");
  }
  auto seed =
      json_number((*root)["flow_seed"], "flow_seed", 0, std::numeric_limits<uint64_t>::max());
  if (!seed) return tl::unexpected(seed.error());
  auto plans = take_plans((*root)["pools"]);
  if (!plans) return tl::unexpected(plans.error());
  auto document = read_document(*root);
  if (!document) return tl::unexpected(document.error());
  const uint64_t revision = *document->revision;
  document->revision.reset();
  auto intent = replace_intent(Intent{}, *document);
  if (!intent) return tl::unexpected(intent.error().error);
  intent->revision = revision;
  intent->flow_seed = *seed;
  if (auto given = give_plans(*std::move(plans), *intent); !given)
    return tl::unexpected(given.error());
  return std::move(*intent);
}

}  // namespace guideway
