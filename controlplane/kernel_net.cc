// SPDX-License-Identifier: Apache-2.0
#include "controlplane/kernel_net.h"

#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

#include <cerrno>
#include <cstring>

#include "controlplane/routes.h"

namespace guideway {
namespace {

uint8_t family_of(const Address& address) {
  return address.is_v4() ? AF_INET : AF_INET6;
}

std::optional<Mac> mac_of(const nlattr* attribute) {
  Mac mac;
  if (mnl_attr_get_payload_len(attribute) != mac.size()) return {};
  std::memcpy(mac.data(), mnl_attr_get_payload(attribute), mac.size());
  return mac;
}

uint32_t u32_of(const nlattr* attribute) {
  return mnl_attr_get_payload_len(attribute) == sizeof(uint32_t) ? mnl_attr_get_u32(attribute) : 0;
}

// RFC 5549: an IPv4 route whose gateway is IPv6.
std::optional<Address> via_of(const nlattr* attribute) {
  const auto* via = static_cast<const rtvia*>(mnl_attr_get_payload(attribute));
  const size_t bytes = mnl_attr_get_payload_len(attribute);
  if (bytes == sizeof(rtvia) + 16 && via->rtvia_family == AF_INET6)
    return Address::from_v6(via->rtvia_addr);
  if (bytes == sizeof(rtvia) + 4 && via->rtvia_family == AF_INET)
    return Address::from_v4(via->rtvia_addr);
  return {};
}

uint32_t mtu_of(const nlattr* metrics) {
  uint32_t mtu = 0;
  netlink_attributes(metrics, [&](uint16_t type, const nlattr* metric) {
    if (type == RTAX_MTU) mtu = u32_of(metric);
  });
  return mtu;
}

std::string lookup_error(const std::string& destination, int error) {
  switch (error) {
    case ENETUNREACH:
      return "no route to " + destination;
    case EHOSTUNREACH:
      return "the route to " + destination + " is unreachable";
    case EINVAL:
      return "the route to " + destination + " is a blackhole";
    case EACCES:
      return "the route to " + destination + " is prohibited";
    default:
      return "the route to " + destination + " cannot be looked up: " + std::strerror(error);
  }
}

// IPv4 answers an error where IPv6 answers a route of that type: one text for both.
std::string type_problem(const std::string& destination, uint8_t type) {
  switch (type) {
    case RTN_UNICAST:
      return {};
    case RTN_LOCAL:
      return destination + " is an address of this node";
    case RTN_BLACKHOLE:
      return lookup_error(destination, EINVAL);
    case RTN_UNREACHABLE:
      return lookup_error(destination, EHOSTUNREACH);
    case RTN_PROHIBIT:
      return lookup_error(destination, EACCES);
    default:
      return destination + " is not a unicast address";
  }
}

NetlinkRequest neighbour_request(uint16_t type, uint16_t flags, const NeighbourKey& key,
                                 uint8_t ndm_flags) {
  NetlinkRequest request(type, flags);
  auto* header = request.header<ndmsg>();
  header->ndm_family = family_of(key.address);
  header->ndm_ifindex = static_cast<int>(key.ifindex);
  header->ndm_flags = ndm_flags;
  request.put_address(NDA_DST, key.address);
  return request;
}

}  // namespace

bool KernelNeighbour::valid() const {
  constexpr uint16_t kValid =
      NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;
  return mac && (state & kValid) != 0;
}

bool KernelNeighbour::fixed() const {
  return (state & (NUD_PERMANENT | NUD_NOARP)) != 0;
}

std::optional<std::pair<unsigned, KernelLink>> parse_link(const nlmsghdr* message) {
  if (message->nlmsg_type != RTM_NEWLINK && message->nlmsg_type != RTM_DELLINK) return {};
  if (mnl_nlmsg_get_payload_len(message) < sizeof(ifinfomsg)) return {};
  const auto* header = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(message));
  if (header->ifi_family != AF_UNSPEC) return {};  // a bridge speaking of its port
  KernelLink link;
  link.up = (header->ifi_flags & IFF_UP) != 0 && (header->ifi_flags & IFF_RUNNING) != 0;
  link.ethernet = header->ifi_type == ARPHRD_ETHER;
  netlink_attributes(message, sizeof *header, [&](uint16_t type, const nlattr* attribute) {
    if (type == IFLA_IFNAME) link.name = mnl_attr_get_str(attribute);
    if (type == IFLA_MTU) link.mtu = u32_of(attribute);
    if (type == IFLA_ADDRESS) link.mac = mac_of(attribute).value_or(Mac{});
  });
  return std::pair{static_cast<unsigned>(header->ifi_index), link};
}

