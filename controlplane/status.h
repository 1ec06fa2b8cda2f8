// SPDX-License-Identifier: Apache-2.0
// The state of the node as plain values: what GET /v1/status and GET /metrics show. Made in the
// loop's thread from what the daemon knows (make_*), written as JSON in any thread (write_*).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controlplane/announcer.h"
#include "controlplane/cluster.h"
#include "controlplane/counters.h"
#include "controlplane/health.h"
#include "controlplane/image.h"
#include "controlplane/intent.h"
#include "controlplane/next_hops.h"
#include "controlplane/pool_state.h"
#include "controlplane/prober.h"
#include "controlplane/shared_views.h"
#include "dataplane/abi.h"

namespace guideway {

enum class ServiceState : uint8_t { ready, degraded, down };
const char* state_name(ServiceState state);

struct BackendStatus {
  Address address;
  uint32_t weight = 0;
  BackendMode mode = BackendMode::enabled;
  int64_t drain_until = 0;  // seconds since 1970; 0: no such time
  BackendState state = BackendState::up;
  std::string reason;               // may be empty when up
  std::string since;                // RFC 3339; empty: from the beginning
  double share_now = 0;             // of its slots, those that it takes new flows for, 0 to 1
  std::optional<ProbeSight> sight;  // none: not probed
  double share = 0;                 // of the pool's slots, 0 to 1
  uint32_t slots = 0;               // owned
  std::optional<NextHop> next_hop;
  Traffic traffic;
  std::optional<BackendSeen> seen;  // by the nodes; none: by this one alone
};

struct PoolStatus {
  std::string name;
  Forwarding forwarding = Forwarding::l2;
  uint32_t table_slots = 0;
  uint64_t digest = 0;  // of its table; 0: none
  uint32_t services = 0;
  Probe probe;
  uint32_t slow_start_ms = 0;
  uint32_t hold_s = 0;
  struct Change {
    uint64_t epoch = 0;     // in use
    uint64_t incoming = 0;  // prepared; 0: none
    std::vector<uint64_t> earlier;
    bool wanted = false;  // the pool's settings want another table than that in use
    std::string waits;    // why the next step is not taken; empty: it is, or none is needed
  };
  std::optional<Change> change;  // gue
  PoolCondition condition = PoolCondition::normal;
  std::string condition_reason;  // empty when normal
  std::string condition_since;   // RFC 3339; empty: from the beginning
  std::vector<BackendStatus> backends;
};

struct ServiceStatus {
  ServiceKey key;
  std::string pool;
  ServiceState state = ServiceState::down;
  std::string reason;  // empty when ready
  Traffic traffic;
};

struct PortStatus {
  std::string interface;
  std::string mac;
  uint32_t mtu = 0;
  bool up = false;
};

struct RefusedImage {
  uint64_t generation = 0;
  std::string reason;
};

struct NodeStatus {
  std::string name;
  int64_t started = 0;  // seconds since 1970
  uint64_t revision = 0;
  bool connected = false;
  bool alive = false;  // each worker's heartbeat advances
  uint32_t pid = 0;    // of the dataplane; the rest as well
  uint64_t epoch = 0;
  uint32_t workers = 0;
  uint64_t generation = 0;  // running
  uint64_t running_revision = 0;
  uint32_t layout = 0;  // of the images that it is sent; 0: not connected
  std::vector<PortStatus> ports;
  std::optional<RefusedImage> refused;
  std::string problem;  // a sentence; empty: none
  NodeModeStatus mode;
  uint64_t received = 0;
  std::array<uint64_t, GW_VERDICTS_MAX> verdicts{};
  FlowTableUse flow_table;
};

// Of a node whose node.toml names a cluster.
struct ClusterStatus {
  std::string state;  // "member", "cut off", "not a member", "left"
  uint64_t id = 0;    // 0: not known
  std::string endpoint;
  std::string problem;                         // a sentence; empty: none
  int64_t last_contact = 0;                    // seconds since 1970; 0: never
  std::string elected;                         // node that does the planned changes; empty: nobody
  std::map<std::string, std::string> refused;  // keys in etcd that are left out, and why
  struct Node {
    std::string name;
    bool alive = false;
    bool self = false;
    NodeReport report;
    std::string problem;
    std::optional<uint32_t> down;  // backends that it does not see up; none: its view is not known
    std::set<std::string> out;     // pools that it has taken itself out of
  };
  std::vector<Node> nodes;
};

struct Status {
  NodeStatus node;
  std::optional<ClusterStatus> cluster;
  std::vector<ServiceStatus> services;
  std::vector<PoolStatus> pools;
  std::vector<VipStatus> vips;
};

// What the parts of a status are made from.
struct StatusSource {
  const Intent& intent;
  const TableMap& tables;  // a pool that is not in it yet has no slots
  const Health& health;
  std::function<const NextHopState&(const Address&)> next_hop;
  std::function<Traffic(const ServiceKey&)> service_traffic;
  std::function<Traffic(const std::string& pool, const Address&)> backend_traffic;
};

// Fills `services` and `pools`.
void make_pools_and_services(const StatusSource& source, Status& status);

// What the kernel says about an interface now.
PortStatus port_status(const std::string& interface);

std::string write_status(const Status& status);
std::string write_cluster(const Status& status);  // an object, or null
// What is wanted, how far it is, whether traffic comes: mode, state and quiet, as members of an
// object without its braces.
std::string write_node_mode_fields(const NodeModeStatus& mode);
std::string write_vips(const std::vector<VipStatus>& vips);  // an array
std::string write_pools(const std::vector<PoolStatus>& pools);
std::string write_pool(const PoolStatus& pool);
std::string write_services(const std::vector<ServiceStatus>& services);
std::string write_service(const ServiceStatus& service);
// An object, or null.
std::string write_next_hop(const std::optional<NextHop>& hop);

}  // namespace guideway
