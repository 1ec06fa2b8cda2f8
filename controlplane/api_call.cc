// SPDX-License-Identifier: Apache-2.0
// What the requests of api.cc have in common: queries, the status, and changes.
#include "controlplane/api_call.h"

#include <charconv>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "controlplane/json_text.h"
#include "controlplane/pool_plan.h"

namespace guideway {
namespace {

int status_of(Refusal refusal) {
  switch (refusal) {
    case Refusal::not_found:
      return 404;
    case Refusal::conflict:
      return 409;
    case Refusal::not_stored:
      return 500;
    case Refusal::unavailable:
      return 503;
    case Refusal::unsure:
      return 504;
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

}  // namespace

// Each known parameter at most once, and no other.
std::optional<HttpReply> ApiCall::read_query(std::initializer_list<std::string_view> known) {
  for (const auto& [name, value] : request_.query) {
    bool is_known = false;
    for (std::string_view one : known) is_known = is_known || one == name;
    if (!is_known) return invalid(Error{json_path("", name), "unknown query parameter", ""});
    if (request_.query.count(name) > 1) return invalid(Error{name, "is given twice", ""});
  }
  return {};
}

std::optional<HttpReply> ApiCall::read_change_query(std::initializer_list<std::string_view> more) {
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
  if (const auto force = request_.query.equal_range("force"); force.first != force.second) {
    if (std::next(force.first) != force.second)
      return invalid(Error{"force", "is given twice", ""});
    if (force.first->second != "0" && force.first->second != "1")
      return invalid(Error{"force", "must be 0 or 1, got " + json_quoted(force.first->second), ""});
    force_ = force.first->second == "1";
    rest.query.erase("force");
  }
  return ApiCall(loop_, control_, rest, adoption_timeout_, now_).read_query(more);
}

std::string ApiCall::query(const std::string& name) const {
  auto found = request_.query.find(name);
  return found == request_.query.end() ? "" : found->second;
}

Result<uint64_t> ApiCall::query_number(const std::string& name, uint64_t least, uint64_t most,
                                       uint64_t absent) const {
  auto found = request_.query.find(name);
  if (found == request_.query.end()) return absent;
  const std::string& text = found->second;
  uint64_t value = 0;
  auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool good = error == std::errc() && stop == text.data() + text.size() && !text.empty();
  if (good && value >= least && value <= most) return value;
  return fail(name, "must be " + std::to_string(least) + " to " + std::to_string(most) + ", got " +
                        (good ? text : json_shown(text)));
}

HttpReply ApiCall::with_status(const std::function<HttpReply(const Status&)>& write) {
  auto status = loop_.call([&] { return control_.status(); });
  return status ? write(*status) : ending();
}

ApiCall::Outcome ApiCall::outcome_of(const Store::ChangeOutcome& outcome, bool show_differences) {
  Outcome out;
  if (!outcome) {
    out.refused = refusal(status_of(outcome.error().refusal), outcome.error().error);
    return out;
  }
  if (show_differences) out.differences = differences(*outcome->before, *outcome->after);
  out.changed = outcome->after != outcome->before;
  out.revision = outcome->after->revision;
  out.adoption = control_.adoption();
  if (wait_ && out.adoption.revision < out.revision) out.adopted = control_.adopted(out.revision);
  return out;
}

ApiCall::Outcome ApiCall::try_change(const Store::Change& apply) {
  const std::shared_ptr<const Intent> before = control_.intent();
  ChangeResult after = apply(*before);
  Outcome out;
  if (!after) {
    out.refused = refusal(status_of(after.error().refusal), after.error().error);
    return out;
  }
  out.differences = differences(*before, *after);
  out.revision = before->revision;
  out.adoption = control_.adoption();
  return out;
}

// Planned changes that this one asks for, or that wait, shall not wait any longer.
ChangeResult ApiCall::forced(const Intent& before, const Store::Change& apply) {
  ChangeResult after = apply(before);
  if (!after) return after;
  follow_plans(*after, before);
  for (auto& [name, pool] : after->pools) {
    if (!has_steps(pool)) continue;
    PlanStep step = guideway::step(*pool.plan, Force{}, before.revision + 1);
    if (step.changed) pool.plan = std::move(step.plan);
  }
  return after;
}

// Waits for the store: what is given by reference lives long enough.
std::optional<ApiCall::Outcome> ApiCall::order_change(const std::string& what,
                                                      const Store::Change& apply,
                                                      bool show_differences) {
  // The promise breaks with the store, or with the loop.
  auto promise = std::make_shared<std::promise<Outcome>>();
  std::future<Outcome> future = promise->get_future();
  loop_.post([&, promise = std::exchange(promise, nullptr)] {
    Store::Change wanted = apply;
    if (force_) wanted = [this, &apply](const Intent& before) { return forced(before, apply); };
    control_.change(std::move(wanted), request_.peer, what,
                    [this, show_differences, promise](const Store::ChangeOutcome& outcome) {
                      promise->set_value(outcome_of(outcome, show_differences));
                    });
  });
  try {
    return future.get();
  } catch (const std::future_error&) {
    return {};
  }
}

HttpReply ApiCall::change(const std::string& what, const Store::Change& apply,
                          bool show_differences, bool dry_run) {
  auto outcome = dry_run ? loop_.call([&] { return try_change(apply); })
                         : order_change(what, apply, show_differences);
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

}  // namespace guideway
