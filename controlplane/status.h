// SPDX-License-Identifier: Apache-2.0
// The state of the node as plain values: what GET /v1/status and GET /metrics show. Made in the
// loop's thread from what the daemon knows (make_*), written as JSON in any thread (write_*).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/announcer.h"
#include "controlplane/counters.h"
#include "controlplane/image.h"
#include "controlplane/intent.h"
#include "controlplane/next_hops.h"
#include "dataplane/abi.h"

namespace guideway {

enum class BackendState : uint8_t { up, no_next_hop, no_weight };
enum class ServiceState : uint8_t { ready, degraded, down };
const char* state_name(BackendState state);
const char* state_name(ServiceState state);

struct BackendStatus {
  Address address;
  uint32_t weight = 0;
  BackendState state = BackendState::up;
  std::string reason;  // empty when up
  double share = 0;    // of the pool's slots, 0 to 1
  uint32_t slots = 0;  // owned
  std::optional<NextHop> next_hop;
  Traffic traffic;
};

struct PoolStatus {
  std::string name;
  Forwarding forwarding = Forwarding::l2;
  uint32_t table_slots = 0;
  uint64_t digest = 0;  // of its table; 0: none
  uint32_t services = 0;
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
  std::vector<PortStatus> ports;
  std::optional<RefusedImage> refused;
  std::string problem;  // a sentence; empty: none
  NodeModeStatus mode;
  uint64_t received = 0;
  std::array<uint64_t, GW_VERDICTS_MAX> verdicts{};
};

struct Status {
  NodeStatus node;
  std::vector<ServiceStatus> services;
  std::vector<PoolStatus> pools;
  std::vector<VipStatus> vips;
};

// What the parts of a status are made from.
struct StatusSource {
  const Intent& intent;
  const TableMap& tables;  // a pool that is not in it yet has no slots
  std::function<const NextHopState&(const Address&)> next_hop;
  std::function<Traffic(const ServiceKey&)> service_traffic;
  std::function<Traffic(const std::string& pool, const Address&)> backend_traffic;
};

// Fills `services` and `pools`.
void make_pools_and_services(const StatusSource& source, Status& status);

// State and reason of one backend, by weight and next hop.
std::pair<BackendState, std::string> judge_backend(const Pool& pool, const Address& address,
                                                   const Backend& backend,
                                                   const NextHopState& next_hop);

// What the kernel says about an interface now.
PortStatus port_status(const std::string& interface);

std::string write_status(const Status& status);
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
