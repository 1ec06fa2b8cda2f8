// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/answer.h"

#include <cstdio>

namespace guideway::cli {

std::optional<Json> parsed(const Context& context, const Answer& answer, int& exit_code) {
  if (!answer) {
    exit_code = report(context, answer.error());
    return {};
  }
  Json json = Json::parse(*answer, nullptr, false);
  if (json.is_discarded()) {
    exit_code = report(context, {kUnreachable,
                                 0,
                                 {"", "the answer from " + context.socket + " is not JSON",
                                  "is that the socket of guideway-controlplane?"},
                                 ""});
    return {};
  }
  exit_code = kOk;
  return json;
}

std::optional<Json> shown(const Context& context, const Answer& answer, int& exit_code) {
  if (!context.json || !answer) return parsed(context, answer, exit_code);
  context.out << *answer;
  if (answer->empty() || answer->back() != '\n') context.out << '\n';
  exit_code = kOk;
  return {};
}

const Json& field(const Json& object, const char* key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  auto at = object.find(key);
  return at == object.end() ? kNull : *at;
}

std::string text(const Json& object, const char* key) {
  const Json& value = field(object, key);
  return value.is_string() ? value.get<std::string>() : "";
}

uint64_t number(const Json& object, const char* key) {
  const Json& value = field(object, key);
  return value.is_number() ? value.get<uint64_t>() : 0;
}

bool truth(const Json& object, const char* key) {
  const Json& value = field(object, key);
  return value.is_boolean() && value.get<bool>();
}

const Json& list(const Json& object, const char* key) {
  static const Json kNone = Json::array();
  if (object.is_array()) return object;
  const Json& value = field(object, key);
  return value.is_array() ? value : kNone;
}

std::string counted(uint64_t count, const char* singular) {
  return std::to_string(count) + " " + singular + (count == 1 ? "" : "s");
}

std::string share(const Json& object) {
  const Json& value = field(object, "share");
  if (!value.is_number()) return "-";
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.1f %%", value.get<double>() * 100);
  return buffer;
}

std::string next_hop(const Json& hop) {
  if (!hop.is_object()) return "-";
  std::string out = text(hop, "interface");
  if (std::string gateway = text(hop, "gateway"); !gateway.empty()) out += " via " + gateway;
  if (std::string mac = text(hop, "mac"); !mac.empty()) out += ", " + mac;
  if (uint64_t mtu = number(hop, "mtu"); mtu != 0) out += ", MTU " + std::to_string(mtu);
  return out;
}

Colour colour_of(const std::string& state) {
  if (state == "up" || state == "ready") return Colour::good;
  if (state == "no_weight" || state == "degraded") return Colour::warning;
  return Colour::bad;
}

}  // namespace guideway::cli
