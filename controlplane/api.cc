// SPDX-License-Identifier: Apache-2.0
#include "controlplane/api.h"

#include <functional>
#include <future>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "controlplane/intent_change.h"
#include "controlplane/intent_json.h"
#include "controlplane/intent_rules.h"
#include "controlplane/json_text.h"
#include "controlplane/metrics.h"

namespace guideway {
namespace {

HttpReply refusal(int status, const Error& error) {
  return {status, Api::error_body(error)};
}

HttpReply invalid(const Error& error) {
  return refusal(400, error);
}

HttpReply no_such_path(const std::string& path) {
  return refusal(404, Error{"", "there is nothing at " + path.substr(0, 100),
                            "docs/openapi.yaml lists the paths"});
}

HttpReply wrong_method(const std::string& method, const char* allowed) {
  return refusal(405, Error{"", method + " is not possible here", allowed});
}

HttpReply ending() {
  return refusal(503, Error{"", "the control plane is ending", ""});
}

int status_of(Refusal refusal) {
  switch (refusal) {
    case Refusal::not_found:
      return 404;
    case Refusal::conflict:
      return 409;
    case Refusal::invalid:
      break;
  }
  return 400;
}

std::string text_or_null(const std::optional<std::string>& text) {
  return text ? json_quoted(*text) : "null";
}

std::string write_differences(const std::vector<Difference>& items) {
  std::string out = "[";
  for (const Difference& item : items) {
    if (out.size() > 1) out += ',';
    out += std::string("{\"op\":\"") + op_name(item.op) + "\",\"what\":" + json_quoted(item.what) +
           ",\"from\":" + text_or_null(item.from) + ",\"to\":" + text_or_null(item.to) + "}";
  }
  return out + "]";
}

// One request on its way.
class Call {
 public:
  Call(EventLoop& loop, Control& control, const HttpRequest& request,
       std::chrono::milliseconds adoption_timeout)
      : loop_(loop), control_(control), request_(request), adoption_timeout_(adoption_timeout) {}

  HttpReply answer();

 private:
  using Change = std::function<ChangeResult(const Intent&)>;
  // What the loop did about a change.
  struct Outcome {
    std::optional<HttpReply> refused;
    uint64_t revision = 0;
    bool changed = false;
    std::vector<Difference> differences;
    Adoption adoption;
    std::future<void> adopted;
  };

  HttpReply pools(std::string_view rest);
  HttpReply one_pool(const std::string& name);
  HttpReply one_backend(const std::string& pool, std::string_view text);
  HttpReply one_service(const ServiceKey& key);
  HttpReply whole_intent();
  HttpReply explain();

  std::optional<HttpReply> read_query(std::initializer_list<std::string_view> known);
  std::string query(const std::string& name) const;
  bool is_get() const { return request_.method == "GET" || request_.method == "HEAD"; }
  bool wants(const char* method) const { return request_.method == method; }

  HttpReply with_status(const std::function<HttpReply(const Status&)>& write);
  HttpReply change(const std::string& what, const Change& apply, bool show_differences = false,
                   bool dry_run = false);
  Outcome change_in_loop(const std::string& what, const Change& apply, bool show_differences,
                         bool dry_run);
  std::optional<HttpReply> read_change_query(std::initializer_list<std::string_view> more = {});

