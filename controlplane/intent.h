// SPDX-License-Identifier: Apache-2.0
// The intent: what the operator asked for. Services, pools, backends, weights; nothing observed,
// nothing of one machine alone. A revision numbers its states. Everything that the dataplane's
// tables hold is a pure function of this.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/result.h"
#include "dataplane/address.h"

namespace guideway {

enum class Forwarding : uint8_t { l2, ipip };

struct Backend {
  uint32_t weight = 100;  // 0 to kWeightMax; its share of slots is weight / sum; 0: no slots
  bool operator==(const Backend&) const = default;
};

struct Pool {
  Forwarding forwarding = Forwarding::l2;
  uint32_t table_slots = 65537;         // a prime, kTableSlotsMin to GW_TABLE_SLOTS_MAX
  std::map<Address, Backend> backends;  // in order of address: the pool-local index
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

}  // namespace guideway
