// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/pool_settings.h"

#include <charconv>
#include <functional>
#include <system_error>

#include "controlplane/cli/answer.h"
#include "controlplane/cli/pool_view.h"
#include "controlplane/intent_change.h"
#include "controlplane/probe_json.h"
#include "controlplane/time_text.h"

namespace guideway::cli {
namespace {

std::string hold_words(uint64_t seconds) {
  return seconds == 0 ? "for ever" : duration_text(seconds * 1000);
}

std::string slow_start_words(uint64_t ms) {
  return ms == 0 ? "none" : duration_text(ms);
}

// "http:8080/healthz" as {"kind":"http","port":8080,"path":"/healthz"}.
Result<Json> parse_probe(const std::string& text) {
  if (text == "none" || text == "icmp") return Json{{"kind", text}};
  auto wrong = [&] { return fail("", "'" + text + "' is none of " + kProbeForms); };
  const size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  if (colon == std::string::npos || (kind != "tcp" && kind != "udp" && kind != "http")) {
    return wrong();
  }
  uint64_t port = 0;
  const char* end = text.data() + text.size();
  auto [stop, error] = std::from_chars(text.data() + colon + 1, end, port);
  if (error != std::errc()) return wrong();
  Json probe = {{"kind", kind}, {"port", port}};
  if (stop == end) return probe;
  if (kind != "http" || *stop != '/') return wrong();
  probe["path"] = std::string(stop, end);
  return probe;
}

void set_details(const PoolSettings& settings, Json& probe) {
  if (settings.probe_interval_ms) probe["interval_ms"] = *settings.probe_interval_ms;
  if (settings.probe_timeout_ms) probe["timeout_ms"] = *settings.probe_timeout_ms;
  if (settings.fall) probe["fall"] = *settings.fall;
  if (settings.rise) probe["rise"] = *settings.rise;
  if (!settings.probe_query.empty()) probe["query"] = settings.probe_query;
  if (settings.probe_host) probe["host"] = *settings.probe_host;
}

using Add = std::function<void(const std::string&, const std::string&, const std::string&)>;

// Of a probe of another kind all of it, else what is another.
void probe_changes(const Json& before, const Json& after, const Add& add) {
  auto from = read_probe(before, ""), to = read_probe(after, "");
  if (!from || !to || from->kind != to->kind) {
    add("probe", probe_words(before), probe_words(after));
    return;
  }
  add("probe port", std::to_string(from->port), std::to_string(to->port));
  add("probe path", from->path, to->path);
  add("probe host", from->host.empty() ? "none" : from->host, to->host.empty() ? "none" : to->host);
  add("probe query", udp_query_name(from->query), udp_query_name(to->query));
  add("probe interval", duration_text(from->interval_ms), duration_text(to->interval_ms));
  add("probe time-out", duration_text(from->timeout_ms), duration_text(to->timeout_ms));
  add("fall", std::to_string(from->fall), std::to_string(to->fall));
  add("rise", std::to_string(from->rise), std::to_string(to->rise));
}

}  // namespace

Result<void> check_probe_form(const std::string& text) {
  auto probe = parse_probe(text);
  if (!probe) return tl::unexpected(probe.error());
  return {};
}

Result<Json> pool_body(const PoolSettings& settings, const Json& before, const std::string& name) {
  Json body = Json::object();
  if (!settings.forwarding.empty()) body["forwarding"] = settings.forwarding;
  if (settings.table_slots) body["table_slots"] = *settings.table_slots;
  if (settings.slow_start_ms) body["slow_start_ms"] = *settings.slow_start_ms;
  if (settings.hold_ms) body["hold_s"] = (*settings.hold_ms + 999) / 1000;
  if (settings.probe.empty() && !settings.probe_details()) return body;
  Json probe = field(before, "probe");
  if (!settings.probe.empty()) {
    auto parsed = parse_probe(settings.probe);
    if (!parsed) return parsed;
    probe = std::move(*parsed);
  } else if (!probe.is_object()) {
    return fail("pools." + name + ".probe", "there is none whose details could be set",
                std::string("say which: --probe ") + kProbeForms);
  }
  set_details(settings, probe);
  body["probe"] = std::move(probe);
  return body;
}

std::string pool_changes(const Json& before, const Json& body) {
  std::string out;
  auto add = [&](const std::string& what, const std::string& from, const std::string& to) {
    if (from == to) return;
    out += (out.empty() ? "" : "; ") + what + " " + from + " -> " + to;
  };
  if (body.contains("forwarding")) {
    add("forwarding", text(before, "forwarding"), text(body, "forwarding"));
  }
  if (body.contains("table_slots")) {
    add("table slots", std::to_string(number(before, "table_slots")), body["table_slots"].dump());
  }
  if (body.contains("probe")) {
    probe_changes(field(before, "probe"), body["probe"], add);
  }
  if (body.contains("slow_start_ms")) {
    add("slow start", slow_start_words(number(before, "slow_start_ms")),
        slow_start_words(number(body, "slow_start_ms")));
  }
  if (body.contains("hold_s")) {
    add("hold", hold_words(number(before, "hold_s")), hold_words(number(body, "hold_s")));
  }
  return out;
}

}  // namespace guideway::cli
