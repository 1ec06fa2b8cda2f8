// SPDX-License-Identifier: Apache-2.0
// The intent: what the operator asked for. Services, pools, backends, weights; nothing observed,
// nothing of one machine alone. A revision numbers its states. Everything that the dataplane's
// tables hold is a pure function of this.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/change_plan.h"
#include "controlplane/result.h"
#include "dataplane/address.h"

namespace guideway {

enum class Forwarding : uint8_t {
  l2,    // the client's packet, to the backend's MAC address
  ipip,  // in an IP tunnel
  gue,   // in UDP, with the list of backends that may hold its connection (docs/design/gue.md)
};

// What the operator wants of a backend, beside its weight.
enum class BackendMode : uint8_t {
  enabled,
  draining,  // no new flows, those it has stay
  disabled,  // no flows at all
};

struct Backend {
  uint32_t weight = 100;  // 0 to kWeightMax; its share of slots is weight / sum; 0: no slots
  BackendMode mode = BackendMode::enabled;
  // Draining only: when it becomes disabled, in seconds since 1970; 0: never by itself.
  int64_t drain_until = 0;
  bool operator==(const Backend&) const = default;
};

enum class ProbeKind : uint8_t {
  none,  // not probed: up whenever there is a way to it
  tcp,   // half-open: SYN, and RST after the answer; the application sees nothing of it
  icmp,  // echo
  udp,   // a query whose answer gives a cookie back
  http,  // GET; a status of 200 to 399 is well
};

enum class UdpQuery : uint8_t {
  dns,   // a TXT query for a name that nobody has; any answer that repeats the question is well
  echo,  // 32 letters, that the answer begins with
};

// tcp, icmp and udp go the way that packets go (for ipip: through the tunnel), to the VIP of the
// pool's first service (in order of ServiceKey); to the backend's own address if the pool has none.
// http goes to the backend's own address, by the kernel's routes.
struct Probe {
  ProbeKind kind = ProbeKind::none;
  uint16_t port = 0;  // tcp, udp, http: 1 to 65535
  UdpQuery query = UdpQuery::dns;
  std::string path;            // http: "/healthz"; begins with a slash, 1 to 255 printable ASCII
  std::string host;            // http: the Host header; empty: the backend's address
  uint32_t interval_ms = 100;  // 1 to kProbeIntervalMax
  uint32_t timeout_ms = 100;   // 1 to kProbeIntervalMax; of one probe
  uint32_t fall = 3;           // 1 to 100: so many in a row without success, and it is down; a
                               // refused connection counts at once
  uint32_t rise = 2;           // 1 to 100: so many in a row with success, and it is up again
  bool operator==(const Probe&) const = default;
};

struct Pool {
  Forwarding forwarding = Forwarding::l2;
  uint32_t table_slots = 65537;  // a prime, kTableSlotsMin to GW_TABLE_SLOTS_MAX
  Probe probe;
  uint32_t slow_start_ms = 0;  // 0 to kSlowStartMax: how long a backend that comes (back)
                               // takes to get all its slots
  // gue: how long an earlier epoch stays at most, whoever may still have connections by it, in
  // seconds; 0: until the agents say that nobody has.
  uint32_t hold_s = 86'400;
  std::map<Address, Backend> backends;
  // gue: who owned, owns and will own which slot (pool_plan.h). Not the operator's to write.
  std::optional<ChangePlan> plan;
  bool operator==(const Pool&) const = default;
};

// Text: "203.0.113.10:443/tcp", "[2001:db8::10]:443/tcp"; all ports: "203.0.113.10/udp".
struct ServiceKey {
  Address vip;
  uint8_t protocol = 0;  // IPPROTO_TCP or IPPROTO_UDP
  uint16_t port = 0;     // host byte order; 0: all ports

  static Result<ServiceKey> parse(std::string_view text);
  std::string text() const;
  auto operator<=>(const ServiceKey&) const = default;  // the order of gw_root's services
};

struct Service {
  std::string pool;
  bool operator==(const Service&) const = default;
};

struct Intent {
  uint64_t revision = 0;
  uint64_t flow_seed = 0;
  std::map<std::string, Pool> pools;  // name: 1 to 63 of [A-Za-z0-9_.-], a letter or digit first
  std::map<ServiceKey, Service> services;
  bool operator==(const Intent&) const = default;
};

inline constexpr uint32_t kWeightMax = 65535;
inline constexpr uint32_t kTableSlotsMin = 251;
inline constexpr uint32_t kProbeIntervalMax = 60'000;  // ms
inline constexpr uint32_t kProbeCountMax = 100;        // of fall and rise
inline constexpr uint32_t kSlowStartMax = 3'600'000;   // ms
inline constexpr uint32_t kHoldMax = 31'536'000;       // s: a year

}  // namespace guideway
