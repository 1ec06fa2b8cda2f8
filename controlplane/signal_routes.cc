// SPDX-License-Identifier: Apache-2.0
#include "controlplane/signal_routes.h"

#include <linux/rtnetlink.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "controlplane/kernel_route.h"

namespace guideway {
namespace {

constexpr auto kTryAgain = std::chrono::seconds(1);
constexpr uint8_t kFamilies[] = {AF_INET, AF_INET6};

tl::unexpected<Error> fail_with(uint8_t family, const std::string& what, int error) {
  return fail(family == AF_INET ? "announcements (IPv4)" : "announcements (IPv6)",
              what + ": " + std::strerror(error));
}

// Not, for instance, IPv6 after a boot with ipv6.disable=1; IPv4 says ENOENT of a table that does
// not exist yet.
bool means_none(int error) {
  return error == ENOENT || error == EAFNOSUPPORT || error == EOPNOTSUPP;
}

Result<std::vector<TableRoute>> our_routes(NetlinkSocket& socket, uint8_t family, unsigned table) {
  std::vector<TableRoute> routes;
  NetlinkRequest dump = dump_our_routes(family, table);
  const int error = socket.dump(dump, [&](const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWROUTE) return;
    TableRoute route = table_route(message);
    if (route.table == table && route.protocol == kRouteProtocol) routes.push_back(route);
  });
  if (error != 0 && !means_none(error)) {
    return fail_with(family, "cannot read the kernel's routes", error);
  }
  return routes;
}

}  // namespace

Result<std::unique_ptr<SignalRoutes>> SignalRoutes::create(EventLoop& loop, const Config& config) {
  std::unique_ptr<SignalRoutes> routes(new SignalRoutes(loop, config));
  auto requests = NetlinkSocket::open({});
  if (!requests) return tl::unexpected(requests.error());
  auto events = NetlinkSocket::open({RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE});
  if (!events) return tl::unexpected(events.error());
  routes->requests_ = std::move(*requests);
  routes->events_ = std::move(*events);
  auto watched = loop.watch(routes->events_.fd(), EPOLLIN,
                            [self = routes.get()](uint32_t) { self->on_events(); });
  if (!watched) return tl::unexpected(watched.error());
  return routes;
}

SignalRoutes::~SignalRoutes() {
  loop_.cancel(timer_);
  loop_.unwatch(events_.fd());
}

Result<SignalRoutes::Metrics> SignalRoutes::read() {
  Metrics out;
  for (const uint8_t family : kFamilies) {
    auto routes = our_routes(requests_, family, config_.table);
    if (!routes) return tl::unexpected(routes.error());
    for (const TableRoute& route : *routes) {
      if (!route.is_blackhole_of_host()) continue;
      auto [entry, is_new] = out.emplace(*route.destination, route.metric);
      if (!is_new) entry->second = std::min(entry->second, route.metric);
    }
  }
  return out;
}

Result<void> SignalRoutes::set(const Metrics& wanted) {
  wanted_ = wanted;
  repairs_ = true;
  return reconcile();
}

void SignalRoutes::pause() {
  repairs_ = false;
  loop_.cancel(std::exchange(timer_, 0));
}

void SignalRoutes::on_events() {
  bool ours = false;
  const auto read = events_.read([&](const nlmsghdr* message) { ours |= concerns_us(message); });
  if (read == NetlinkSocket::Read::broken) {
    loop_.unwatch(events_.fd());
    problem_ = "cannot watch the kernel's routes any more";
    return;
  }
  if (repairs_ && (ours || read == NetlinkSocket::Read::overflow)) schedule(config_.settle);
}

// Also a route of somebody else's that stands where ours should: its end is news. Our own additions
// are heard as well; reconciling once more after them finds nothing to do.
bool SignalRoutes::concerns_us(const nlmsghdr* message) const {
  if (message->nlmsg_type != RTM_NEWROUTE && message->nlmsg_type != RTM_DELROUTE) return false;
  if (mnl_nlmsg_get_payload_len(message) < sizeof(rtmsg)) return false;
  const TableRoute route = table_route(message);
  return route.table == config_.table &&
         (route.protocol == kRouteProtocol ||
          (route.destination && wanted_.count(*route.destination) != 0));
}

void SignalRoutes::schedule(EventLoop::Clock::duration delay) {
  if (timer_ != 0) return;
  timer_ = loop_.after(delay, [this] {
    timer_ = 0;
    [[maybe_unused]] const auto ok = reconcile();  // problem() has it
  });
}

Result<void> SignalRoutes::reconcile() {
  Result<void> result;
  for (const uint8_t family : kFamilies) {
    if (auto ok = reconcile(family); !ok && result) result = ok;
  }
  problem_ = result ? "" : result.error().text();
  if (!result) schedule(kTryAgain);
  return result;
}

Result<void> SignalRoutes::reconcile(uint8_t family) {
  auto routes = our_routes(requests_, family, config_.table);
  if (!routes) return tl::unexpected(routes.error());
  Metrics missing;
  for (const auto& [vip, metric] : wanted_) {
    if (route_family(vip) == family) missing.emplace(vip, metric);
  }
  std::vector<TableRoute> surplus;
  for (const TableRoute& route : *routes) {
    auto entry = route.is_blackhole_of_host() ? missing.find(*route.destination) : missing.end();
    if (entry != missing.end() && entry->second == route.metric) {
      missing.erase(entry);
    } else {
      surplus.push_back(route);
    }
  }
  // The new one first: a metric changes without a moment of neither.
  std::vector<NetlinkRequest> changes;
  std::vector<Address> changed;
  for (const auto& [vip, metric] : missing) {
    changes.push_back(add_blackhole(vip, config_.table, metric));
    changed.push_back(vip);
  }
  for (const TableRoute& route : surplus) {
    changes.push_back(delete_route(route));
    changed.push_back(route.destination.value_or(Address{}));
  }
  Result<void> result;
  const int lost = requests_.ask(changes, [&](size_t i, int error, const nlmsghdr*) {
    if (error == 0 || error == ESRCH || !result) return;  // ESRCH: somebody else deleted it
    result = fail_with(family, "cannot set the route of " + changed[i].text(), error);
  });
  if (lost != 0 && result) result = fail_with(family, "cannot set the routes", lost);
  return result;
}

Result<size_t> withdraw_signal_routes(unsigned table) {
  auto socket = NetlinkSocket::open({});
  if (!socket) return tl::unexpected(socket.error());
  size_t count = 0;
  Result<void> result;
  for (const uint8_t family : kFamilies) {
    auto routes = our_routes(*socket, family, table);
    if (!routes) return tl::unexpected(routes.error());
    std::vector<NetlinkRequest> changes;
    for (const TableRoute& route : *routes) changes.push_back(delete_route(route));
    const int lost = socket->ask(changes, [&](size_t, int error, const nlmsghdr*) {
      if (error == 0) ++count;
      if (error == 0 || error == ESRCH || !result) return;
      result = fail_with(family, "cannot delete a route", error);
    });
    if (lost != 0 && result) result = fail_with(family, "cannot delete the routes", lost);
  }
  if (!result) return tl::unexpected(result.error());
  return count;
}

}  // namespace guideway
