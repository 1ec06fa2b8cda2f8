// SPDX-License-Identifier: Apache-2.0
// node.toml: what is this machine's alone. Read once, at start, by both daemons, the CLI and the
// agent's host tools; an unknown key is an error that names the key and the line.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "controlplane/result.h"
#include "dataplane/address.h"

namespace guideway {

// Exactly one of `interface`, `pci`, `vdev` is set.
struct PortConfig {
  std::string interface;  // AF_XDP on this kernel interface, shared with the kernel
  std::string pci;        // "0000:01:00.0": DPDK owns the NIC
  std::string vdev;       // any DPDK virtual device: "net_af_xdp0,iface=eth1"
  std::string tap;        // pci and vdev: name of the TAP that stands for the port in the kernel
                          // (default "gw0", "gw1", ... by port index)
  unsigned mtu = 0;       // pci and vdev: bytes of an IP packet; 0: as DPDK finds it, mostly 1500
};

// [announce]: the signal routes that BIRD or FRR make announcements of (docs/bgp.md).
struct AnnounceConfig {
  unsigned table = 254;           // table: main, which is the only one that FRR reads
  unsigned metric_normal = 100;   // metric_normal: announced
  unsigned metric_reduced = 200;  // metric_reduced, more than that: with GRACEFUL_SHUTDOWN
  unsigned min_healthy = 1;       // min_healthy: backends a pool needs for its services to be ready
  bool panic_withdraws = false;   // on_panic = "reduce" | "withdraw"
  unsigned drain_seconds = 30;    // drain_seconds: at most so long reduced before withdrawn
};

// [agents]: how the agents on backends are asked (controlplane/agent_protocol.h).
struct AgentsConfig {
  std::string key_file;  // key_file, an absolute path; empty: no section, and they are not asked
  unsigned port = 6081;  // port: of all agents
};

// [cluster]: etcd, which keeps the intent that several nodes share.
struct ClusterConfig {
  std::vector<std::string> endpoints;  // endpoints: "https://10.0.0.1:2379"; empty: no section
  std::string prefix = "/guideway/";   // prefix of all keys; begins and ends with a slash
  std::string ca_file;                 // ca_file: whose members are believed; needed for https
  std::string cert_file;               // cert_file, key_file: what this node shows them
  std::string key_file;
  std::string user;           // user, password_file: whose rights it has; the file's first line
  std::string password_file;  // is the password
  unsigned lease_s = 5;       // lease_s: so long after its last word a node counts as alive
};

struct NodeConfig {
  std::string name;                             // [node] name; default: the host name
  std::string run_dir = "/run/guideway";        // [paths] run: sockets, image copy, counters
  std::string state_dir = "/var/lib/guideway";  // [paths] state: the intent
  std::vector<PortConfig> ports;                // [[dataplane.ports]]; at least one
  unsigned workers = 1;                         // [dataplane] workers, 1 to GW_WORKERS_MAX
  std::vector<unsigned> cores;  // [dataplane] cores: one per worker; empty: not pinned
  bool hugepages = false;       // [dataplane] hugepages
  unsigned memory_mb = 512;     // [dataplane] memory_mb, 64 and more: packet buffers and rings
  unsigned flow_table = 65536;  // [dataplane] flow_table: entries per worker, a power of two
  std::optional<Address> tunnel_source4;  // [tunnel] source4, source6: outer source addresses;
  std::optional<Address> tunnel_source6;  // default: the kernel's choice for the route
  std::string control_socket;             // [control] socket; default RUN/control.sock
  unsigned control_mode = 0660;           // [control] mode, a string "0660"
  std::string control_group;              // [control] group; default: none (root's)
  unsigned route_table = 2203;            // [routes] table: Guideway's own routing table
  unsigned rule_priority = 203;           // [routes] rule_priority: of its `ip rule`, before main
  AnnounceConfig announce;                // [announce]
  AgentsConfig agents;                    // [agents]
  ClusterConfig cluster;                  // [cluster]
  std::string log_level = "info";         // [log] level: trace, debug, info, warn, error

  static Result<NodeConfig> parse(std::string_view toml, std::string_view file_name);
  static Result<NodeConfig> load(const std::string& path);

  std::string dataplane_socket() const { return run_dir + "/dataplane.sock"; }
  std::string counters_path() const { return run_dir + "/counters"; }
  std::string image_dir() const { return run_dir + "/image"; }
};

inline constexpr const char* kNodeConfigPath = "/etc/guideway/node.toml";

}  // namespace guideway