std::optional<std::pair<NeighbourKey, KernelNeighbour>> parse_neighbour(const nlmsghdr* message) {
  if (message->nlmsg_type != RTM_NEWNEIGH && message->nlmsg_type != RTM_DELNEIGH) return {};
  if (mnl_nlmsg_get_payload_len(message) < sizeof(ndmsg)) return {};
  const auto* header = static_cast<const ndmsg*>(mnl_nlmsg_get_payload(message));
  if (header->ndm_family != AF_INET && header->ndm_family != AF_INET6) return {};
  if (header->ndm_flags & NTF_PROXY) return {};
  std::optional<Address> address;
  KernelNeighbour neighbour;
  netlink_attributes(message, sizeof *header, [&](uint16_t type, const nlattr* attribute) {
    if (type == NDA_DST) address = netlink_address(attribute);
    if (type == NDA_LLADDR) neighbour.mac = mac_of(attribute);
    if (type == NDA_FLAGS_EXT) neighbour.managed = (u32_of(attribute) & NTF_EXT_MANAGED) != 0;
    if (type == NDA_PROTOCOL && mnl_attr_get_payload_len(attribute) == 1)
      neighbour.ours = mnl_attr_get_u8(attribute) == kRouteProtocol;
  });
  if (!address) return {};
  neighbour.state = header->ndm_state;
  if (message->nlmsg_type == RTM_DELNEIGH) neighbour = {};
  return std::pair{NeighbourKey{static_cast<unsigned>(header->ndm_ifindex), *address}, neighbour};
}

bool RoutePrefix::covers(const Address& one) const {
  const unsigned whole = bits / 8;
  if (std::memcmp(address.bytes.data(), one.bytes.data(), whole) != 0) return false;
  if (bits % 8 == 0) return true;
  const auto mask = static_cast<uint8_t>(0xff << (8 - bits % 8));
  return ((address.bytes[whole] ^ one.bytes[whole]) & mask) == 0;
}

std::optional<RoutePrefix> parse_route_prefix(const nlmsghdr* message) {
  const bool is_route = message->nlmsg_type == RTM_NEWROUTE || message->nlmsg_type == RTM_DELROUTE;
  if (!is_route || mnl_nlmsg_get_payload_len(message) < sizeof(rtmsg)) return {};
  const auto* header = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(message));
  const bool v4 = header->rtm_family == AF_INET;
  if (!v4 && header->rtm_family != AF_INET6) return {};
  if (header->rtm_dst_len > (v4 ? 32 : 128)) return {};
  const uint8_t zeros[16] = {};
  RoutePrefix prefix{v4 ? Address::from_v4(zeros) : Address::from_v6(zeros),
                     header->rtm_dst_len + (v4 ? 96u : 0u)};
  netlink_attributes(message, sizeof *header, [&](uint16_t type, const nlattr* attribute) {
    if (type != RTA_DST) return;
    if (const auto address = netlink_address(attribute)) prefix.address = *address;
  });
  return prefix;
}

KernelRoute parse_route(const Address& destination, int error, const nlmsghdr* message) {
  KernelRoute route;
  if (error != 0 || !message || mnl_nlmsg_get_payload_len(message) < sizeof(rtmsg)) {
    route.problem = lookup_error(destination.text(), error != 0 ? error : EBADMSG);
    return route;
  }
  const auto* header = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(message));
  route.problem = type_problem(destination.text(), header->rtm_type);
  netlink_attributes(message, sizeof *header, [&](uint16_t type, const nlattr* attribute) {
    if (type == RTA_OIF) route.ifindex = u32_of(attribute);
    if (type == RTA_GATEWAY) route.gateway = netlink_address(attribute);
    if (type == RTA_VIA) route.gateway = via_of(attribute);
    if (type == RTA_PREFSRC) route.source = netlink_address(attribute);
    if (type == RTA_METRICS) route.mtu = mtu_of(attribute);
  });
  return route;
}

bool is_passing(int error) {
  return error == ENOBUFS || error == ENOMEM || error == EAGAIN || error == EINTR;
}

NetlinkRequest link_dump() {
  NetlinkRequest request(RTM_GETLINK, 0);
  request.header<ifinfomsg>();
  return request;
}

NetlinkRequest neighbour_dump() {
  NetlinkRequest request(RTM_GETNEIGH, 0);
  request.header<ndmsg>();
  return request;
}

NetlinkRequest neighbour_query(const NeighbourKey& key) {
  return neighbour_request(RTM_GETNEIGH, 0, key, 0);
}

NetlinkRequest neighbour_use(const NeighbourKey& key, bool managed) {
  auto request =
      neighbour_request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK, key, NTF_USE);
  request.put_u8(NDA_PROTOCOL, kRouteProtocol);
  if (managed) request.put_u32(NDA_FLAGS_EXT, NTF_EXT_MANAGED);
  return request;
}

NetlinkRequest route_query(const Address& destination) {
  NetlinkRequest request(RTM_GETROUTE, 0);
  auto* header = request.header<rtmsg>();
  header->rtm_family = family_of(destination);
  header->rtm_dst_len = destination.is_v4() ? 32 : 128;
  request.put_address(RTA_DST, destination);
  return request;
}

}  // namespace guideway
