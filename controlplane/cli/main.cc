// SPDX-License-Identifier: Apache-2.0
// guideway: the command line. A thin client of the control socket; here is what may be typed, and
// each command's own file says what it does.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/cli/agent.h"
#include "controlplane/cli/apply.h"
#include "controlplane/cli/backend.h"
#include "controlplane/cli/cluster.h"
#include "controlplane/cli/doctor.h"
#include "controlplane/cli/drain.h"
#include "controlplane/cli/events.h"
#include "controlplane/cli/explain.h"
#include "controlplane/cli/export.h"
#include "controlplane/cli/node.h"
#include "controlplane/cli/pool.h"
#include "controlplane/cli/service.h"
#include "controlplane/cli/status.h"
#include "controlplane/time_text.h"
#include "dataplane/node_config.h"

namespace guideway::cli {
namespace {

constexpr const char* kService =
    "VIP:PORT/PROTOCOL ([VIP]:PORT/PROTOCOL for IPv6), or VIP/PROTOCOL "
    "for all ports; PROTOCOL is tcp or udp";

// Where the parser puts what was typed, and which command it was.
struct Line {
  explicit Line(Context& c) : context(c) {}

  Context& context;
  std::function<int()> run;
  std::string name, pool, service, address, client, file;
  std::string config = kNodeConfigPath;
  std::optional<int64_t> weight;
  int64_t new_weight = 0;
  PoolSettings settings;
  EventsWanted events;
  uint64_t deadline_ms = 10 * 60 * 1000;
  bool dry_run = false;
  bool no_wait = false;
  bool force = false;
  bool wait = false;
  int64_t timeout_s = 120;
};

CLI::App* add(CLI::App& parent, Line& line, const char* name, const char* what,
              std::function<int()> run) {
  CLI::App* command = parent.add_subcommand(name, what);
  command->callback([&line, run = std::move(run)] { line.run = run; });
  return command;
}

CLI::App* add_change(CLI::App& parent, Line& line, const char* name, const char* what,
                     std::function<int()> run) {
  CLI::App* command = add(parent, line, name, what, std::move(run));
  command->add_flag("--no-wait", line.no_wait,
                    "do not wait until the dataplane has adopted the change");
  command->add_flag("--force", line.force,
                    "a planned change (gue) does not wait for connections from before earlier "
                    "changes: they may break");
  return command;
}

CLI::App& add_group(CLI::App& app, const char* name, const char* what) {
  CLI::App* group = app.add_subcommand(name, what);
  group->require_subcommand(1);
  return *group;
}

// An option whose text `take` understands, or says why not.
template <typename Take>
CLI::Option* add_read(CLI::App& command, const std::string& name, const char* what, Take take) {
  return command.add_option_function<std::string>(
      name,
      [name, take](const std::string& text) {
        if (Result<void> taken = take(text); !taken) {
          throw CLI::ValidationError(name, taken.error().text());
        }
      },
      what);
}

template <typename Milliseconds>
CLI::Option* add_duration(CLI::App& command, const std::string& name, const char* what,
                          Milliseconds& out) {
  auto take = [&out](const std::string& text) -> Result<void> {
    auto ms = parse_duration(text);
    if (!ms) return tl::unexpected(ms.error());
    out = *ms;
    return {};
  };
  return add_read(command, name, what, take)->type_name("TIME");
}

void add_service_commands(CLI::App& app, Line& line) {
  CLI::App& group = add_group(app, "service", "VIP, protocol and port, served by one pool");
  auto* command = add_change(group, line, "add", "add a service, or give it another pool",
                             [&] { return service_add(line.context, line.service, line.pool); });
  command->add_option("SERVICE", line.service, kService)->required();
  command->add_option("--pool", line.pool, "the pool that serves it")
      ->required()
      ->type_name("NAME");

  command = add_change(group, line, "remove", "remove a service",
                       [&] { return service_remove(line.context, line.service); });
  command->add_option("SERVICE", line.service, kService)->required();

  add(group, line, "list", "services, their state and traffic",
      [&] { return service_list(line.context); });
}

CLI::Option* add_pool_settings(CLI::App& command, PoolSettings& settings) {
  auto* forwarding =
      command.add_option("--forwarding", settings.forwarding, "how packets get to the backends")
          ->check(CLI::IsMember({"l2", "ipip", "gue"}))
          ->type_name("METHOD");
  command
      .add_option("--table-slots", settings.table_slots,
                  "slots of its lookup table: a prime, 251 to 16777213 (65537)")
      ->type_name("N");
  auto take_probe = [&settings](const std::string& text) -> Result<void> {
    settings.probe = text;
    return check_probe_form(text);
  };
  add_read(command, "--probe",
           "how its backends are probed: none, icmp, tcp:443, udp:53 or http:8080/healthz (none)",
           take_probe)
      ->type_name("PROBE");
  add_duration(command, "--probe-interval",
               "from one probe to the next: 1ms to 60s (100ms; http 1s)",
               settings.probe_interval_ms);
  add_duration(command, "--probe-timeout",
               "how long an answer may take: 1ms to 60s (the interval, at most 5s)",
               settings.probe_timeout_ms);
  command
      .add_option("--fall", settings.fall,
                  "so many probes in a row without success, and it is down: 1 to 100 (3)")
      ->type_name("N");
  command
      .add_option("--rise", settings.rise,
                  "so many in a row with success, and it is up again: 1 to 100 (2)")
      ->type_name("N");
  command
      .add_option("--probe-query", settings.probe_query,
                  "what a udp probe asks: dns or echo (port 53: dns, else echo)")
      ->check(CLI::IsMember({"dns", "echo"}))
      ->type_name("QUERY");
  command
      .add_option("--probe-host", settings.probe_host,
                  "Host of an http probe (the backend's address)")
      ->type_name("NAME");
  add_duration(command, "--slow-start",
               "how long a backend that comes, or comes back, takes to get all its slots: 0 to 1h "
               "(0)",
               settings.slow_start_ms);
  add_duration(command, "--hold",
               "gue: how long an earlier state of the table stays at most, whoever may still have "
               "connections by it (24h; 0: until the agents say that nobody has)",
               settings.hold_ms);
  return forwarding;
}

void add_pool_commands(CLI::App& app, Line& line) {
  CLI::App& group = add_group(app, "pool", "a named set of backends");
  auto* command = add_change(group, line, "add", "add a pool, or change its settings",
                             [&] { return pool_add(line.context, line.name, line.settings); });
  command->add_option("NAME", line.name, "name of the pool")->required();
  add_pool_settings(*command, line.settings)->required();

  command = add_change(group, line, "set",
                       "change settings of a pool; what is not named stays, but --probe begins a "
                       "new probe",
                       [&] { return pool_set(line.context, line.name, line.settings); });
  command->add_option("NAME", line.name, "name of the pool")->required();
  add_pool_settings(*command, line.settings);

  command = add_change(group, line, "remove", "remove a pool that no service uses",
                       [&] { return pool_remove(line.context, line.name); });
  command->add_option("NAME", line.name, "name of the pool")->required();

  add(group, line, "list", "pools at a glance", [&] { return pool_list(line.context); });

  command = add(group, line, "show", "one pool and all its backends",
                [&] { return pool_show(line.context, line.name); });
  command->add_option("NAME", line.name, "name of the pool")->required();
}

void add_backend_commands(CLI::App& app, Line& line) {
  CLI::App& group = add_group(app, "backend", "a server that answers for the VIP");
  auto pool_and_address = [&line](CLI::App* command) {
    command->add_option("POOL", line.pool, "name of the pool")->required();
    command->add_option("ADDRESS", line.address, "its IP address")->required();
  };
  auto* command = add_change(group, line, "add", "add a backend, or change its weight", [&] {
    return backend_add(line.context, line.pool, line.address, line.weight);
  });
  pool_and_address(command);
  command
      ->add_option("--weight", line.weight,
                   "its share of the slots, to the others: 0 to 65535 (100)")
      ->type_name("N");

  pool_and_address(add_change(group, line, "remove", "remove a backend", [&] {
    return backend_remove(line.context, line.pool, line.address);
  }));

  command = add_change(group, line, "weight", "change the weight of a backend", [&] {
    return backend_weight(line.context, line.pool, line.address, line.new_weight);
  });
  pool_and_address(command);
  command->add_option("WEIGHT", line.new_weight, "0 to 65535; 0: no slots, its flows move as well")
      ->required();

  command = add_change(
      group, line, "drain",
      "no new flows for a backend, those it has stay; in the end it is disabled", [&] {
        return backend_drain(line.context, line.pool, line.address, line.deadline_ms, line.wait);
      });
  pool_and_address(command);
  add_duration(*command, "--deadline", "when it is disabled: 0 to 168h; 0: never by itself (10m)",
               line.deadline_ms);
  command->add_flag("--wait", line.wait,
                    "return when it is disabled; the drain goes on if this is interrupted");

  pool_and_address(
      add_change(group, line, "enable", "end a drain, or take a disabled one back",
                 [&] { return backend_enable(line.context, line.pool, line.address); }));

  pool_and_address(add_change(group, line, "disable", "no flows for a backend, at once", [&] {
    return backend_disable(line.context, line.pool, line.address);
  }));

  command = add(group, line, "list", "the backends of a pool",
                [&] { return backend_list(line.context, line.pool); });
  command->add_option("POOL", line.pool, "name of the pool")->required();
}

void add_node_commands(CLI::App& app, Line& line) {
  CLI::App& group = add_group(app, "node", "this node, in service or out of it");
  auto waits = [&line](CLI::App* command, const char* what) {
    command->add_flag("--wait", line.wait, what);
    command->add_option("--timeout", line.timeout_s, "at most so many seconds (120)")
        ->type_name("N")
        ->check(CLI::Range(1, 86400));
  };
  waits(add(group, line, "drain",
            "take it out of service: announced with less preference, then withdrawn",
            [&] { return node_drain(line.context, line.wait, line.timeout_s); }),
        "return when it is withdrawn and no traffic comes");
  waits(add(group, line, "enable", "take it back into service",
            [&] { return node_enable(line.context, line.wait, line.timeout_s); }),
        "return when all VIPs are announced");
}

void add_cluster_commands(CLI::App& app, Line& line) {
  CLI::App& group = add_group(app, "cluster", "the nodes that share one intent");
  add(group, line, "status", "the nodes, and what each runs",
      [&] { return cluster_status(line.context); });
  add(group, line, "join", "take the cluster's intent for this node's own",
      [&] { return cluster_join(line.context); });
  add(group, line, "leave", "stay alone, with the intent as it is",
      [&] { return cluster_leave(line.context); });
}

void add_other_commands(CLI::App& app, Line& line) {
  add(app, line, "status", "node, dataplane, services, pools, backends: what is wrong comes first",
      [&] { return status(line.context); });

  auto* command = add_change(app, line, "apply", "make services and pools what a TOML file says",
                             [&] { return apply(line.context, line.file, line.dry_run); });
  command->add_option("FILE", line.file, "the file; - is the standard input")->required();
  command->add_flag("--dry-run", line.dry_run, "only show what would change");

  add(app, line, "export", "services and pools as a TOML file, for apply",
      [&] { return export_intent(line.context); });

  command = add(app, line, "explain", "where a flow goes, and why",
                [&] { return explain(line.context, line.client, line.service); });
  command->add_option("CLIENT", line.client, "ADDRESS:PORT, [ADDRESS]:PORT for IPv6")->required();
  command->add_option("SERVICE", line.service, kService)->required();

  command = add(app, line, "events", "what happened to backends and pools, and how soon",
                [&] { return events(line.context, line.events); });
  command->add_option("--since", line.events.since, "only those with this number, or higher")
      ->type_name("NUMBER");
  command
      ->add_option("--limit", line.events.limit,
                   "at most so many, the newest: 1 to 10000 (100; with --follow 10)")
      ->type_name("N");
  command->add_flag("--follow", line.events.follow, "go on, with those that come");

  command = add(app, line, "doctor", "what would stop this machine, and the command that mends it",
                [&] { return doctor(line.context, line.config); });
  command->add_option("--config", line.config, "the node's configuration")
      ->type_name("FILE")
      ->capture_default_str();
}

size_t distance(const std::string& a, const std::string& b) {  // Levenshtein
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row.back();
}

// How far the command line was understood: the deepest command, and its words.
struct Understood {
  const CLI::App* command;
  std::string path;

