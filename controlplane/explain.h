// SPDX-License-Identifier: Apache-2.0
// Where a flow goes, and why: the same hash, table and rules as the worker's, over the image that
// was made last.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/health.h"
#include "controlplane/image.h"
#include "controlplane/intent.h"
#include "controlplane/next_hops.h"
#include "controlplane/result.h"
#include "controlplane/status.h"

namespace guideway {

struct Endpoint {
  Address address;
  uint16_t port = 0;  // host byte order

  // "198.51.100.7:40000", "[2001:db8::7]:40000"
  static Result<Endpoint> parse(std::string_view text);
  std::string text() const;
};

struct ExplainedHop {
  std::string role;  // "owner", "stand-in", "earlier", "incoming", "spare"
  Address address;
  BackendState state = BackendState::up;
  bool takes = false;
  std::string reason;  // why it does not take the flow; empty if it does
};

struct Explanation {
  Endpoint client;
  ServiceKey service;  // the one that matched: perhaps that of all ports
  std::string pool;
  Forwarding forwarding = Forwarding::l2;
  uint64_t hash = 0;
  uint32_t slot = 0;
  uint32_t slots = 0;  // 0: the pool has no table, and no hops
  std::vector<ExplainedHop> hops;
  std::optional<Address> backend;  // none: the packet is dropped
  std::optional<NextHop> next_hop;
  uint64_t generation = 0;  // running in the dataplane
  uint64_t revision = 0;    // of the intent explained
  std::string why;
};

// What it goes by.
struct ExplainSource {
  const Intent& intent;
  const TableMap& tables;  // of that intent
  const Health& health;
  std::function<const NextHopState&(const Address&)> next_hop;
};

// Of a new flow: one that began while its slot was unsettled may be elsewhere, by the flow table.
// `asked` names the port of the packet (not 0). The error of an unknown service has the field
// "service". Generation is left to the caller.
Result<Explanation> explain(const Endpoint& client, const ServiceKey& asked,
                            const ExplainSource& source);

std::string write_explanation(const Explanation& explanation);

}  // namespace guideway
