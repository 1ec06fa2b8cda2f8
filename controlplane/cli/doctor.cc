// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/doctor.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "controlplane/cli/table.h"

namespace guideway::cli {
namespace {

const char* name_of(Level level) {
  return level == Level::ok ? "ok" : level == Level::warn ? "warn" : "fail";
}

std::array<size_t, 3> count(const Findings& findings) {
  std::array<size_t, 3> counts{};
  for (const Finding& finding : findings) ++counts[static_cast<size_t>(finding.level)];
  return counts;
}

void print_json(const Context& context, const Findings& findings) {
  nlohmann::ordered_json out;
  out["findings"] = nlohmann::ordered_json::array();
  for (const Finding& finding : findings) {
    out["findings"].push_back({{"check", finding.check},
                               {"level", name_of(finding.level)},
                               {"message", finding.message},
                               {"breaks", finding.breaks},
                               {"mend", finding.mend}});
  }
  for (Level level : {Level::ok, Level::warn, Level::fail}) {
    out[name_of(level)] = count(findings)[static_cast<size_t>(level)];
  }
  context.out << out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
}

void print(const Context& context, const Findings& findings) {
  static constexpr Colour kColours[] = {Colour::good, Colour::warning, Colour::bad};
  size_t width = 0;
  for (const Finding& finding : findings) width = std::max(width, finding.check.size());
  std::string indent(8 + width, ' ');
  for (const Finding& finding : findings) {
    std::string level = finding.level == Level::fail ? "FAIL" : name_of(finding.level);
    context.out << painted(level, kColours[static_cast<size_t>(finding.level)], context.colour)
                << std::string(6 - level.size(), ' ') << finding.check
                << std::string(width + 2 - finding.check.size(), ' ')
                << painted(finding.message, Colour::none, false) << '\n';
    if (!finding.breaks.empty()) context.out << indent << "breaks: " << finding.breaks << '\n';
    if (!finding.mend.empty()) context.out << indent << "mend:   " << finding.mend << '\n';
  }
  auto counts = count(findings);
  context.out << '\n'
              << counts[0] << " ok, " << counts[1]
              << (counts[1] == 1 ? " warning, " : " warnings, ") << counts[2]
              << (counts[2] == 1 ? " failure\n" : " failures\n");
}

}  // namespace

int doctor(const Context& context, const std::string& config) {
  return doctor(context, config, Machine::here());
}

int doctor(const Context& context, const std::string& path, const Machine& machine) {
  Findings findings = check_machine(machine);
  Result<NodeConfig> config = NodeConfig::load(path);
  if (config) {
    findings.push_back({Level::ok, "node.toml", path + " is valid", "", ""});
  } else {
    std::string mend = config.error().hint;
    findings.push_back({Level::fail, "node.toml",
                        Error{config.error().field, config.error().message, ""}.text(),
                        "neither daemon starts",
                        mend.empty() ? "edit " + path + "; man guideway-node.toml" : mend});
  }
  std::string socket = context.socket_given || !config ? context.socket : config->control_socket;
  Daemons daemons = check_daemons(machine, socket, Client(socket).get("/v1/status"));
  if (config) {
    for (Finding& finding : check_node(machine, *config, daemons.outer_bytes)) {
      findings.push_back(std::move(finding));
    }
  }
  for (Finding& finding : daemons.findings) findings.push_back(std::move(finding));
  context.json ? print_json(context, findings) : print(context, findings);
  return count(findings)[static_cast<size_t>(Level::fail)] == 0 ? kOk : kRefused;
}

}  // namespace guideway::cli
