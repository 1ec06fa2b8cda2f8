// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/pool.h"

#include <limits>

#include "controlplane/cli/answer.h"
#include "controlplane/cli/change.h"
#include "controlplane/cli/pool_view.h"

namespace guideway::cli {
namespace {

int put(const Context& context, const std::string& name, const PoolSettings& settings,
        const Json& before) {
  auto body = pool_body(settings, before, name);
  if (!body) return report(context, {kRefused, 0, body.error(), ""});
  std::string done = "added";
  if (before.is_object()) {
    done = "changed: " + pool_changes(before, *body);
  } else if (body->contains("probe")) {
    done += ", probe " + probe_words((*body)["probe"]);
  }
  return make(context, {"PUT", pool_path(name), body->dump(), "pool " + name, printable(done)});
}

}  // namespace

std::string pool_path(const std::string& name) {
  return "/v1/pools/" + escaped(name);
}

int pool_add(const Context& context, const std::string& name, const PoolSettings& settings) {
  Answer before = Client(context.socket).get(pool_path(name));
  return put(context, name, settings, before ? Json::parse(*before, nullptr, false) : Json());
}

int pool_set(const Context& context, const std::string& name, const PoolSettings& settings) {
  if (settings.empty()) {
    context.err << "guideway: nothing to set\n  see `guideway pool set --help`\n";
    return kUsage;
  }
  int exit_code = kOk;
  auto before = parsed(context, Client(context.socket).get(pool_path(name)), exit_code);
  return before ? put(context, name, settings, *before) : exit_code;
}

int pool_remove(const Context& context, const std::string& name) {
  return make(context, {"DELETE", pool_path(name), "", "pool " + name, "removed"});
}

int pool_list(const Context& context) {
  int exit_code = kOk;
  auto answer = shown(context, Client(context.socket).get("/v1/pools"), exit_code);
  if (!answer) return exit_code;
  Table table({{"POOL"},
               {"FORWARDING"},
               {"SLOTS", true},
               {"SERVICES", true},
               {"HEALTH", false, true},
               {"BACKENDS"}});
  for (const Json& pool : list(*answer, "pools")) {
    table.add({text(pool, "name"),
               text(pool, "forwarding"),
               std::to_string(number(pool, "table_slots")),
               std::to_string(number(pool, "services")),
               {alarm(pool), Colour::bad},
               backend_summary(pool)});
  }
  if (table.empty()) {
    context.out << "no pools; add one: guideway pool add NAME --forwarding l2|ipip|gue\n";
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
