// SPDX-License-Identifier: Apache-2.0
#include "controlplane/node_report.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "controlplane/json_text.h"

namespace guideway {

std::string write_report(const NodeReport& report) {
  return "{\"id\":" + json_quoted(report.id) + ",\"version\":" + json_quoted(report.version) +
         ",\"intent\":" + std::to_string(report.intent) +
         ",\"revision\":" + std::to_string(report.revision) +
         ",\"generation\":" + std::to_string(report.generation) +
         ",\"digest\":" + std::to_string(report.digest) + "}";
}

Result<NodeReport> read_report(const std::string& text) {
  auto object = parse_json(text, "");
  if (!object) return tl::unexpected(object.error());
  NodeReport out;
  for (const auto& [field, into] : {std::pair("id", &out.id), std::pair("version", &out.version)}) {
    const auto value = object->find(field);
    if (value == object->end() || !value->is_string()) return fail(field, "must be a string");
    *into = value->get<std::string>().substr(0, 100);
  }
  for (const auto& [field, into] :
       {std::pair("intent", &out.intent), std::pair("revision", &out.revision),
        std::pair("generation", &out.generation), std::pair("digest", &out.digest)}) {
    const auto value = object->find(field);
    if (value == object->end()) return fail(field, "is missing");
    auto number = json_number(*value, field, 0, std::numeric_limits<uint64_t>::max());
    if (!number) return tl::unexpected(number.error());
    *into = *number;
  }
  return out;
}

}  // namespace guideway
