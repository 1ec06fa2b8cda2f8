// SPDX-License-Identifier: Apache-2.0
// One thing that `guideway doctor` looked at, and the checks that make findings.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/cli/client.h"
#include "controlplane/cli/machine.h"
#include "dataplane/node_config.h"

namespace guideway::cli {

enum class Level : uint8_t { ok, warn, fail };

struct Finding {
  Level level = Level::ok;
  std::string check;    // "kernel", "port eth1"
  std::string message;  // what was found
  std::string breaks;   // what does not work because of it; empty if ok
  std::string mend;     // the command, or what to do; empty if ok
};
using Findings = std::vector<Finding>;

// Kernel, BTF, AF_XDP, privileges, clock.
Findings check_machine(const Machine& machine);

// node.toml: cores, memory, ports, folders. `outer_bytes`: the most that a tunnel in use adds to a
// packet, 0 without tunnels, if known.
Findings check_node(const Machine& machine, const NodeConfig& config,
                    std::optional<unsigned> outer_bytes);
// The ports of it; check_node() calls this.
Findings check_ports(const Machine& machine, const NodeConfig& config,
                     std::optional<unsigned> outer_bytes);
// A port that is to be DPDK's alone, by PCI address "0000:01:00.0"; check_ports() calls this.
void check_pci(const Machine& machine, const std::string& pci, Findings& out);

// What the control plane says of itself and of the dataplane. `status` is the answer of GET
// /v1/status over `socket`.
struct Daemons {
  Findings findings;
  std::optional<unsigned> outer_bytes;  // as check_node() takes it
};
Daemons check_daemons(const Machine& machine, const std::string& socket, const Answer& status);

}  // namespace guideway::cli
