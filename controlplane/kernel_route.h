// SPDX-License-Identifier: Apache-2.0
// Kernel routes of Guideway's kind, `blackhole VIP` with our protocol number, as netlink messages.
// Two parts need them: routes.h (VIP packets that reach the kernel are dropped) and
// signal_routes.h (what BGP announces).
#pragma once

#include <cstdint>
#include <optional>

#include "controlplane/netlink.h"
#include "dataplane/address.h"

namespace guideway {

// Guideway's number among routing protocols (rtnetlink's rtm_protocol; /etc/iproute2/rt_protos):
// what bears it was made by Guideway.
inline constexpr uint8_t kRouteProtocol = 203;

// What a route's message says of it.
struct TableRoute {
  uint8_t family = 0;
  unsigned table = 0;
  uint8_t bits = 0;  // of the destination
  uint8_t protocol = 0;
  uint8_t type = 0;
  uint32_t metric = 0;  // 0: none (IPv4 only; the kernel gives IPv6 routes 1024)
  std::optional<Address> destination;

  bool is_blackhole_of_host() const;
};

// `message` is of RTM_NEWROUTE or RTM_DELROUTE and holds at least an rtmsg.
TableRoute table_route(const nlmsghdr* message);

uint8_t route_family(const Address& address);  // AF_INET or AF_INET6

// With acknowledgement, and refused (EEXIST) if there is any route of this destination and metric.
// Metric 0: the kernel's default.
NetlinkRequest add_blackhole(const Address& vip, unsigned table, uint32_t metric = 0);
// With acknowledgement. Only a route with our protocol number fits.
NetlinkRequest delete_route(const TableRoute& route);
// A dump of our routes in one table.
NetlinkRequest dump_our_routes(uint8_t family, unsigned table);

}  // namespace guideway
