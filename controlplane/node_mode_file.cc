// SPDX-License-Identifier: Apache-2.0
#include "controlplane/node_mode_file.h"

#include <nlohmann/json.hpp>

#include "controlplane/durable_file.h"
#include "controlplane/json_text.h"

namespace guideway {
namespace {

constexpr size_t kBytesMax = 4096;

tl::unexpected<Error> damaged(const std::string& path, const std::string& why) {
  return fail(path, "is damaged: " + why,
              "write {\"mode\":\"normal\"} or {\"mode\":\"drained\"} to it, or remove it");
}

}  // namespace

Result<NodeMode> NodeModeFile::load() const {
  auto text = read_file(path_, kBytesMax);
  if (!text) return tl::unexpected(text.error());
  if (!*text) return NodeMode::normal;
  auto json = parse_json(**text, "");
  if (!json) return damaged(path_, json.error().text());
  if (!json->is_object() || json->size() != 1 || !json->contains("mode")) {
    return damaged(path_, "it must hold \"mode\" and nothing else");
  }
  for (NodeMode mode : {NodeMode::normal, NodeMode::draining, NodeMode::drained}) {
    if ((*json)["mode"] == node_mode_name(mode)) return mode;
  }
  return damaged(path_, "mode must be normal, draining or drained");
}

Result<void> NodeModeFile::save(NodeMode mode) const {
  return replace_file(path_, std::string("{\"mode\":\"") + node_mode_name(mode) + "\"}\n");
}

}  // namespace guideway