  explicit Understood(const CLI::App& app) : command(&app), path("guideway") {
    while (!command->get_subcommands().empty()) {
      command = command->get_subcommands().front();
      path += " " + command->get_name();
    }
  }
};

// The command below `group` that was probably meant by `word`; empty if there is no idea.
std::string suggestion(const CLI::App& group, const std::string& word) {
  std::string best;
  size_t best_distance = 3;
  for (const CLI::App* known : group.get_subcommands(nullptr)) {
    size_t d = distance(word, known->get_name());
    if (d < best_distance && d < known->get_name().size()) {
      best_distance = d;
      best = known->get_name();
    }
  }
  return best;
}

int usage_error(const CLI::App& app, const CLI::ParseError& problem) {
  std::vector<std::string> left = app.remaining(true);
  Understood understood(app);
  bool wants_command = !understood.command->get_subcommands(nullptr).empty();
  if (wants_command && !left.empty() && left.front().rfind('-', 0) != 0) {
    std::cerr << "guideway: no such command: " << understood.path << " " << left.front() << '\n';
    std::string meant = suggestion(*understood.command, left.front());
    if (!meant.empty())
      std::cerr << "  did you mean `" << understood.path << " " << meant << "`?\n";
  } else {
    std::cerr << "guideway: " << problem.what() << '\n';
  }
  std::cerr << "  see `" << understood.path << " --help`\n";
  return kUsage;
}

int main_of(int argc, char** argv) {
  const char* no_colour = std::getenv("NO_COLOR");  // https://no-color.org
  Context context(std::cout, std::cerr);
  context.err_terminal = isatty(STDERR_FILENO) == 1;
  context.colour = isatty(STDOUT_FILENO) == 1 && (no_colour == nullptr || *no_colour == 0);
  Line line(context);

  CLI::App app("guideway: the command line of the Guideway load balancer", "guideway");
  app.require_subcommand(1);
  app.fallthrough();
  auto* socket = app.add_option("--socket", context.socket, "the control socket")
                     ->envname("GUIDEWAY_SOCKET")
                     ->type_name("PATH")
                     ->capture_default_str();
  app.add_flag("--json", context.json, "print the answer as JSON, for programs");
  app.set_version_flag("--version", "guideway " GW_VERSION);
  app.footer(
      "Exit codes: 0 done, 1 refused, 2 wrong command line, 3 no answer from the control "
      "plane.\nMore: man guideway");
  add_other_commands(app, line);
  add_service_commands(app, line);
  add_pool_commands(app, line);
  add_backend_commands(app, line);
  add_node_commands(app, line);
  add_cluster_commands(app, line);
  add_agent_commands(app, context, line.run);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    if (problem.get_exit_code() == 0) return app.exit(problem);  // --help, --version
    return usage_error(app, problem);
  }
  context.socket_given = socket->count() != 0;
  context.wait = !line.no_wait;
  context.force = line.force;
  int exit_code = line.run();
  std::cout.flush();
  if (!std::cout) {  // a full disk must not look like success
    std::cerr << "guideway: cannot write to the standard output\n";
    return exit_code == kOk ? kRefused : exit_code;
  }
  return exit_code;
}

}  // namespace
}  // namespace guideway::cli

int main(int argc, char** argv) {
  try {
    return guideway::cli::main_of(argc, argv);
  } catch (const std::exception& problem) {
    std::cerr << "guideway: " << problem.what() << '\n';
    return guideway::cli::kRefused;
  }
}
