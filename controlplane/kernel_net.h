// SPDX-License-Identifier: Apache-2.0
// What rtnetlink says of links, neighbours and routes, as values; and the requests that ask. Pure
// functions on messages, no state.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "controlplane/netlink.h"
#include "dataplane/address.h"
#include "dataplane/headers.h"

namespace guideway {

struct KernelLink {
  std::string name;
  Mac mac{};
  uint32_t mtu = 0;
  bool up = false;  // by the administrator, and the carrier is there
  bool ethernet = false;
  bool operator==(const KernelLink&) const = default;
};

struct NeighbourKey {
  unsigned ifindex = 0;
  Address address;
  auto operator<=>(const NeighbourKey&) const = default;
};

struct KernelNeighbour {
  uint16_t state = 0;  // NUD_*; 0: the kernel has no entry
  std::optional<Mac> mac;
  bool managed = false;  // the kernel keeps it resolved, for whomever
  bool ours = false;     // made by Guideway (kRouteProtocol)

  // It has a link-layer address that may be used.
  bool valid() const;
  // Set by an administrator, or never in need of resolution: not to be touched.
  bool fixed() const;
};

struct KernelRoute {
  std::string problem;  // why packets cannot take it; empty: the rest holds
  unsigned ifindex = 0;
  std::optional<Address> gateway;
  std::optional<Address> source;  // what the kernel would choose
  uint32_t mtu = 0;               // 0: the link's
};

// RTM_NEWLINK and RTM_DELLINK: the ifindex and the link. Nothing if it is another message.
std::optional<std::pair<unsigned, KernelLink>> parse_link(const nlmsghdr* message);

// RTM_NEWNEIGH and RTM_DELNEIGH (state 0) of IP neighbours, proxies excepted.
std::optional<std::pair<NeighbourKey, KernelNeighbour>> parse_neighbour(const nlmsghdr* message);

// The addresses that a route is for: those whose first `bits` (0 to 128; an IPv4 prefix counts 96
// more) are those of `address`.
struct RoutePrefix {
  Address address;
  unsigned bits = 0;
  bool covers(const Address& one) const;
};
// RTM_NEWROUTE and RTM_DELROUTE of unicast routing, of any table. Nothing if it is another message.
std::optional<RoutePrefix> parse_route_prefix(const nlmsghdr* message);

// The answer to route_query(): `error` as of NetlinkSocket::ask, one that is_passing() excepted.
KernelRoute parse_route(const Address& destination, int error, const nlmsghdr* message);

// Says nothing on what was asked, only that the kernel could not answer now.
bool is_passing(int error);

NetlinkRequest link_dump();
NetlinkRequest neighbour_dump();
NetlinkRequest neighbour_query(const NeighbourKey& key);
// Makes the kernel resolve the neighbour now (NTF_USE) and, if `managed`, keep it resolved. Bears
// kRouteProtocol.
NetlinkRequest neighbour_use(const NeighbourKey& key, bool managed);
// The kernel's own lookup for a packet from this node.
NetlinkRequest route_query(const Address& destination);

}  // namespace guideway
