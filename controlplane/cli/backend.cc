// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/backend.h"

#include <limits>

#include "controlplane/cli/answer.h"
#include "controlplane/cli/change.h"
#include "controlplane/cli/pool.h"
#include "controlplane/cli/pool_view.h"
#include "dataplane/address.h"

namespace guideway::cli {
namespace {

std::string subject(const std::string& pool, const std::string& address) {
  return "pool " + pool + ": backend " + canonical(address);
}

std::string weight_change(const Json& before, int64_t weight) {
  return "changed: weight " + std::to_string(number(before, "weight")) + " -> " +
         std::to_string(weight);
}

int order(const Context& context, const std::string& pool, const std::string& address,
          const char* mode, const std::string& done) {
  int exit_code = kOk;
  if (!need_backend(context, pool, address, exit_code)) return exit_code;
  return make(context, {"PUT", backend_path(pool, address), Json{{"mode", mode}}.dump(),
                        subject(pool, address), done});
}

}  // namespace

std::string canonical(const std::string& address) {
  auto parsed = Address::parse(address);
  return parsed ? parsed->text() : address;
}

std::string backend_path(const std::string& pool, const std::string& address) {
  return pool_path(pool) + "/backends/" + escaped(address);
}

const Json& find_backend(const Json& pool, const std::string& address) {
  static const Json kNone;
  for (const Json& backend : list(field(pool, "backends"), "backends")) {
    if (text(backend, "address") == canonical(address)) return backend;
  }
  return kNone;
}

std::optional<Json> need_backend(const Context& context, const std::string& pool,
                                 const std::string& address, int& exit_code) {
  auto answer = parsed(context, Client(context.socket).get(pool_path(pool)), exit_code);
  if (!answer) return {};
  const Json& backend = find_backend(*answer, address);
  if (backend.is_object()) return backend;
  exit_code = report(context, {kRefused,
                               0,
                               {"pools." + pool + ".backends." + canonical(address),
                                "pool " + pool + " has no such backend",
                                "`guideway backend list " + pool +
                                    "` lists them; to add it: "
                                    "`guideway backend add " +
                                    pool + " " + address + "`"},
                               ""});
  return {};
}

int backend_add(const Context& context, const std::string& pool, const std::string& address,
                std::optional<int64_t> weight) {
  Json body = Json::object();
  if (weight) body["weight"] = *weight;
  // Only so that the message can tell a new backend from a changed one.
  std::string done = "added";
  if (Answer before = Client(context.socket).get(pool_path(pool)); before && !context.json) {
    Json old = Json::parse(*before, nullptr, false);
    if (const Json& backend = find_backend(old, address); backend.is_object() && weight) {
      done = weight_change(backend, *weight);
    }
  }
  return make(context,
              {"PUT", backend_path(pool, address), body.dump(), subject(pool, address), done});
}

int backend_remove(const Context& context, const std::string& pool, const std::string& address) {
  return make(context,
              {"DELETE", backend_path(pool, address), "", subject(pool, address), "removed"});
}

int backend_weight(const Context& context, const std::string& pool, const std::string& address,
                   int64_t weight) {
  int exit_code = kOk;
  auto backend = need_backend(context, pool, address, exit_code);
  if (!backend) return exit_code;
  return make(context, {"PUT", backend_path(pool, address), Json{{"weight", weight}}.dump(),
                        subject(pool, address), weight_change(*backend, weight)});
}

int backend_enable(const Context& context, const std::string& pool, const std::string& address) {
  return order(context, pool, address, "enabled", "enabled");
}

int backend_disable(const Context& context, const std::string& pool, const std::string& address) {
  const int exit_code = order(context, pool, address, "disabled", "disabled: no flow goes to it");
  if (exit_code == kOk) warn_if_nobody_is_left(context, pool);
  return exit_code;
}

void warn_if_nobody_is_left(const Context& context, const std::string& pool) {
  const Answer answer = Client(context.socket).get(pool_path(pool));
  if (!answer) return;
  const Json json = Json::parse(*answer, nullptr, false);
  for (const Json& backend : list(field(json, "backends"), "backends"))
    if (text(backend, "mode") == "enabled" && number(backend, "weight") > 0) return;
  context.err << "warning: nobody is left in pool " << pool
              << ": its new flows are dropped\n  see `guideway pool show " << pool << "`\n";
}

int backend_list(const Context& context, const std::string& pool) {
  int exit_code = kOk;
  auto answer = shown(context, Client(context.socket).get(pool_path(pool)), exit_code);
  if (!answer) return exit_code;
  if (list(field(*answer, "backends"), "backends").empty()) {
    context.out << "pool " << pool << " has no backends; add one: guideway backend add " << pool
                << " ADDRESS\n";
  }
  print_backends(context, *answer, std::numeric_limits<size_t>::max(), 0);
  return kOk;
}

}  // namespace guideway::cli
