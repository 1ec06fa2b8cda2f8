// SPDX-License-Identifier: Apache-2.0
// /v1/node: this node in service or out of it.
#include <nlohmann/json.hpp>

#include "controlplane/api_call.h"
#include "controlplane/json_text.h"

namespace guideway {
namespace {

std::string write(const NodeModeStatus& mode) {
  return "{" + write_node_mode_fields(mode) + "}";
}

constexpr const char* kModes = "must be normal or drained";

// Whether to drain.
Result<bool> read_wanted_mode(const std::string& body) {
  auto json = parse_json(body, "");
  if (!json) return tl::unexpected(json.error());
  for (const auto& [key, value] : json->items()) {
    if (key != "mode") return fail(json_path("", key), "unknown key", "known here: mode");
  }
  if (!json->contains("mode")) return fail("mode", "is missing", kModes);
  const auto& mode = (*json)["mode"];
  if (mode == "normal") return false;
  if (mode == "drained") return true;
  return fail("mode", std::string(kModes) + ", got " + json_shown(mode));
}

}  // namespace

HttpReply ApiCall::node() {
  if (auto refused = read_query({})) return *refused;
  if (is_get()) {
    auto mode = loop_.call([&] { return control_.node_mode(); });
    return mode ? HttpReply{200, write(*mode)} : ending();
  }
  if (!wants("PUT")) {
    return refusal(405, Error{"", request_.method + " is not possible here", "GET or PUT"});
  }
  auto drained = read_wanted_mode(request_.body);
  if (!drained) return invalid(drained.error());
  struct Outcome {
    Result<void> done;
    NodeModeStatus mode;
  };
  auto outcome = loop_.call([&] {
    auto done = control_.set_drained(*drained);
    return Outcome{done, control_.node_mode()};
  });
  if (!outcome) return ending();
  if (!outcome->done) return refusal(500, outcome->done.error());
  return {200, write(outcome->mode)};
}

}  // namespace guideway
