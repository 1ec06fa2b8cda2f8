// SPDX-License-Identifier: Apache-2.0
#include "controlplane/kernel_route.h"

#include <linux/rtnetlink.h>
#include <sys/socket.h>

namespace guideway {
namespace {

uint8_t host_bits(uint8_t family) {
  return family == AF_INET ? 32 : 128;
}

}  // namespace

bool TableRoute::is_blackhole_of_host() const {
  return type == RTN_BLACKHOLE && bits == host_bits(family) && destination.has_value();
}

TableRoute table_route(const nlmsghdr* message) {
  TableRoute route;
  const auto* header = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(message));
  route.family = header->rtm_family;
  route.table = header->rtm_table;
  route.bits = header->rtm_dst_len;
  route.protocol = header->rtm_protocol;
  route.type = header->rtm_type;
  netlink_attributes(message, sizeof *header, [&](uint16_t type, const nlattr* attribute) {
    if (type == RTA_TABLE) route.table = mnl_attr_get_u32(attribute);
    if (type == RTA_DST) route.destination = netlink_address(attribute);
    if (type == RTA_PRIORITY) route.metric = mnl_attr_get_u32(attribute);
  });
  return route;
}

uint8_t route_family(const Address& address) {
  return address.is_v4() ? AF_INET : AF_INET6;
}

NetlinkRequest add_blackhole(const Address& vip, unsigned table, uint32_t metric) {
  NetlinkRequest request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
  const uint8_t family = route_family(vip);
  auto* header = request.header<rtmsg>();
  header->rtm_family = family;
  header->rtm_dst_len = host_bits(family);
  header->rtm_protocol = kRouteProtocol;
  header->rtm_scope = RT_SCOPE_UNIVERSE;
  header->rtm_type = RTN_BLACKHOLE;
  request.put_address(RTA_DST, vip);
  request.put_u32(RTA_TABLE, table);
  if (metric != 0) request.put_u32(RTA_PRIORITY, metric);
  return request;
}

NetlinkRequest delete_route(const TableRoute& route) {
  NetlinkRequest request(RTM_DELROUTE, NLM_F_ACK);
  auto* header = request.header<rtmsg>();
  header->rtm_family = route.family;
  header->rtm_dst_len = route.bits;
  header->rtm_protocol = kRouteProtocol;
  header->rtm_scope = RT_SCOPE_NOWHERE;  // of any scope
  header->rtm_type = route.type;
  if (route.destination) request.put_address(RTA_DST, *route.destination);
  request.put_u32(RTA_TABLE, route.table);
  if (route.metric != 0) request.put_u32(RTA_PRIORITY, route.metric);
  return request;
}

NetlinkRequest dump_our_routes(uint8_t family, unsigned table) {
  NetlinkRequest dump(RTM_GETROUTE, 0);
  auto* header = dump.header<rtmsg>();
  header->rtm_family = family;
  // The kernel filters: table main may hold a million routes of others.
  header->rtm_protocol = kRouteProtocol;
  dump.put_u32(RTA_TABLE, table);
  return dump;
}

}  // namespace guideway
