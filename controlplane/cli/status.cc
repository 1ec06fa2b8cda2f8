// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/status.h"

#include <algorithm>

#include "controlplane/cli/answer.h"
#include "controlplane/cli/cluster.h"
#include "controlplane/cli/pool_view.h"
#include "controlplane/cli/service.h"
#include "dataplane/abi.h"
#include "dataplane/verdict.h"

namespace guideway::cli {
namespace {

constexpr size_t kBackendsShown = 20;  // of one pool
constexpr size_t kPoolsShown = 20;
constexpr size_t kServicesShown = 50;
constexpr size_t kProblemsShown = 40;

void print_problems(const Context& context, const Json& status) {
  std::vector<std::string> lines = problems(status);
  if (lines.empty()) return;
  context.out << painted("PROBLEMS: " + std::to_string(lines.size()), Colour::bad, context.colour)
              << '\n';
  for (size_t i = 0; i < std::min(lines.size(), kProblemsShown); ++i) {
    context.out << "  ! " << painted(lines[i], Colour::bad, context.colour) << '\n';
  }
  if (lines.size() > kProblemsShown) {
    context.out << "  ! and " << lines.size() - kProblemsShown
                << " more: guideway service list, guideway pool list\n";
  }
  context.out << '\n';
}

std::string image_in_force(const Json& status) {
  const Json& dataplane = field(status, "dataplane");
  uint64_t generation = number(dataplane, "generation");
  if (generation == 0) return "no image";
  uint64_t running = number(dataplane, "revision"), wanted = number(status, "revision");
  uint64_t layout = number(dataplane, "layout");
  return "generation " + std::to_string(generation) + ", revision " + std::to_string(running) +
         (running == wanted ? "" : " (wanted: " + std::to_string(wanted) + ")") +
         (layout == 0 || layout >= GW_LAYOUT ? ""
                                             : ", image layout " + std::to_string(layout) +
                                                   " (the dataplane is a version behind)");
}

void print_daemons(const Context& context, const Json& status) {
  const Json& node = field(status, "node");
  const Json& dataplane = field(status, "dataplane");
  bool connected = truth(dataplane, "connected"), alive = truth(dataplane, "alive");
  auto heading = [&](const char* name) { return painted(name, Colour::heading, context.colour); };

  context.out << heading("NODE") << "       " << painted(text(node, "name"), Colour::none, false)
              << "  guideway " << text(node, "version") << ", pid " << number(node, "pid")
              << ", started " << text(node, "started") << ", revision "
              << number(status, "revision") << '\n'
              << heading("DATAPLANE") << "  "
              << (connected && alive
                      ? painted("alive", Colour::good, context.colour)
                      : painted(connected ? "HUNG" : "NOT CONNECTED", Colour::bad, context.colour))
              << "  " << image_in_force(status);
  if (connected) {
    context.out << ", " << counted(number(dataplane, "workers"), "worker") << ", pid "
                << number(dataplane, "pid") << ", start " << number(dataplane, "epoch");
    if (uint64_t most = number(dataplane, "flows_max"); most != 0) {
      context.out << ", flow table " << number(dataplane, "flows") << " of " << most;
    }
  }
  context.out << "\n\n";
}

void print_ports(const Context& context, const Json& status) {
  Table table({{"PORT", true}, {"INTERFACE"}, {"MAC"}, {"MTU", true}, {"LINK"}});
  for (const Json& port : list(field(field(status, "dataplane"), "ports"), "ports")) {
    bool up = truth(port, "up");
    table.add({std::to_string(number(port, "index")),
               text(port, "interface"),
               text(port, "mac"),
               std::to_string(number(port, "mtu")),
               {up ? "up" : "down", up ? Colour::good : Colour::bad}});
  }
  if (table.empty()) return;
  table.print(context.out, context.colour);
  context.out << '\n';
}

// A packet that came to its end here unwanted. What was forwarded, answered, or passed between NIC
// and kernel was not dropped.
bool is_drop(const std::string& verdict) {
  for (Verdict kept : {Verdict::forwarded, Verdict::echo_replied, Verdict::too_big_replied,
                       Verdict::to_kernel, Verdict::from_kernel}) {
    if (verdict == verdict_name(kept)) return false;
  }
  return true;
}

std::string meaning(const std::string& verdict) {
  for (const VerdictText& known : kVerdicts) {
    if (verdict == known.name) return std::string(known.meaning);
  }
  return "";
}

void print_verdicts(const Context& context, const Json& counters) {
  const Json& verdicts = field(counters, "verdicts");
  std::vector<std::pair<std::string, uint64_t>> rows;
  for (const auto& known : kVerdicts) {  // in the order of the packet's way
    std::string name(known.name);
    if (uint64_t count = number(verdicts, name.c_str())) rows.emplace_back(name, count);
  }
  if (verdicts.is_object()) {
    for (const auto& [name, count] : verdicts.items()) {  // of a newer control plane
      if (meaning(name).empty() && count.is_number() && count != 0) {
        rows.emplace_back(name, count.get<uint64_t>());
      }
    }
  }
  Table table({{"VERDICT"}, {"PACKETS", true}, {""}, {"MEANING"}});
  for (const auto& [name, count] : rows) {
    bool drop = is_drop(name);
    table.add({{name, drop ? Colour::warning : Colour::none},
               std::to_string(count),
               {drop ? "DROP" : "", Colour::warning},
               meaning(name)});
  }
  context.out << '\n'
              << painted("PACKETS", Colour::heading, context.colour) << "  "
              << number(counters, "received") << " received\n";
  if (!table.empty()) table.print(context.out, context.colour, 2);
}

bool all_up(const Json& pool) {
  if (!alarm(pool).empty()) return false;
  const Json& backends = list(field(pool, "backends"), "backends");
  return std::all_of(backends.begin(), backends.end(), [](const Json& backend) {
    std::string state = text(backend, "state");
    return (state == "up" && where_down(backend).empty()) || state == "no_weight" ||
           state == "disabled";
  });
}

// With many pools only those that have something to tell.
void print_pools(const Context& context, const Json& pools) {
  bool all = pools.size() <= kPoolsShown;
  size_t printed = 0;
  for (const Json& pool : pools) {
    if (!all && (all_up(pool) || printed == kPoolsShown)) continue;
    ++printed;
    context.out << '\n';
    print_pool(context, pool, kBackendsShown);
  }
  if (!all) {
    context.out << '\n'
                << painted("POOLS", Colour::heading, context.colour) << "  " << pools.size()
                << ", shown: " << printed << " with backends that are not up"
                << " (all: `guideway pool list`)\n";
  }
}

}  // namespace

int status(const Context& context) {
  int exit_code = kOk;
  auto answer = shown(context, Client(context.socket).get("/v1/status"), exit_code);
  if (!answer) return exit_code;
  print_problems(context, *answer);
  print_daemons(context, *answer);
  print_cluster(context, *answer);
  print_ports(context, *answer);
  print_services(context, list(field(*answer, "services"), "services"), kServicesShown);
  print_pools(context, list(field(*answer, "pools"), "pools"));
  print_verdicts(context, field(*answer, "counters"));
  return kOk;
}

}  // namespace guideway::cli
