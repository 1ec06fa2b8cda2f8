// SPDX-License-Identifier: Apache-2.0
#include "controlplane/probe_json.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <vector>

#include "controlplane/intent_change.h"
#include "controlplane/intent_json.h"
#include "controlplane/json_text.h"

namespace guideway {
namespace {

using nlohmann::json;

constexpr uint32_t kHttpIntervalMs = 1000;
constexpr uint32_t kTimeoutDefaultMost = 5000;  // ms
constexpr uint16_t kDnsPort = 53;
constexpr const char* kKinds = R"("none", "tcp", "icmp", "udp" or "http")";

using Names = std::vector<std::string_view>;

constexpr std::string_view kAllFields[] = {"kind",        "port",       "query", "path", "host",
                                           "interval_ms", "timeout_ms", "fall",  "rise"};

Names fields_of(ProbeKind kind) {
  Names out = {"kind"};
  if (kind == ProbeKind::none) return out;
  if (kind != ProbeKind::icmp) out.emplace_back("port");
  if (kind == ProbeKind::udp) out.emplace_back("query");
  if (kind == ProbeKind::http) out.insert(out.end(), {"path", "host"});
  out.insert(out.end(), {"interval_ms", "timeout_ms", "fall", "rise"});
  return out;
}

template <typename Known>
bool has(const Known& names, std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

Result<void> only_fields_of(ProbeKind kind, const json& object, const std::string& path) {
  const Names known = fields_of(kind);
  for (const auto& [key, value] : object.items()) {
    if (has(known, key)) continue;
    if (!has(kAllFields, key)) return json_only_fields(object, path, known);
    return fail(json_path(path, key),
                std::string("does not belong to a probe of kind ") + probe_kind_name(kind),
                json_known_here(known));
  }
  return {};
}

Result<ProbeKind> read_kind(const json& object, const std::string& path) {
  auto value = object.find("kind");
  if (value == object.end()) return fail(path + ".kind", "is missing", kKinds);
  std::optional<ProbeKind> kind;
  if (value->is_string()) kind = probe_kind_of(value->get_ref<const std::string&>());
  if (!kind) {
    return fail(path + ".kind", std::string("must be ") + kKinds + ", got " + json_shown(*value));
  }
  return *kind;
}

// Reads `key` into `out` if it is there.
template <typename Number>
Result<void> read_into(const json& object, const std::string& path, const char* key, uint64_t most,
                       Number& out) {
  auto value = object.find(key);
  if (value == object.end()) return {};
  auto number = json_number(*value, path + "." + key, 1, most);
  if (!number) return tl::unexpected(number.error());
  out = static_cast<Number>(*number);
  return {};
}

Result<void> read_text_into(const json& object, const std::string& path, const char* key,
                            std::string& out) {
  auto value = object.find(key);
  if (value == object.end()) return {};
  if (!value->is_string()) return fail(path + "." + key, json_wrong_type("a string", *value));
  out = value->get<std::string>();
  return {};
}

Result<void> read_query(const json& object, const std::string& path, Probe& out) {
  out.query = out.port == kDnsPort ? UdpQuery::dns : UdpQuery::echo;
  auto value = object.find("query");
  if (value == object.end()) return {};
  std::optional<UdpQuery> query;
  if (value->is_string()) query = udp_query_of(value->get_ref<const std::string&>());
  if (!query) {
    return fail(path + ".query", "must be \"dns\" or \"echo\", got " + json_shown(*value));
  }
  out.query = *query;
  return {};
}

Result<void> read_times(const json& object, const std::string& path, Probe& out) {
  if (out.kind == ProbeKind::http) out.interval_ms = kHttpIntervalMs;
  auto read = read_into(object, path, "interval_ms", kProbeIntervalMax, out.interval_ms);
  if (!read) return read;
  out.timeout_ms = std::min(out.interval_ms, kTimeoutDefaultMost);
  read = read_into(object, path, "timeout_ms", kProbeIntervalMax, out.timeout_ms);
  if (!read) return read;
  read = read_into(object, path, "fall", kProbeCountMax, out.fall);
  if (!read) return read;
  return read_into(object, path, "rise", kProbeCountMax, out.rise);
}

std::string number_field(const char* name, uint32_t value) {
  return std::string(",\"") + name + "\":" + std::to_string(value);
}

}  // namespace

Result<Probe> read_probe(const json& value, const std::string& path) {
  Probe out;
  if (value.is_null()) return out;
  if (!value.is_object()) return fail(path, json_wrong_type("an object or null", value));
  auto kind = read_kind(value, path);
  if (!kind) return tl::unexpected(kind.error());
  out.kind = *kind;
  if (auto known = only_fields_of(*kind, value, path); !known) return tl::unexpected(known.error());
  if (out.kind == ProbeKind::none) return out;
  if (out.kind != ProbeKind::icmp) {
    if (!value.contains("port")) return fail(path + ".port", "is missing", "1 to 65535");
    if (auto port = read_into(value, path, "port", 65535, out.port); !port) {
      return tl::unexpected(port.error());
    }
  }
  if (out.kind == ProbeKind::udp) {
    if (auto query = read_query(value, path, out); !query) return tl::unexpected(query.error());
  }
  if (out.kind == ProbeKind::http) {
    out.path = "/";
    if (auto text = read_text_into(value, path, "path", out.path); !text) {
      return tl::unexpected(text.error());
    }
    if (auto text = read_text_into(value, path, "host", out.host); !text) {
      return tl::unexpected(text.error());
    }
  }
  if (auto times = read_times(value, path, out); !times) return tl::unexpected(times.error());
  return out;
}

std::string write_probe(const Probe& probe) {
  if (probe.kind == ProbeKind::none) return "null";
  std::string out = std::string("{\"kind\":\"") + probe_kind_name(probe.kind) + '"';
  if (probe.kind != ProbeKind::icmp) out += number_field("port", probe.port);
  if (probe.kind == ProbeKind::udp) {
    out += std::string(",\"query\":\"") + udp_query_name(probe.query) + '"';
  }
  if (probe.kind == ProbeKind::http) {
    out += ",\"path\":" + json_quoted(probe.path) + ",\"host\":" + json_quoted(probe.host);
  }
  return out + number_field("interval_ms", probe.interval_ms) +
         number_field("timeout_ms", probe.timeout_ms) + number_field("fall", probe.fall) +
         number_field("rise", probe.rise) + '}';
}

}  // namespace guideway
