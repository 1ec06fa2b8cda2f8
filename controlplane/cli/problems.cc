// SPDX-License-Identifier: Apache-2.0
#include <map>

#include "controlplane/cli/answer.h"
#include "controlplane/cli/cluster.h"
#include "controlplane/cli/pool_view.h"
#include "controlplane/cli/status.h"

namespace guideway::cli {
namespace {

constexpr size_t kBackendsNamed = 8;  // of one pool and one state, before the rest is only counted

// ": REASON", or nothing.
std::string reason_of(const Json& object) {
  std::string reason = text(object, "reason");
  return reason.empty() ? "" : ": " + reason;
}

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
    std::string name = text(port, "interface");
    std::string line = "port " + name;
    line += ": down -> ip link set dev " + name;
    out.push_back(line += " up");
  }
}

// A node that its operator takes out of service is no problem, but must not be forgotten either.
void announce_problems(const Json& status, std::vector<std::string>& out) {
  const Json& node = field(status, "node");
  if (text(node, "mode") == "drained") {
    out.push_back("node: " + text(node, "state") + " -> guideway node enable");
    return;
  }
  for (const Json& vip : list(field(status, "vips"), "vips")) {
    if (text(vip, "announce") == "normal" || text(vip, "announce").empty()) continue;
    std::string line = "VIP " + text(vip, "vip");
    line += ": announcement " + text(vip, "announce");
    out.push_back(line += reason_of(vip));
  }
}

void service_problems(const Json& status, std::vector<std::string>& out) {
  for (const char* wanted : {"down", "degraded"}) {
    for (const Json& service : list(field(status, "services"), "services")) {
      if (text(service, "state") != wanted) continue;
      std::string line = "service " + text(service, "service");
      line += std::string(": ") + wanted;
      line += ", pool " + text(service, "pool");
      out.push_back(line += reason_of(service));
    }
  }
}

// Those come before services: they are why.
void alarms(const Json& status, std::vector<std::string>& out) {
  for (const Json& pool : list(field(status, "pools"), "pools")) {
    std::string name = alarm(pool);
    if (name.empty()) continue;
    std::string line = "pool " + text(pool, "name");
    line += ": " + name;
    out.push_back(line += reason_of(field(pool, "health")));
  }
}

// What the operator asked for is no problem.
bool is_by_order(const std::string& state) {
  return state == "no_weight" || state == "draining" || state == "disabled";
}

void pool_problems(const Json& pool, std::vector<std::string>& out) {
  std::string name = text(pool, "name");
  const Json& backends = list(field(pool, "backends"), "backends");
  if (backends.empty() && number(pool, "services") != 0) {
    out.push_back("pool " + name + ": a service uses it, but it has no backends");
  }
  std::map<std::string, size_t> seen;
  for (const Json& backend : backends) {
    std::string state = text(backend, "state");
    const std::string where = where_down(backend);
    if (is_by_order(state) || (state == "up" && where.empty())) continue;
    if (state == "up") state = "up here";
    if (++seen[state] > kBackendsNamed) continue;
    std::string line = "pool " + name;
    line += ": backend " + text(backend, "address") + " ";
    if (state != "down" || where.empty()) line += state + (where.empty() ? "" : ", ");
    line += where;
    out.push_back(line += state == "up here" ? "" : reason_of(backend));
  }
  for (const auto& [state, count] : seen) {
    if (count <= kBackendsNamed) continue;
    std::string line = "pool " + name;
    line += ": " + std::to_string(count - kBackendsNamed);
    line += " more " + state;
    out.push_back(line += ", of " + counted(backends.size(), "backend"));
  }
}

}  // namespace

std::vector<std::string> problems(const Json& status) {
  std::vector<std::string> out;
  dataplane_problems(status, out);
  cluster_problems(status, out);
  alarms(status, out);
  announce_problems(status, out);
  service_problems(status, out);
  for (const Json& pool : list(field(status, "pools"), "pools")) pool_problems(pool, out);
  return out;
}

}  // namespace guideway::cli
