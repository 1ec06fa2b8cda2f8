// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/answer.h"

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "controlplane/time_text.h"

namespace guideway::cli {
namespace {

// Seconds from now to `time`, whose fraction is left out.
std::optional<int64_t> seconds_until(const std::string& time) {
  constexpr size_t kWholeSeconds = 19;  // 2026-11-23T12:00:00
  if (time.size() <= kWholeSeconds || time.back() != 'Z') return {};
  auto seconds = utc_seconds(time.substr(0, kWholeSeconds) + "Z");
  if (!seconds) return {};
  return *seconds - int64_t{std::time(nullptr)};
}

std::string rough(int64_t seconds) {
  if (seconds < 60) return std::to_string(seconds) + "s";
  if (seconds < 60 * 60) return std::to_string(seconds / 60) + "m";
  if (seconds < 48 * 60 * 60) return std::to_string(seconds / 3600) + "h";
  return std::to_string(seconds / 86400) + "d";
}

}  // namespace

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

std::string age(const std::string& time) {
  auto seconds = seconds_until(time);
  return seconds ? rough(std::max<int64_t>(-*seconds, 0)) : "";
}

std::string time_left(const std::string& time) {
  auto seconds = seconds_until(time);
  return seconds ? rough(std::max<int64_t>(*seconds, 0)) : "";
}

std::string microseconds(uint64_t us) {
  if (us < 1000) return std::to_string(us) + " us";
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, us < 10'000 ? "%.1f ms" : "%.0f ms",
                static_cast<double>(us) / 1000);
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
  for (const char* good : {"up", "ready", "normal"}) {
    if (state == good) return Colour::good;
  }
  for (const char* warning : {"no_weight", "degraded", "draining", "disabled", "unknown"}) {
    if (state == warning) return Colour::warning;
  }
  return Colour::bad;
}

}  // namespace guideway::cli
