// SPDX-License-Identifier: Apache-2.0
// /v1/cluster: this node a member of its cluster, or alone.
#include <future>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "controlplane/api_call.h"
#include "controlplane/json_text.h"

namespace guideway {
namespace {

constexpr const char* kStates = "must be true or false";

Result<bool> read_wanted_member(const std::string& body) {
  auto json = parse_json(body, "");
  if (!json) return tl::unexpected(json.error());
  for (const auto& [key, value] : json->items())
    if (key != "member") return fail(json_path("", key), "unknown key", "known here: member");
  if (!json->contains("member")) return fail("member", "is missing", kStates);
  const auto& member = (*json)["member"];
  if (!member.is_boolean())
    return fail("member", std::string(kStates) + ", got " + json_shown(member));
  return member.get<bool>();
}

}  // namespace

HttpReply ApiCall::cluster() {
  if (auto refused = read_query({})) return *refused;
  if (is_get()) {
    return with_status([](const Status& all) { return HttpReply{200, write_cluster(all)}; });
  }
  if (!wants("PUT"))
    return refusal(405, Error{"", request_.method + " is not possible here", "GET or PUT"});
  auto member = read_wanted_member(request_.body);
  if (!member) return invalid(member.error());
  auto promise = std::make_shared<std::promise<Result<void>>>();
  std::future<Result<void>> future = promise->get_future();
  loop_.post([&, promise = std::exchange(promise, nullptr)] {
    if (!*member) return promise->set_value(control_.leave_cluster());
    control_.join_cluster([promise](Result<void> done) { promise->set_value(std::move(done)); });
  });
  try {
    if (auto done = future.get(); !done) return refusal(503, done.error());
  } catch (const std::future_error&) {
    return ending();
  }
  return with_status([](const Status& all) { return HttpReply{200, write_cluster(all)}; });
}

}  // namespace guideway
