// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/agent_checks.h"

#include <ifaddrs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>

#include "bpf/gue.h"
#include "controlplane/netlink.h"
#include "controlplane/unique_fd.h"

namespace guideway::cli {

namespace {

constexpr unsigned kOuterV4 = 20;
constexpr unsigned kOuterV6 = 40;
constexpr unsigned kUdp = 8;
constexpr unsigned kInternetMtu = 1500;  // what a client's own packets are at most

// TCP and IP header, as the MSS counts them (RFC 9293 section 3.7.1).
unsigned headers_of(bool v4) {
  return v4 ? 40 : 60;
}

unsigned read_number(const std::string& path) {
  unsigned value = 0;
  std::ifstream(path) >> value;
  return value;
}

// The kernel goes by the larger of the two.
unsigned effective(const std::string& interface, const char* setting) {
  const std::string conf = "/proc/sys/net/ipv4/conf/";
  return std::max(read_number(conf + "all/" + setting),
                  read_number(conf + interface + "/" + setting));
}

// Not from /sys, which shows the namespace that it was mounted in.
unsigned mtu_of(const std::string& interface) {
  UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  interface.copy(request.ifr_name, IFNAMSIZ - 1);
  return ioctl(any.get(), SIOCGIFMTU, &request) == 0 ? static_cast<unsigned>(request.ifr_mtu) : 0;
}

bool v4_on_loopback() {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return false;
  std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, freeifaddrs);
  for (const ifaddrs* one = list; one; one = one->ifa_next) {
    if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET) continue;
    if ((one->ifa_flags & IFF_LOOPBACK) == 0) continue;
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(one->ifa_addr);
    if (ntohl(v4->sin_addr.s_addr) >> 24 != IN_LOOPBACKNET) return true;
  }
  return false;
}

// Not a default route of the main table: nothing.
std::optional<DefaultRoute> default_route(const nlmsghdr* message) {
  const auto* route = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(message));
  if (message->nlmsg_type != RTM_NEWROUTE || route->rtm_dst_len != 0 ||
      route->rtm_type != RTN_UNICAST)
    return {};
  DefaultRoute found{.v4 = route->rtm_family == AF_INET};
  uint32_t table = route->rtm_table;
  netlink_attributes(message, sizeof *route, [&](uint16_t type, const nlattr* attribute) {
    if (type == RTA_TABLE) table = mnl_attr_get_u32(attribute);
    if (type == RTA_OIF) found.interface_index = mnl_attr_get_u32(attribute);
    if (type != RTA_METRICS) return;
    netlink_attributes(attribute, [&](uint16_t metric, const nlattr* value) {
      if (metric == RTAX_ADVMSS) found.advmss = mnl_attr_get_u32(value);
    });
  });
  if (table != RT_TABLE_MAIN) return {};
  char name[IF_NAMESIZE];
  if (if_indextoname(found.interface_index, name)) found.mtu = mtu_of(name);
  return found;
}

Result<std::vector<DefaultRoute>> default_routes() {
  Result<NetlinkSocket> socket = NetlinkSocket::open({});
  if (!socket) return tl::unexpected(socket.error());
  std::vector<DefaultRoute> routes;
  for (uint8_t family : {AF_INET, AF_INET6}) {
    NetlinkRequest request(RTM_GETROUTE, NLM_F_DUMP);
    request.header<rtmsg>()->rtm_family = family;
    int error = socket->dump(request, [&](const nlmsghdr* message) {
      if (auto route = default_route(message)) routes.push_back(*route);
    });
    if (error != 0) return fail("", "reading routes: " + std::string(std::strerror(error)));
  }
  return routes;
}

std::string bytes(unsigned count) {
  return std::to_string(count);
}

// A segment too long for the tunnel costs its connection a round trip: the node drops it and
// tells the client by ICMP, if that gets through at all.
std::optional<Warning> segment_warning(const BackendFacts& facts, const DefaultRoute& route,
                                       unsigned outer) {
  unsigned headers = headers_of(route.v4);
  if (facts.mtu >= kInternetMtu + outer || facts.mtu < headers + outer) return {};
  unsigned fits = facts.mtu - outer - headers;
  unsigned asked = route.advmss != 0 ? route.advmss : route.mtu - std::min(route.mtu, headers);
  if (asked <= fits) return {};
  const std::string ip = route.v4 ? "ip" : "ip -6";
  return Warning{
      "clients are asked for TCP segments of " + bytes(asked) + " bytes over IPv" +
          (route.v4 ? "4" : "6") + ", but " + bytes(fits) + " fit through the tunnel into MTU " +
          bytes(facts.mtu) + " of " + facts.interface,
      ip + " route change $(" + ip + " route show default | head -n 1) advmss " + bytes(fits)};
}

std::vector<Warning> prefix_warnings(const std::vector<Prefix>& allowed) {
  std::vector<Warning> warnings;
  for (const Prefix& prefix : allowed) {
    bool v4 = prefix.address.is_v4();
    // Shorter than any block that one operator could own.
    if (v4 ? prefix.bits >= 96 + 8 : prefix.bits >= 16) continue;
    warnings.push_back({prefix.text() + " is as good as everybody: whoever is in it can send this "
                                        "host packets with any source",
                        "use --allow with the nodes' own network"});
  }
  return warnings;
}

}  // namespace

Result<BackendFacts> backend_facts(const std::string& interface) {
  BackendFacts facts;
  facts.interface = interface;
  facts.interface_index = if_nametoindex(interface.c_str());
  facts.mtu = mtu_of(interface);
  facts.rp_filter = effective(interface, "rp_filter");
  facts.arp_ignore = effective(interface, "arp_ignore");
  facts.v4_on_loopback = v4_on_loopback();
  Result<std::vector<DefaultRoute>> routes = default_routes();
  if (!routes) return tl::unexpected(routes.error());
  facts.routes = std::move(*routes);
  return facts;
}

std::vector<Warning> backend_warnings(const BackendFacts& facts, const std::vector<Prefix>& allowed,
                                      bool asked) {
  std::vector<Warning> warnings = prefix_warnings(allowed);
  const std::string conf = "sysctl -w net/ipv4/conf/";

  bool replies_here =
      std::any_of(facts.routes.begin(), facts.routes.end(), [&](const DefaultRoute& route) {
        return route.v4 && route.interface_index == facts.interface_index;
      });
  if (facts.rp_filter == 1 && !replies_here)
    warnings.push_back(
        {"strict rp_filter drops clients' IPv4 packets: the default route does not "
         "leave by " +
             facts.interface,
         conf + facts.interface + "/rp_filter=2"});

  if (facts.v4_on_loopback && facts.arp_ignore == 0)
    warnings.push_back({"this host answers ARP for the VIPs on lo, in the nodes' place",
                        conf + "all/arp_ignore=1 net/ipv4/conf/all/arp_announce=2"});

  const bool outer_v6 = std::any_of(allowed.begin(), allowed.end(),
                                    [](const Prefix& prefix) { return !prefix.address.is_v4(); });
  // Nodes ask the agents of `gue` pools.
  const unsigned list = asked ? kUdp + gw_gue_bytes(outer_v6 ? 6 : 4, GW_GUE_HOPS_MAX) : 0;
  for (const DefaultRoute& route : facts.routes) {
    if (auto warning = segment_warning(facts, route, (outer_v6 ? kOuterV6 : kOuterV4) + list))
      warnings.push_back(*warning);
  }
  return warnings;
}

}  // namespace guideway::cli
