// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/pool.h"

#include <limits>
#include <map>

#include "controlplane/cli/answer.h"
#include "controlplane/cli/change.h"

namespace guideway::cli {

std::string pool_path(const std::string& name) {
  return "/v1/pools/" + escaped(name);
}

int pool_add(const Context& context, const std::string& name, const std::string& forwarding,
             std::optional<int64_t> table_slots) {
  Json body = {{"forwarding", forwarding}};
  if (table_slots) body["table_slots"] = *table_slots;

  // Only so that the message can tell a new pool from a changed one; the PUT is right either way.
  std::string done = "added";
  if (Answer before = Client(context.socket).get(pool_path(name)); before && !context.json) {
    Json old = Json::parse(*before, nullptr, false);
    done = "changed:";
    if (text(old, "forwarding") != forwarding) {
      done += " forwarding " + text(old, "forwarding") + " -> " + forwarding;
    }
    if (uint64_t slots = number(old, "table_slots");
        table_slots && slots != static_cast<uint64_t>(*table_slots)) {
      done += (done.back() == ':' ? " table slots " : ", table slots ") + std::to_string(slots) +
              " -> " + std::to_string(*table_slots);
    }
  }
  return make(context, {"PUT", pool_path(name), body.dump(), "pool " + name, done});
}

int pool_remove(const Context& context, const std::string& name) {
  return make(context, {"DELETE", pool_path(name), "", "pool " + name, "removed"});
}

std::string backend_summary(const Json& pool) {
  const Json& backends = list(field(pool, "backends"), "backends");
  std::map<std::string, size_t> states;
  for (const Json& backend : backends) ++states[text(backend, "state")];
  std::string out = counted(backends.size(), "backend");
  std::string separator = ": ";
  auto add = [&](const std::string& state, size_t count) {
    out += separator + std::to_string(count) + " " + state;
    separator = ", ";
  };
  if (auto up = states.find("up"); up != states.end()) add("up", up->second);
  for (const auto& [state, count] : states) {
    if (state != "up") add(state, count);
  }
  return out;
}

void print_backends(const Context& context, const Json& pool, size_t backends_max,
                    unsigned indent) {
  const Json& backends = list(field(pool, "backends"), "backends");
  bool all = backends.size() <= backends_max;
  Table table({{"BACKEND"},
               {"WEIGHT", true},
               {"STATE"},
               {"SHARE", true},
               {"SLOTS", true},
               {"PACKETS", true},
               {"BYTES", true},
               {"NEXT HOP"}});
  size_t printed = 0, left_out = 0;
  for (const Json& backend : backends) {
    std::string state = text(backend, "state");
    if (!all && state == "up") continue;
    if (printed == backends_max) {
      ++left_out;
      continue;
    }
    ++printed;
    std::string reason = text(backend, "reason");
    table.add({text(backend, "address"),
               std::to_string(number(backend, "weight")),
               {state, colour_of(state)},
               share(backend),
               std::to_string(number(backend, "slots")),
               std::to_string(number(backend, "packets")),
               std::to_string(number(backend, "bytes")),
               reason.empty() ? next_hop(field(backend, "next_hop")) : reason});
  }
  if (!table.empty()) table.print(context.out, context.colour, indent);
  std::string blanks(indent, ' ');
  if (left_out != 0) {
    context.out << blanks << "... and " << left_out << " more that are not up\n";
  }
  if (!all) {
    context.out << blanks << "(the others are up: `guideway backend list " << text(pool, "name")
                << "`)\n";
  }
}

void print_pool(const Context& context, const Json& pool, size_t backends_max) {
  std::string digest = text(pool, "digest");
  context.out << painted("POOL " + text(pool, "name"), Colour::heading, context.colour) << "  "
              << text(pool, "forwarding") << ", " << number(pool, "table_slots") << " slots, "
              << counted(number(pool, "services"), "service") << ", " << backend_summary(pool);
  if (!digest.empty()) context.out << ", table " << digest;
  context.out << '\n';
  print_backends(context, pool, backends_max, 2);
}

int pool_list(const Context& context) {
  int exit_code = kOk;
  auto answer = shown(context, Client(context.socket).get("/v1/pools"), exit_code);
  if (!answer) return exit_code;
  Table table({{"POOL"}, {"FORWARDING"}, {"SLOTS", true}, {"SERVICES", true}, {"BACKENDS"}});
  for (const Json& pool : list(*answer, "pools")) {
    table.add({text(pool, "name"), text(pool, "forwarding"),
               std::to_string(number(pool, "table_slots")),
               std::to_string(number(pool, "services")), backend_summary(pool)});
  }
  if (table.empty()) {
    context.out << "no pools; add one: guideway pool add NAME --forwarding l2|ipip\n";
  } else {
    table.print(context.out, context.colour);
  }
  return kOk;
}

int pool_show(const Context& context, const std::string& name) {
  int exit_code = kOk;
  auto answer = shown(context, Client(context.socket).get(pool_path(name)), exit_code);
  if (!answer) return exit_code;
  print_pool(context, *answer, std::numeric_limits<size_t>::max());
  return kOk;
}

}  // namespace guideway::cli
