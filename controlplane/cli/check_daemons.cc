// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <set>

#include "bpf/gue.h"
#include "controlplane/cli/answer.h"
#include "controlplane/cli/finding.h"

namespace guideway::cli {
namespace {

// The VIP of "203.0.113.10:443/tcp" or "[2001:db8::10]:443/tcp".
std::optional<Address> vip_of(const std::string& service) {
  if (service.rfind('[', 0) == 0) return Address::parse(service.substr(1, service.find(']') - 1));
  return Address::parse(service.substr(0, service.find_first_of(":/")));
}

void check_vips(const Machine& machine, const Json& status, Findings& out) {
  std::set<Address> vips;
  for (const Json& service : list(field(status, "services"), "services")) {
    if (auto vip = vip_of(text(service, "service"))) vips.insert(*vip);
  }
  size_t before = out.size();
  for (const Address& vip : vips) {
    if (machine.addresses.count(vip) == 0) continue;
    out.push_back({Level::fail, "vip " + vip.text(), "is an address of this node itself",
                   "the kernel answers for it, and the node's own address is load-balanced away",
                   "`ip -br addr | grep -F " + vip.text() + "` finds it; ip addr del " +
                       vip.text() + (vip.is_v4() ? "/32" : "/128") + " dev INTERFACE"});
  }
  if (!vips.empty() && out.size() == before) {
    out.push_back({Level::ok, "vips",
                   "none of " + counted(vips.size(), "VIP") + " is an address of this node", "",
                   ""});
  }
}

// The most that a packet to one of the pool's backends grows by; nothing of a tunnel whose backends
// are yet to come.
std::optional<unsigned> outer_bytes(const Json& pool) {
  const std::string forwarding = text(pool, "forwarding");
  if (forwarding == "l2") return 0;
  std::optional<unsigned> most;
  for (const Json& backend : list(pool, "backends")) {
    const bool v6 = text(backend, "address").find(':') != std::string::npos;
    unsigned bytes = v6 ? 40 : 20;
    if (forwarding == "gue") bytes += 8 + gw_gue_bytes(v6 ? 6 : 4, GW_GUE_HOPS_MAX);
    most = std::max(most.value_or(0), bytes);
  }
  return most;
}

Finding check_dataplane(const Json& dataplane, uint64_t wanted) {
  std::string problem = text(dataplane, "problem");
  auto finding = [&](Level level, std::string message, std::string breaks, std::string mend) {
    if (!problem.empty()) message += ": " + problem;
    return Finding{level, "dataplane", std::move(message), std::move(breaks), std::move(mend)};
  };
  if (!truth(dataplane, "connected")) {
    return finding(Level::fail, "the control plane is not connected to it",
                   "no packet is forwarded if it does not run; else changes do not reach it",
                   "systemctl status guideway-dataplane; systemctl start guideway-dataplane");
  }
  if (!truth(dataplane, "alive")) {
    return finding(Level::fail, "the heartbeat of its workers stands still",
                   "no packet is forwarded", "systemctl restart guideway-dataplane");
  }
  if (const Json& refused = field(dataplane, "refused"); refused.is_object()) {
    return finding(Level::fail,
                   "refused generation " + std::to_string(number(refused, "generation")) + ": " +
                       text(refused, "reason"),
                   "it goes on with the image before", "journalctl -u guideway-dataplane -n 50");
  }
  uint64_t running = number(dataplane, "revision");
  if (running != wanted) {
    return finding(
        Level::warn,
        "runs revision " + std::to_string(running) + ", wanted is " + std::to_string(wanted),
        "the latest changes are not in force", "journalctl -u guideway-controlplane -n 50");
  }
  return finding(problem.empty() ? Level::ok : Level::warn,
                 "alive, generation " + std::to_string(number(dataplane, "generation")), "", "");
}

}  // namespace

Daemons check_daemons(const Machine& machine, const std::string& socket, const Answer& status) {
  Daemons out;
  if (!status) {
    // Not started yet is how every new machine looks; a socket that does not answer is not.
    bool started = access(socket.c_str(), F_OK) == 0;
    out.findings.push_back(
        {started ? Level::fail : Level::warn, "control plane", status.error().error.message,
         "no changes, no fresh next hops; the dataplane goes on with what it has",
         started ? status.error().error.hint : "systemctl start guideway-controlplane"});
    return out;
  }
  Json json = Json::parse(*status, nullptr, false);
  if (!json.is_object()) {
    out.findings.push_back({Level::fail, "control plane", "its answer is not JSON", "everything",
                            "is " + socket + " the socket of guideway-controlplane?"});
    return out;
  }
  out.findings.push_back(
      {Level::ok, "control plane",
       "answers at " + socket + ", revision " + std::to_string(number(json, "revision")), "", ""});
  const Json& dataplane = field(json, "dataplane");
  out.findings.push_back(check_dataplane(dataplane, number(json, "revision")));
  check_vips(machine, json, out.findings);
  const Json& pools = list(field(json, "pools"), "pools");
  for (const Json& pool : pools) out.outer_bytes = std::max(out.outer_bytes, outer_bytes(pool));
  return out;
}

}  // namespace guideway::cli
