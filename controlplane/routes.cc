// SPDX-License-Identifier: Apache-2.0
#include "controlplane/routes.h"

#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

namespace guideway {
namespace {

constexpr auto kTryAgain = std::chrono::seconds(1);

NetlinkRequest rule_request(uint16_t type, uint16_t flags, uint8_t family, unsigned table,
                            unsigned priority) {
  NetlinkRequest request(type, flags);
  auto* header = request.header<fib_rule_hdr>();
  header->family = family;
  header->action = FR_ACT_TO_TBL;
  request.put_u32(FRA_TABLE, table);
  request.put_u32(FRA_PRIORITY, priority);
  request.put_u8(FRA_PROTOCOL, kRouteProtocol);
  return request;
}

struct Rule {
  unsigned table = 0;
  unsigned priority = 0;
  uint8_t protocol = 0;
  bool from_all = true;  // no selector at all

  bool is_wanted(const Routes::Config& config) const {
    return from_all && table == config.table && priority == config.rule_priority;
  }
};

Rule rule_of(const nlmsghdr* message) {
  Rule rule;
  const auto* header = static_cast<const fib_rule_hdr*>(mnl_nlmsg_get_payload(message));
  rule.table = header->table;
  rule.from_all = header->src_len == 0 && header->dst_len == 0 && header->tos == 0 &&
                  header->action == FR_ACT_TO_TBL && (header->flags & FIB_RULE_INVERT) == 0;
  netlink_attributes(message, sizeof *header, [&](uint16_t type, const nlattr* attribute) {
    switch (type) {
      case FRA_TABLE:
        rule.table = mnl_attr_get_u32(attribute);
        break;
      case FRA_PRIORITY:
        rule.priority = mnl_attr_get_u32(attribute);
        break;
      case FRA_PROTOCOL:
        rule.protocol = mnl_attr_get_u8(attribute);
        break;
      case FRA_FWMARK:
      case FRA_IIFNAME:
      case FRA_OIFNAME:
      case FRA_UID_RANGE:
      case FRA_IP_PROTO:
      case FRA_SPORT_RANGE:
      case FRA_DPORT_RANGE:
        rule.from_all = false;
        break;
      default:
        break;
    }
  });
  return rule;
}

tl::unexpected<Error> fail_with(uint8_t family, const std::string& what, int error) {
  return fail(family == AF_INET ? "routes (IPv4)" : "routes (IPv6)",
              what + ": " + std::strerror(error));
}

}  // namespace

Result<std::unique_ptr<Routes>> Routes::create(EventLoop& loop, const Config& config) {
  std::unique_ptr<Routes> routes(new Routes(loop, config));
  auto requests = NetlinkSocket::open({});
  if (!requests) return tl::unexpected(requests.error());
  auto events = NetlinkSocket::open(
      {RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE});
  if (!events) return tl::unexpected(events.error());
  routes->requests_ = std::move(*requests);
  routes->events_ = std::move(*events);
  auto watched = loop.watch(routes->events_.fd(), EPOLLIN,
                            [self = routes.get()](uint32_t) { self->on_events(); });
  if (!watched) return tl::unexpected(watched.error());
  return routes;
}

Routes::~Routes() {
  loop_.cancel(timer_);
  loop_.unwatch(events_.fd());
}

Result<void> Routes::set(const std::set<Address>& vips) {
  vips_ = vips;
  started_ = true;
  return reconcile();
}

void Routes::on_events() {
  bool ours = false;
  const auto read = events_.read([&](const nlmsghdr* message) { ours |= concerns_us(message); });
  if (read == NetlinkSocket::Read::broken) {
    loop_.unwatch(events_.fd());
    problem_ = "cannot watch the kernel's routes any more";
    return;
  }
  if (started_ && (ours || read == NetlinkSocket::Read::overflow)) schedule(config_.settle);
}

// Our own additions are heard as well; reconciling once more after them finds nothing to do.
bool Routes::concerns_us(const nlmsghdr* message) const {
  switch (message->nlmsg_type) {
    case RTM_NEWRULE:
    case RTM_DELRULE: {
      if (mnl_nlmsg_get_payload_len(message) < sizeof(fib_rule_hdr)) return false;
      const Rule rule = rule_of(message);
      return rule.table == config_.table || rule.priority == config_.rule_priority;
    }
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return mnl_nlmsg_get_payload_len(message) >= sizeof(rtmsg) &&
             table_route(message).table == config_.table;
    default:
      return false;
  }
}

void Routes::schedule(EventLoop::Clock::duration delay) {
  if (timer_ != 0) return;
  timer_ = loop_.after(delay, [this] {
    timer_ = 0;
    [[maybe_unused]] const auto ok = reconcile();  // problem() has it
  });
}

Result<void> Routes::reconcile() {
  Result<void> result;
  for (const uint8_t family : {uint8_t{AF_INET}, uint8_t{AF_INET6}}) {
    if (!has_vips(family) && !kernel_has(family)) continue;
    // Routes first: a VIP is never looked up in a table that lacks it.
    if (auto ok = reconcile_routes(family); !ok && result) result = ok;
    if (auto ok = reconcile_rule(family); !ok && result) result = ok;
  }
  problem_ = result ? "" : result.error().text();
  if (!result) schedule(kTryAgain);
  return result;
}

bool Routes::has_vips(uint8_t family) const {
  return std::any_of(vips_.begin(), vips_.end(),
                     [&](const Address& vip) { return route_family(vip) == family; });
}

// Not, for instance, IPv6 after a boot with ipv6.disable=1.
bool Routes::kernel_has(uint8_t family) {
  NetlinkRequest dump(RTM_GETRULE, 0);
  dump.header<fib_rule_hdr>()->family = family;
  const int error = requests_.dump(dump, [](const nlmsghdr*) {});
  return error != EAFNOSUPPORT && error != EOPNOTSUPP;
}

Result<void> Routes::reconcile_rule(uint8_t family) {
  NetlinkRequest dump(RTM_GETRULE, 0);
  dump.header<fib_rule_hdr>()->family = family;
  bool found = false;
  std::vector<Rule> left_over;  // of another configuration
  const int unread = requests_.dump(dump, [&](const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWRULE) return;
    const Rule rule = rule_of(message);
    if (rule.is_wanted(config_)) {
      found = true;
    } else if (rule.protocol == kRouteProtocol) {
      left_over.push_back(rule);
    }
  });
  if (unread != 0) return fail_with(family, "cannot read the rules", unread);
  if (!found) {
    auto add = rule_request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, family, config_.table,
                            config_.rule_priority);
    if (const int error = requests_.change(add); error != 0)
      return fail_with(family, "cannot add the rule", error);
  }
  for (const Rule& rule : left_over) {
    auto remove = rule_request(RTM_DELRULE, 0, family, rule.table, rule.priority);
    const int error = requests_.change(remove);
    if (error != 0 && error != ENOENT) return fail_with(family, "cannot delete an old rule", error);
  }
  return {};
}

