// SPDX-License-Identifier: Apache-2.0
#include "controlplane/api.h"

#include <ctime>
#include <functional>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "controlplane/api_call.h"
#include "controlplane/intent_change.h"
#include "controlplane/intent_json.h"
#include "controlplane/intent_rules.h"
#include "controlplane/json_text.h"
#include "controlplane/metrics.h"

namespace guideway {
namespace {

constexpr uint64_t kEventsAtOnce = 100;
constexpr uint64_t kEventsAtOnceMax = 10'000;  // as many as are kept

HttpReply no_such_path(const std::string& path) {
  return refusal(404, Error{"", "there is nothing at " + path.substr(0, 100),
                            "docs/openapi.yaml lists the paths"});
}

HttpReply wrong_method(const std::string& method, const char* allowed) {
  return refusal(405, Error{"", method + " is not possible here", allowed});
}

}  // namespace

HttpReply ApiCall::answer() {
  const std::string& path = request_.path;
  static constexpr std::string_view kPools = "/v1/pools/";
  static constexpr std::string_view kServices = "/v1/services/";
  auto only_get = [&](const std::function<HttpReply()>& get) {
    if (!is_get()) return wrong_method(request_.method, "GET");
    auto refused = read_query({});
    return refused ? *refused : get();
  };
  if (path == "/v1/status") {
    return only_get([&] {
      return with_status([](const Status& all) { return HttpReply{200, write_status(all)}; });
    });
  }
  if (path == "/metrics") {
    return only_get([&] {
      return with_status([](const Status& all) {
        return HttpReply{200, write_metrics(all), kMetricsType};
      });
    });
  }
  if (path == "/v1/pools") {
    return only_get([&] {
      return with_status([](const Status& all) { return HttpReply{200, write_pools(all.pools)}; });
    });
  }
  if (path == "/v1/services") {
    return only_get([&] {
      return with_status([](const Status& all) {
        return HttpReply{200, write_services(all.services)};
      });
    });
  }
  if (path == "/v1/intent") return whole_intent();
  if (path == "/v1/explain") return explain();
  if (path == "/v1/events") return events();
  if (path == "/v1/node") return node();
  if (path == "/v1/cluster") return cluster();
  if (path.starts_with(kPools)) return pools(std::string_view(path).substr(kPools.size()));
  if (path.starts_with(kServices)) {
    auto key = ServiceKey::parse(std::string_view(path).substr(kServices.size()));
    if (!key) {
      return invalid(
          Error{json_path("services", key.error().field), key.error().message, key.error().hint});
    }
    return one_service(*key);
  }
  return no_such_path(path);
}

HttpReply ApiCall::pools(std::string_view rest) {
  size_t slash = rest.find('/');
  const std::string name(rest.substr(0, slash));
  if (!is_pool_name(name)) {
    return invalid(Error{json_path("pools", name),
                         "a pool name is 1 to 63 of A-Z a-z 0-9 _ . -, a letter or digit first",
                         ""});
  }
  if (slash == std::string_view::npos) return one_pool(name);
  static constexpr std::string_view kBackends = "/backends/";
  if (!rest.substr(slash).starts_with(kBackends)) return no_such_path(request_.path);
  return one_backend(name, rest.substr(slash + kBackends.size()));
}

HttpReply ApiCall::one_pool(const std::string& name) {
  if (is_get()) {
    if (auto refused = read_query({})) return *refused;
    return with_status([&](const Status& all) {
      for (const PoolStatus& pool : all.pools) {
        if (pool.name == name) return HttpReply{200, write_pool(pool)};
      }
      return refusal(404, Error{"pools." + name, "there is no such pool", ""});
    });
  }
  if (wants("PUT")) {
    if (auto refused = read_change_query()) return *refused;
    auto wanted = read_wanted_pool(request_.body, name);
    if (!wanted) return invalid(wanted.error());
    return change("pool " + name,
                  [&](const Intent& before) { return put_pool(before, name, *wanted); });
  }
  if (wants("DELETE")) {
    if (auto refused = read_change_query()) return *refused;
    return change("remove pool " + name,
                  [&](const Intent& before) { return remove_pool(before, name); });
  }
  return wrong_method(request_.method, "GET, PUT or DELETE");
}

HttpReply ApiCall::one_backend(const std::string& pool, std::string_view text) {
  std::optional<Address> address = Address::parse(text);
  if (!address) {
    return invalid(Error{json_path("pools." + pool + ".backends", text),
                         "is not an IPv4 or IPv6 address", "like 10.0.0.21 or fd00::21"});
  }
  const std::string what = "backend " + pool + " " + address->text();
  if (wants("PUT")) {
    if (auto refused = read_change_query()) return *refused;
    auto wanted = read_wanted_backend(request_.body, pool, *address, now_);
    if (!wanted) return invalid(wanted.error());
    const std::string order = wanted->mode ? mode_name(*wanted->mode) + (" " + what) : what;
    return change(
        order, [&](const Intent& before) { return put_backend(before, pool, *address, *wanted); });
  }
  if (wants("DELETE")) {
    if (auto refused = read_change_query()) return *refused;
    return change("remove " + what,
                  [&](const Intent& before) { return remove_backend(before, pool, *address); });
  }
  return wrong_method(request_.method, "PUT or DELETE");
}

HttpReply ApiCall::one_service(const ServiceKey& key) {
  if (is_get()) {
    if (auto refused = read_query({})) return *refused;
    return with_status([&](const Status& all) {
      for (const ServiceStatus& service : all.services) {
        if (service.key == key) return HttpReply{200, write_service(service)};
      }
      return refusal(404, Error{"services." + key.text(), "there is no such service", ""});
    });
  }
  if (wants("PUT")) {
    if (auto refused = read_change_query()) return *refused;
    auto service = read_wanted_service(request_.body, key);
    if (!service) return invalid(service.error());
    return change("service " + key.text(),
                  [&](const Intent& before) { return put_service(before, key, *service); });
  }
  if (wants("DELETE")) {
    if (auto refused = read_change_query()) return *refused;
    return change("remove service " + key.text(),
                  [&](const Intent& before) { return remove_service(before, key); });
  }
  return wrong_method(request_.method, "GET, PUT or DELETE");
}

HttpReply ApiCall::whole_intent() {
  if (is_get()) {
    if (auto refused = read_query({})) return *refused;
    auto intent = loop_.call([&] { return control_.intent(); });
    return intent ? HttpReply{200, write_intent(**intent)} : ending();
  }
  if (!wants("PUT")) return wrong_method(request_.method, "GET or PUT");
  if (auto refused = read_change_query({"dry_run"})) return *refused;
  const std::string dry_run = query("dry_run");
  if (!dry_run.empty() && dry_run != "0" && dry_run != "1") {
    return invalid(Error{"dry_run", "must be 0 or 1, got " + json_quoted(dry_run), ""});
  }
  auto wanted = read_wanted_intent(request_.body);
  if (!wanted) return invalid(wanted.error());
  return change(
      "intent", [&](const Intent& before) { return replace_intent(before, *wanted); }, true,
      dry_run == "1");
}

HttpReply ApiCall::explain() {
  if (!is_get()) return wrong_method(request_.method, "GET");
  if (auto refused = read_query({"client", "service"})) return *refused;
  auto client = Endpoint::parse(query("client"));
  if (!client) return invalid(client.error());
  auto service = ServiceKey::parse(query("service"));
  if (!service) return invalid(Error{"service", service.error().message, service.error().hint});
  struct Found {
    Result<Explanation> explanation;
    bool known;
  };
  auto found = loop_.call([&] {
    const Intent& intent = *control_.intent();
    ServiceKey all_ports = *service;
    all_ports.port = 0;
    bool known = intent.services.count(*service) != 0 || intent.services.count(all_ports) != 0;
    return Found{control_.explain_flow(*client, *service), known};
  });
  if (!found) return ending();
  if (!found->explanation) return refusal(found->known ? 400 : 404, found->explanation.error());
  return {200, write_explanation(*found->explanation)};
}

HttpReply ApiCall::events() {
  if (!is_get()) return wrong_method(request_.method, "GET");
  if (auto refused = read_query({"since", "limit"})) return *refused;
  auto since = query_number("since", 0, std::numeric_limits<uint64_t>::max(), 0);
  if (!since) return invalid(since.error());
  auto limit = query_number("limit", 1, kEventsAtOnceMax, kEventsAtOnce);
  if (!limit) return invalid(limit.error());
  auto body = loop_.call([&] { return control_.events_json(*since, *limit); });
  return body ? HttpReply{200, *body} : ending();
}

Api::Api(EventLoop& loop, Control& control, std::chrono::milliseconds adoption_timeout, Clock clock)
    : loop_(loop),
      control_(control),
      adoption_timeout_(adoption_timeout),
      clock_(clock != nullptr ? clock : [] { return int64_t{std::time(nullptr)}; }) {}

HttpReply Api::handle(const HttpRequest& request) {
  HttpReply reply = ApiCall(loop_, control_, request, adoption_timeout_, clock_()).answer();
  if (reply.type == HttpReply{}.type) reply.body += '\n';
  return reply;
}

std::string Api::error_body(const Error& error) {
  return "{\"error\":{\"field\":" + json_quoted(error.field) +
         ",\"message\":" + json_quoted(error.message) + ",\"hint\":" + json_quoted(error.hint) +
         "}}";
}

std::string Api::http_error_body(int status) {
  auto body = [](const char* message, const char* hint = "") {
    return error_body(Error{"", message, hint}) + "\n";
  };
  switch (status) {
    case 400:
      return body("malformed or unsupported HTTP request");
    case 404:
      return body("there is nothing at this path", "docs/openapi.yaml lists the paths");
    case 408:
      return body("the request took too long");
    case 413:
      return body("the body is over 8 MiB");
    case 414:
      return body("the request's path is too long");
    case 416:
      return body("ranges are not supported");
    case 431:
      return body("the request's head is over 64 KiB");
    case 503:
      return body("too many clients at once", "try again");
    default:
      return body("the request failed");
  }
}

}  // namespace guideway
