// SPDX-License-Identifier: Apache-2.0
// `guideway agent`: the tool of a backend. Attaches `redirect`, which takes the nodes' tunnel
// packets and stays attached whatever becomes of the agent; shows it; takes it off. With a key it
// also tells nodes how many sockets this host holds (agent_server.h). Needs root.
//
// Sources: agent*.cc; they need bpf_loader_dep, and of the control plane event_loop.cc, netlink.cc
// and agent_key.cc, agent_protocol.cc.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "controlplane/cli/command.h"

namespace CLI {
class App;
}

namespace guideway::cli {

struct AgentOptions {
  std::string interface;           // run: required; status, detach: empty means all of them
  std::vector<std::string> allow;  // run: prefixes that the nodes' outer sources are in
  bool once = false;               // run: attach, and return
  std::string bpf_dir;             // run: folder of redirect.bpf.o; empty: where it was installed
  std::string key{};               // run: key file; empty: nodes are told nothing
  std::string listen{};            // run: "[::]:6081", where nodes ask; only with `key`
};

// Attaches or adopts `redirect` and brings its lists up to date. Then, unless `once`: follows this
// host's addresses, puts the program back if somebody took it off, and logs what it counts, until
// SIGTERM or SIGINT, which leave it attached. With a key it answers nodes meanwhile. Logs on
// context.err. kRefused if it cannot be attached, or kept, if the key file is not right, or if it
// cannot listen; kUsage if the options are wrong.
int agent_run(const Context& context, const AgentOptions& options);

// Where it is attached, how, with which prefixes, and its counters. kRefused if it is nowhere.
int agent_status(const Context& context, const AgentOptions& options);

// Takes it off; kOk also if there was nothing to take off.
int agent_detach(const Context& context, const AgentOptions& options);

// Prints a new key for key files of agents and nodes.
int agent_key(const Context& context, const AgentOptions& options);

// Adds `agent run|status|detach|key` to the command line. What is typed sets `run`; `context` is
// looked at when that runs.
void add_agent_commands(CLI::App& app, const Context& context, std::function<int()>& run);

}  // namespace guideway::cli