  EventLoop& loop_;
  Control& control_;
  const HttpRequest& request_;
  std::chrono::milliseconds adoption_timeout_;
  bool wait_ = false;
};

HttpReply Call::answer() {
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

HttpReply Call::pools(std::string_view rest) {
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

HttpReply Call::one_pool(const std::string& name) {
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

HttpReply Call::one_backend(const std::string& pool, std::string_view text) {
  std::optional<Address> address = Address::parse(text);
  if (!address) {
    return invalid(Error{json_path("pools." + pool + ".backends", text),
                         "is not an IPv4 or IPv6 address", "like 10.0.0.21 or fd00::21"});
  }
  const std::string what = "backend " + pool + " " + address->text();
  if (wants("PUT")) {
    if (auto refused = read_change_query()) return *refused;
    auto weight = read_wanted_backend(request_.body, pool, *address);
    if (!weight) return invalid(weight.error());
    return change(
        what, [&](const Intent& before) { return put_backend(before, pool, *address, *weight); });
  }
  if (wants("DELETE")) {
    if (auto refused = read_change_query()) return *refused;
    return change("remove " + what,
                  [&](const Intent& before) { return remove_backend(before, pool, *address); });
  }
  return wrong_method(request_.method, "PUT or DELETE");
}

HttpReply Call::one_service(const ServiceKey& key) {
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

HttpReply Call::whole_intent() {
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

HttpReply Call::explain() {
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

// Each known parameter at most once, and no other.
std::optional<HttpReply> Call::read_query(std::initializer_list<std::string_view> known) {
  for (const auto& [name, value] : request_.query) {
    bool is_known = false;
    for (std::string_view one : known) is_known = is_known || one == name;
    if (!is_known) return invalid(Error{json_path("", name), "unknown query parameter", ""});
    if (request_.query.count(name) > 1) return invalid(Error{name, "is given twice", ""});
  }
  return {};
}

std::optional<HttpReply> Call::read_change_query(std::initializer_list<std::string_view> more) {
  HttpRequest rest = {request_.method, request_.path, request_.query, {}, {}};
  auto [begin, end] = request_.query.equal_range("wait");
  if (begin != end) {
    if (std::next(begin) != end) return invalid(Error{"wait", "is given twice", ""});
    if (begin->second != "adopted") {
      return invalid(Error{"wait", "must be adopted, got " + json_quoted(begin->second), ""});
    }
    wait_ = true;
    rest.query.erase("wait");
  }
  return Call(loop_, control_, rest, adoption_timeout_).read_query(more);
}

std::string Call::query(const std::string& name) const {
  auto found = request_.query.find(name);
  return found == request_.query.end() ? "" : found->second;
}

HttpReply Call::with_status(const std::function<HttpReply(const Status&)>& write) {
  auto status = loop_.call([&] { return control_.status(); });
  return status ? write(*status) : ending();
}

Call::Outcome Call::change_in_loop(const std::string& what, const Change& apply,
                                   bool show_differences, bool dry_run) {
  Outcome out;
  std::shared_ptr<const Intent> before = control_.intent();
  ChangeResult after = apply(*before);
  if (!after) {
    out.refused = refusal(status_of(after.error().refusal), after.error().error);
    return out;
  }
  if (show_differences) out.differences = differences(*before, *after);
  bool differs = !(*after == *before);
  if (differs && !dry_run) {
    if (auto done = control_.commit(std::move(*after), request_.peer, what); !done) {
      out.refused = refusal(500, done.error());
      return out;
    }
    out.changed = true;
  }
  out.revision = control_.intent()->revision;
  out.adoption = control_.adoption();
  if (wait_ && !dry_run && out.adoption.revision < out.revision) {
    out.adopted = control_.adopted(out.revision);
  }
  return out;
}

HttpReply Call::change(const std::string& what, const Change& apply, bool show_differences,
                       bool dry_run) {
  auto outcome = loop_.call([&] { return change_in_loop(what, apply, show_differences, dry_run); });
  if (!outcome) return ending();
  if (outcome->refused) return *outcome->refused;
  if (outcome->adopted.valid()) {
    outcome->adopted.wait_for(adoption_timeout_);
    auto adoption = loop_.call([&] { return control_.adoption(); });
    if (adoption) outcome->adoption = *adoption;
  }
  std::string body =
      "{\"revision\":" + std::to_string(outcome->revision) +
      ",\"changed\":" + (outcome->changed ? "true" : "false") + ",\"adopted\":" +
      (outcome->adoption.revision >= outcome->revision && outcome->adoption.generation != 0
           ? "true"
           : "false") +
      ",\"generation\":" + std::to_string(outcome->adoption.generation);
  if (show_differences) body += ",\"differences\":" + write_differences(outcome->differences);
  return {200, body + "}"};
}

}  // namespace

Api::Api(EventLoop& loop, Control& control, std::chrono::milliseconds adoption_timeout)
    : loop_(loop), control_(control), adoption_timeout_(adoption_timeout) {}

HttpReply Api::handle(const HttpRequest& request) {
  HttpReply reply = Call(loop_, control_, request, adoption_timeout_).answer();
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