Result<void> Routes::reconcile_routes(uint8_t family) {
  NetlinkRequest dump = dump_our_routes(family, config_.table);
  std::set<Address> missing;
  for (const Address& vip : vips_) {
    if (route_family(vip) == family) missing.insert(vip);
  }
  std::vector<NetlinkRequest> changes;
  std::vector<Address> changed;
  const int unread = requests_.dump(dump, [&](const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWROUTE) return;
    const TableRoute route = table_route(message);
    if (route.table != config_.table || route.protocol != kRouteProtocol) return;
    if (route.is_blackhole_of_host() && missing.erase(*route.destination) > 0) return;
    changes.push_back(delete_route(route));
    changed.push_back(route.destination.value_or(Address{}));
  });
  // IPv4 says ENOENT when the table does not exist yet.
  if (unread != 0 && unread != ENOENT) return fail_with(family, "cannot read the routes", unread);
  for (const Address& vip : missing) {
    changes.push_back(add_blackhole(vip, config_.table));
    changed.push_back(vip);
  }
  Result<void> result;
  const int lost = requests_.ask(changes, [&](size_t i, int error, const nlmsghdr*) {
    if (error == 0 || error == ESRCH || !result) return;  // ESRCH: somebody else deleted it
    result = fail_with(family, "cannot set the blackhole of " + changed[i].text(), error);
  });
  if (lost != 0 && result) result = fail_with(family, "cannot set the blackholes", lost);
  return result;
}

}  // namespace guideway
