// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/service.h"

#include <limits>

#include "controlplane/cli/answer.h"
#include "controlplane/cli/change.h"

namespace guideway::cli {
namespace {

std::string service_path(const std::string& service) {
  return "/v1/services/" + escaped(service);
}

}  // namespace

int service_add(const Context& context, const std::string& service, const std::string& pool) {
  // Only so that the message can tell a new service from a changed one.
  std::string done = "added, pool " + pool;
  if (Answer before = Client(context.socket).get(service_path(service)); before && !context.json) {
    Json old = Json::parse(*before, nullptr, false);
    done = "changed: pool " + text(old, "pool") + " -> " + pool;
  }
  return make(context, {"PUT", service_path(service), Json{{"pool", pool}}.dump(),
                        "service " + service, done});
}

int service_remove(const Context& context, const std::string& service) {
  return make(context, {"DELETE", service_path(service), "", "service " + service, "removed"});
}

void print_services(const Context& context, const Json& services, size_t services_max) {
  if (services.empty()) {
    context.out << "no services; add one: guideway service add VIP:PORT/PROTOCOL --pool NAME\n";
    return;
  }
  Table table({{"SERVICE"}, {"POOL"}, {"STATE"}, {"PACKETS", true}, {"BYTES", true}, {"REASON"}});
  bool all = services.size() <= services_max;
  size_t printed = 0, not_ready = 0;
  for (const Json& service : services) {
    std::string state = text(service, "state");
    if (state != "ready") ++not_ready;
    if (!all && (state == "ready" || printed == services_max)) continue;
    ++printed;
    table.add({text(service, "service"),
               text(service, "pool"),
               {state, colour_of(state)},
               std::to_string(number(service, "packets")),
               std::to_string(number(service, "bytes")),
               text(service, "reason")});
  }
  if (!all) {
    context.out << painted("SERVICES", Colour::heading, context.colour) << "  " << services.size()
                << ", not ready: " << not_ready << ", shown: " << printed
                << " (all: `guideway service list`)\n";
  }
  if (!table.empty()) table.print(context.out, context.colour);
}

int service_list(const Context& context) {
  int exit_code = kOk;
  auto answer = shown(context, Client(context.socket).get("/v1/services"), exit_code);
  if (!answer) return exit_code;
  print_services(context, list(*answer, "services"), std::numeric_limits<size_t>::max());
  return kOk;
}

}  // namespace guideway::cli
