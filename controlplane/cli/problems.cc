// SPDX-License-Identifier: Apache-2.0
#include <map>

#include "controlplane/cli/answer.h"
#include "controlplane/cli/status.h"

namespace guideway::cli {
namespace {

constexpr size_t kBackendsNamed = 8;  // of one pool and one state, before the rest is only counted

void dataplane_problems(const Json& status, std::vector<std::string>& out) {
  const Json& dataplane = field(status, "dataplane");
  std::string problem = text(dataplane, "problem");
  if (!truth(dataplane, "connected")) {
    out.push_back("dataplane: not connected" + (problem.empty() ? "" : ": " + problem) +
                  " -> systemctl status guideway-dataplane");
  } else if (!truth(dataplane, "alive")) {
    out.push_back("dataplane: connected, but the heartbeat of its workers stands still" +
                  (problem.empty() ? "" : ": " + problem) +
                  " -> systemctl restart guideway-dataplane");
  } else if (!problem.empty()) {
    out.push_back("dataplane: " + problem);
  }
  if (const Json& refused = field(dataplane, "refused"); refused.is_object()) {
    out.push_back("dataplane: refused generation " + std::to_string(number(refused, "generation")) +
                  ": " + text(refused, "reason"));
  }
  uint64_t wanted = number(status, "revision"), running = number(dataplane, "revision");
  if (truth(dataplane, "connected") && wanted != running) {
    out.push_back("dataplane: runs revision " + std::to_string(running) + ", wanted is " +
                  std::to_string(wanted));
  }
  for (const Json& port : list(field(dataplane, "ports"), "ports")) {
    if (truth(port, "up")) continue;
    std::string interface = text(port, "interface");
    out.push_back("port " + interface + ": down -> ip link set dev " + interface + " up");
  }
}

void service_problems(const Json& status, std::vector<std::string>& out) {
  for (const char* wanted : {"down", "degraded"}) {
    for (const Json& service : list(field(status, "services"), "services")) {
      std::string state = text(service, "state"), reason = text(service, "reason");
      if (state != wanted) continue;
      out.push_back("service " + text(service, "service") + ": " + state + ", pool " +
                    text(service, "pool") + (reason.empty() ? "" : ": " + reason));
    }
  }
}

// A backend without weight is what the operator asked for, and no problem.
void pool_problems(const Json& pool, std::vector<std::string>& out) {
  std::string name = text(pool, "name");
  const Json& backends = list(field(pool, "backends"), "backends");
  if (backends.empty() && number(pool, "services") != 0) {
    out.push_back("pool " + name + ": a service uses it, but it has no backends");
  }
  std::map<std::string, size_t> seen;
  for (const Json& backend : backends) {
    std::string state = text(backend, "state"), reason = text(backend, "reason");
    if (state == "up" || state == "no_weight" || ++seen[state] > kBackendsNamed) continue;
    out.push_back("pool " + name + ": backend " + text(backend, "address") + " " + state +
                  (reason.empty() ? "" : ": " + reason));
  }
  for (const auto& [state, count] : seen) {
    if (count <= kBackendsNamed) continue;
    out.push_back("pool " + name + ": " + std::to_string(count - kBackendsNamed) + " more " +
                  state + ", of " + counted(backends.size(), "backend"));
  }
}

}  // namespace

std::vector<std::string> problems(const Json& status) {
  std::vector<std::string> out;
  dataplane_problems(status, out);
  service_problems(status, out);
  for (const Json& pool : list(field(status, "pools"), "pools")) pool_problems(pool, out);
  return out;
}

}  // namespace guideway::cli
