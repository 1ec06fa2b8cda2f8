// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <memory>

#include "controlplane/cli/agent.h"

namespace guideway::cli {

void add_agent_commands(CLI::App& app, const Context& context, std::function<int()>& run) {
  CLI::App* group = app.add_subcommand("agent", "on a backend: take the nodes' tunnel packets");
  group->require_subcommand(1);
  auto options = std::make_shared<AgentOptions>();
  auto add = [&](const char* name, const char* what,
                 int (*command)(const Context&, const AgentOptions&)) {
    CLI::App* added = group->add_subcommand(name, what);
    added->callback([&context, &run, options, command] {
      run = [&context, options, command] { return command(context, *options); };
    });
    return added;
  };
  auto add_interface = [&](CLI::App* command) {
    return command
        ->add_option("--interface", options->interface, "where the tunnel packets come in")
        ->type_name("IF");
  };

  CLI::App* command =
      add("run", "attach the redirect program, and look after it until stopped", agent_run);
  add_interface(command)->required();
  command
      ->add_option("--allow", options->allow,
                   "prefix of the nodes' tunnel sources, for example 10.0.0.0/24; may be repeated")
      ->required()
      ->type_name("PREFIX");
  command->add_flag("--once", options->once, "attach it, and exit");
  command
      ->add_option("--bpf-dir", options->bpf_dir,
                   "folder of redirect.bpf.o (GUIDEWAY_BPF_DIR, else where it was installed)")
      ->type_name("DIR");
  command
      ->add_option("--key", options->key,
                   "file of the key by which nodes ask for sockets; without it they cannot")
      ->type_name("FILE");
  command->add_option("--listen", options->listen, "where nodes ask; [::]:6081 if not given")
      ->type_name("ADDRESS:PORT");

  add_interface(
      add("status", "where it is attached, what it takes, what it counted", agent_status));
  add_interface(add("detach", "take it off", agent_detach));
  add("key", "print a new key, for --key and for [agents] of node.toml", agent_key);
}

}  // namespace guideway::cli
