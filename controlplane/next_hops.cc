// SPDX-License-Identifier: Apache-2.0
#include "controlplane/next_hops.h"

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace guideway {
namespace {

// Where routes never rest (a full BGP table), looking again takes at most a tenth of the time.
constexpr int kRestPerLookup = 9;
constexpr size_t kRoutesTogether = 64;  // more changes than that are a change of all

const NextHopState kUnknown{.hop = {}, .reason = "not looked up yet"};

NeighbourKey neighbour_of(const Address& backend, const KernelRoute& route) {
  return {route.ifindex, route.gateway.value_or(backend)};
}

}  // namespace

std::string mac_text(const Mac& mac) {
  char text[18];
  std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
                mac[4], mac[5]);
  return text;
}

NextHops::NextHops(EventLoop& loop, const Config& config, ChangeCallback on_change)
    : loop_(loop),
      config_(config),
      on_change_(std::move(on_change)),
      managed_works_(config.managed) {}

NextHops::~NextHops() {
  loop_.cancel(settled_timer_);
  loop_.cancel(links_timer_);
  loop_.cancel(routes_timer_);
  loop_.cancel(poke_timer_);
  loop_.unwatch(events_.fd());
}

Result<std::unique_ptr<NextHops>> NextHops::create(EventLoop& loop, const Config& config,
                                                   ChangeCallback on_change) {
  std::unique_ptr<NextHops> hops(new NextHops(loop, config, std::move(on_change)));
  if (auto ok = hops->open(); !ok) return tl::unexpected(ok.error());
  return hops;
}

Result<void> NextHops::open() {
  auto requests = NetlinkSocket::open({});
  if (!requests) return tl::unexpected(requests.error());
  requests_ = std::move(*requests);
  // Subscribed before anything is read, so that no change falls in between.
  auto events = NetlinkSocket::open({RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_ROUTE,
                                     RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE,
                                     RTNLGRP_NEXTHOP, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR});
  if (!events) return tl::unexpected(events.error());
  events_ = std::move(*events);
  if (auto ok = read_kernel(); !ok) return ok;
  poke_timer_ = loop_.every(config_.poke, [this] { poke(); });
  return loop_.watch(events_.fd(), EPOLLIN, [this](uint32_t) { on_events(); });
}

Result<void> NextHops::read_kernel() {
  stale_ = true;
  std::set<unsigned> present;
  auto link_request = link_dump();
  int error = requests_.dump(link_request, [&](const nlmsghdr* message) {
    const auto link = parse_link(message);
    if (!link) return;
    take_link(link->first, link->second);
    present.insert(link->first);
  });
  if (error == 0)
    std::erase_if(links_, [&](const auto& entry) { return present.count(entry.first) == 0; });
  std::set<NeighbourKey> seen;
  auto neighbour_request = neighbour_dump();
  if (error == 0) {
    error = requests_.dump(neighbour_request, [&](const nlmsghdr* message) {
      const auto neighbour = parse_neighbour(message);
      if (!neighbour) return;
      take_neighbour(neighbour->first, neighbour->second);
      seen.insert(neighbour->first);
    });
  }
  if (error != 0)
    return fail("next hops",
                std::string("cannot read links and neighbours: ") + std::strerror(error));
  std::erase_if(neighbours_, [&](const auto& entry) { return seen.count(entry.first) == 0; });
  stale_ = false;
  return {};
}

void NextHops::want(const std::set<Address>& backends) {
  const size_t before = wanted_.size();
  std::erase_if(wanted_, [&](const auto& entry) { return backends.count(entry.first) == 0; });
  std::vector<Address> fresh;
  for (const Address& backend : backends) {
    if (wanted_.try_emplace(backend).second) fresh.push_back(backend);
  }
  if (fresh.empty() && wanted_.size() == before) return;
  if (!settled_ && settled_timer_ == 0 && !wanted_.empty()) {
    settled_timer_ = loop_.after(config_.patience, [this] {
      if (!std::exchange(settled_, true) && on_change_) on_change_({});
    });
  }
  look_up(fresh);
  count_users();
  settle_neighbours();
  judge_all(fresh);
  settle();
}

void NextHops::set_ports(const std::set<std::string>& interfaces) {
  if (ports_ == interfaces) return;
  ports_ = interfaces;
  count_users();
  settle_neighbours();
  judge_all(all_wanted());
  settle();
}

void NextHops::set_held(const std::set<std::string>& interfaces) {
  const auto before = std::exchange(held_, interfaces);
  for (const auto& [ifindex, link] : links_) {
    if (held_.count(link.name) != 0) {
      down_since_.erase(ifindex);
    } else if (before.count(link.name) != 0) {
      if (!link.up) down_since_[ifindex] = EventLoop::Clock::now();
      ask_anew(ifindex);
      schedule_routes();
    }
  }
  schedule_links();
}

const NextHopState& NextHops::get(const Address& backend) const {
  const auto it = wanted_.find(backend);
  return it == wanted_.end() ? kUnknown : it->second.state;
}

void NextHops::on_events() {
  std::set<Address> touched;
  const auto read = events_.read([&](const nlmsghdr* message) {
    switch (message->nlmsg_type) {
      case RTM_NEWNEIGH:
      case RTM_DELNEIGH:
        return on_neighbour(message, touched);
      case RTM_NEWLINK:
      case RTM_DELLINK: {
        const auto link = parse_link(message);
        if (!link) return;
        if (message->nlmsg_type == RTM_DELLINK) {
          if (links_.erase(link->first) == 0) return;
        } else {
          const auto known = links_.find(link->first);
          if (known != links_.end() && known->second == link->second) return;
          take_link(link->first, link->second);
        }
        return schedule_routes();
      }
      // With the addresses the kernel's choice of a source changes, with no word about a route: an
      // IPv6 address is not chosen before duplicate address detection (RFC 4862) is done with it.
      default:
        if (const auto prefix = parse_route_prefix(message)) return schedule_route(*prefix);
        return schedule_routes();
    }
  });
  if (read == NetlinkSocket::Read::overflow) {
    stale_ = true;
    schedule_routes();
    look_up_changed();
    return;
  }
  if (read == NetlinkSocket::Read::broken) {
    loop_.unwatch(events_.fd());
    problem_ = "cannot watch the kernel's routes and neighbours any more";
  }
  report(judge_all(touched));
}

void NextHops::on_neighbour(const nlmsghdr* message, std::set<Address>& touched) {
  const auto neighbour = parse_neighbour(message);
  if (!neighbour) return;
  const NeighbourKey& key = neighbour->first;
  const auto known = neighbours_.find(key);
  // Resolution fails after probes. To fail without is how an entry begins to be deleted.
  const bool deleted = neighbour->second.state == NUD_FAILED && known != neighbours_.end() &&
                       known->second.valid() && known->second.state != NUD_PROBE;
  bool again = false;
  if (known != neighbours_.end()) {
    uint8_t& anew = known->second.anew;
    if (neighbour->second.valid()) anew = 0;
    again = neighbour->second.state == NUD_FAILED && anew > 0 && --anew > 0;
  }
  take_neighbour(key, deleted || again ? KernelNeighbour{} : neighbour->second);
  const auto users = users_.find(key);
  if (users == users_.end()) {
    if (message->nlmsg_type == RTM_DELNEIGH) neighbours_.erase(key);
    return;
  }
  touched.insert(users->second.begin(), users->second.end());
  // Somebody flushed it, or took it out of the kernel's care: ask again.
  const KernelNeighbour& now = neighbour->second;
  if (deleted || again || (managed_works_ && !now.managed && !now.fixed())) schedule_routes();
}

void NextHops::take_link(unsigned ifindex, const KernelLink& link) {
  const auto known = links_.find(ifindex);
  const bool was_up = known != links_.end() && known->second.up;
  links_[ifindex] = link;
  if (link.up) down_since_.erase(ifindex);
  if (link.up && !was_up) ask_anew(ifindex);
  if (!was_up || link.up || held_.count(link.name) != 0) return;
  down_since_[ifindex] = EventLoop::Clock::now();
  schedule_links();
}

void NextHops::ask_anew(unsigned ifindex) {
  for (auto& [key, neighbour] : neighbours_) {
    if (key.ifindex != ifindex) continue;
    neighbour.anew = 2;
    if (neighbour.state == NUD_FAILED) neighbour.state = 0;
  }
}

bool NextHops::is_down(unsigned ifindex) const {
  const auto link = links_.find(ifindex);
  if (link == links_.end()) return true;
  if (link->second.up || held_.count(link->second.name) != 0) return false;
  const auto since = down_since_.find(ifindex);
  return since == down_since_.end() || EventLoop::Clock::now() - since->second >= config_.link_down;
}

void NextHops::schedule_links() {
  if (links_timer_ != 0 || down_since_.empty()) return;
  auto first = EventLoop::Clock::time_point::max();
  for (const auto& [ifindex, since] : down_since_) first = std::min(first, since);
  links_timer_ = loop_.after(first + config_.link_down - EventLoop::Clock::now(), [this] {
    links_timer_ = 0;
    const auto over = EventLoop::Clock::now() - config_.link_down;
    const auto changed = judge_all(all_wanted());
    std::erase_if(down_since_, [&](const auto& entry) { return entry.second <= over; });
    schedule_links();
    report(changed);
  });
}

void NextHops::schedule_routes() {
  all_routes_changed_ = true;
  start_routes_timer(std::max(config_.settle, routes_took_ * kRestPerLookup));
}

// A router's full table comes and goes by the hundred thousand: only what it covers is of interest.
void NextHops::schedule_route(const RoutePrefix& prefix) {
  const auto first = wanted_.lower_bound(prefix.address);
  if (first == wanted_.end() || !prefix.covers(first->first)) return;
  if (changed_routes_.size() >= kRoutesTogether) return schedule_routes();
  changed_routes_.push_back(prefix);
  start_routes_timer(std::max(config_.settle, routes_took_ * kRestPerLookup));
}

void NextHops::schedule_retry() {
  all_routes_changed_ = true;
  start_routes_timer(config_.retry);
}

void NextHops::start_routes_timer(EventLoop::Clock::duration delay) {
  if (routes_timer_ != 0) return;
  routes_timer_ = loop_.after(delay, [this] {
    routes_timer_ = 0;
    look_up_changed();
  });
}

void NextHops::look_up_changed() {
  const auto start = EventLoop::Clock::now();
  bool again = false;
  if (stale_) {
    const auto ok = read_kernel();
    problem_ = ok ? "" : ok.error().text();
    if (!ok) again = true;
    all_routes_changed_ = true;
  }
  std::vector<Address> changed;
  for (const auto& [address, wanted] : wanted_) {
    const bool is = all_routes_changed_ ||
                    std::any_of(changed_routes_.begin(), changed_routes_.end(),
                                [&](const RoutePrefix& prefix) { return prefix.covers(address); });
    if (is) changed.push_back(address);
  }
  all_routes_changed_ = false;
  changed_routes_.clear();
  look_up(changed);
  count_users();
  settle_neighbours();
  routes_took_ = EventLoop::Clock::now() - start;
  if (again) schedule_retry();
  report(judge_all(changed));
}

void NextHops::look_up(const std::vector<Address>& backends) {
  std::vector<NetlinkRequest> requests;
  requests.reserve(backends.size());
  for (const Address& backend : backends) requests.push_back(route_query(backend));
  bool again = false;
  const int lost = requests_.ask(requests, [&](size_t i, int error, const nlmsghdr* message) {
    if (is_passing(error)) {
      again = true;
      return;
    }
    Wanted& wanted = wanted_[backends[i]];
    wanted.route = parse_route(backends[i], error, message);
    wanted.looked_up = true;
  });
  // No answer is no news: what was known of the route holds until there is one.
  if (lost != 0 || again) schedule_retry();
}

// Which neighbours the wanted backends need. Those behind an interface that is no port are not
// ours to resolve. On a link that is not up yet, all would fail at once, and the kernel tries
// again only after seconds.
void NextHops::count_users() {
  users_.clear();
  for (const auto& [backend, wanted] : wanted_) {
    if (!wanted.looked_up || !wanted.route.problem.empty()) continue;
    const auto link = links_.find(wanted.route.ifindex);
    if (link == links_.end() || !link->second.ethernet || !link->second.up) continue;
    if (!ports_.empty() && ports_.count(link->second.name) == 0) continue;
    users_[neighbour_of(backend, wanted.route)].push_back(backend);
  }
}

void NextHops::settle_neighbours() {
  const auto needs_asking = [this](const NeighbourKey& key) {
    const auto it = neighbours_.find(key);
    if (it == neighbours_.end() || it->second.state == 0) return true;
    return !it->second.fixed() && managed_works_ && !it->second.managed;
  };
  std::vector<NeighbourKey> asked;
  for (const auto& [key, users] : users_) {
    if (needs_asking(key)) asked.push_back(key);
  }
  // Looked at first: to ask for a permanent entry would make it an ordinary one.
  refresh_neighbours(asked);
  std::erase_if(asked, [&](const NeighbourKey& key) { return !needs_asking(key); });
  ask_neighbours(asked);
  std::vector<NeighbourKey> unwanted;
  for (const auto& [key, neighbour] : neighbours_) {
    if (neighbour.ours && neighbour.managed && users_.count(key) == 0) unwanted.push_back(key);
  }
  release_neighbours(unwanted);
}

void NextHops::refresh_neighbours(const std::vector<NeighbourKey>& keys) {
  std::vector<NetlinkRequest> requests;
  requests.reserve(keys.size());
  for (const NeighbourKey& key : keys) requests.push_back(neighbour_query(key));
  const int lost = requests_.ask(requests, [&](size_t i, int error, const nlmsghdr* message) {
    if (is_passing(error)) return;
    const auto neighbour = message ? parse_neighbour(message) : std::nullopt;
    KernelNeighbour now = neighbour ? neighbour->second : KernelNeighbour{};
    if (now.state == NUD_FAILED && neighbours_[keys[i]].anew > 0) now.state = 0;
    take_neighbour(keys[i], now);
  });
  if (lost != 0) schedule_retry();
}

void NextHops::ask_neighbours(const std::vector<NeighbourKey>& keys) {
  if (keys.empty()) return;
  std::vector<NetlinkRequest> requests;
  requests.reserve(keys.size());
  for (const NeighbourKey& key : keys) requests.push_back(neighbour_use(key, managed_works_));
  std::vector<NeighbourKey> accepted;
  const int lost = requests_.ask(requests, [&](size_t i, int error, const nlmsghdr*) {
    neighbours_[keys[i]].error = error;
    if (error == 0) accepted.push_back(keys[i]);
  });
  if (lost != 0) schedule_retry();
  refresh_neighbours(accepted);
  // A kernel before 5.16 knows no managed neighbours and ignores the wish without an error.
  for (const NeighbourKey& key : accepted) {
    const Neighbour& neighbour = neighbours_[key];
    if (neighbour.state != 0 && !neighbour.fixed() && !neighbour.managed) managed_works_ = false;
  }
}

void NextHops::release_neighbours(const std::vector<NeighbourKey>& keys) {
  std::vector<NetlinkRequest> requests;
  requests.reserve(keys.size());
  for (const NeighbourKey& key : keys) requests.push_back(neighbour_use(key, false));
  requests_.ask(requests, [&](size_t i, int, const nlmsghdr*) {
    neighbours_[keys[i]].managed = false;  // if it failed, the kernel's next word on it says so
  });
}

void NextHops::poke() {
  std::vector<NeighbourKey> keys;
  for (const auto& [key, users] : users_) {
    const Neighbour& neighbour = neighbours_[key];
    if (neighbour.error != 0 || (!managed_works_ && !neighbour.fixed())) keys.push_back(key);
  }
  ask_neighbours(keys);
  std::set<Address> touched;
  for (const NeighbourKey& key : keys) touched.insert(users_[key].begin(), users_[key].end());
  report(judge_all(touched));
}

void NextHops::take_neighbour(const NeighbourKey& key, const KernelNeighbour& neighbour) {
  Neighbour& known = neighbours_[key];
  const uint16_t before = known.state;
  static_cast<KernelNeighbour&>(known) = neighbour;
  // The kernel tries again and again; until it succeeds, the neighbour has failed.
  if (before == NUD_FAILED && known.state == NUD_INCOMPLETE) known.state = NUD_FAILED;
  if (known.state != 0) known.error = 0;
}

NextHops::Verdict NextHops::judge(const Address& backend, const Wanted& wanted) const {
  const auto none = [](std::string reason, bool pending = false) {
    return Verdict{{{}, std::move(reason)}, pending};
  };
  if (!wanted.looked_up) return none(kUnknown.reason, true);
  const KernelRoute& route = wanted.route;
  if (!route.problem.empty()) return none(route.problem);
  const auto it = links_.find(route.ifindex);
  if (it == links_.end()) return none("route leaves by an interface that is gone");
  const KernelLink& link = it->second;
  if (!ports_.empty() && ports_.count(link.name) == 0)
    return none("route leaves by " + link.name + ", which is no port of the dataplane");
  if (!link.ethernet) return none("route leaves by " + link.name + ", which is not Ethernet");
  const NeighbourKey key = neighbour_of(backend, route);
  const Mac* mac = mac_of(key, link, wanted);
  if (mac == nullptr && !link.up) return none(link.name + " is down", true);
  if (mac == nullptr) return none(neighbour_problem(key, link.name), !has_failed(key));
  const auto& configured = backend.is_v4() ? config_.source4 : config_.source6;
  return {{NextHop{.ifindex = route.ifindex,
                   .interface = link.name,
                   .gateway = route.gateway,
                   .source_mac = link.mac,
                   .mac = *mac,
                   .mtu = route.mtu != 0 ? std::min(route.mtu, link.mtu) : link.mtu,
                   .source = configured ? configured : route.source},
           {}}};
}

// That of the neighbour; while the kernel does not say, the one that was used so far. Null: none.
const Mac* NextHops::mac_of(const NeighbourKey& key, const KernelLink& link,
                            const Wanted& wanted) const {
  const auto neighbour = neighbours_.find(key);
  if (link.up && neighbour != neighbours_.end() && neighbour->second.valid())
    return &*neighbour->second.mac;
  const auto& before = wanted.state.hop;
  const bool is_same = before && before->ifindex == key.ifindex && before->interface == link.name &&
                       before->gateway == wanted.route.gateway;
  const bool answerable = link.up && held_.count(link.name) == 0;
  if (!is_same || is_down(key.ifindex) || (answerable && has_failed(key))) return nullptr;
  return &before->mac;
}

bool NextHops::has_failed(const NeighbourKey& key) const {
  const auto neighbour = neighbours_.find(key);
  return neighbour != neighbours_.end() && neighbour->second.state == NUD_FAILED;
}

std::string NextHops::neighbour_problem(const NeighbourKey& key,
                                        const std::string& interface) const {
  const bool v4 = key.address.is_v4();
  const std::string method = v4 ? "ARP" : "neighbour discovery";
  const auto it = neighbours_.find(key);
  if (it != neighbours_.end()) {
    if (it->second.valid()) return {};
    if (it->second.state == NUD_FAILED)
      return key.address.text() + " does not answer " + method + " on " + interface;
    if (it->second.error == ENOBUFS)
      return key.address.text() +
             " cannot be resolved: the kernel's neighbour table is full; raise " +
             (v4 ? "net.ipv4.neigh.default.gc_thresh3" : "net.ipv6.neigh.default.gc_thresh3");
    if (it->second.error != 0)
      return key.address.text() + " cannot be resolved: " + std::strerror(it->second.error);
  }
  return key.address.text() + " is being resolved by " + method + " on " + interface;
}

template <typename Addresses>
std::vector<Address> NextHops::judge_all(const Addresses& backends) {
  std::vector<Address> changed;
  for (const Address& backend : backends) {
    const auto it = wanted_.find(backend);
    if (it == wanted_.end()) continue;
    Verdict verdict = judge(backend, it->second);
    it->second.pending = verdict.pending;
    if (verdict.state == it->second.state) continue;
    it->second.state = std::move(verdict.state);
    changed.push_back(backend);
  }
  return changed;
}

std::vector<Address> NextHops::all_wanted() const {
  std::vector<Address> all;
  all.reserve(wanted_.size());
  for (const auto& [backend, wanted] : wanted_) all.push_back(backend);
  return all;
}

bool NextHops::settle() {
  if (settled_ || wanted_.empty()) return false;
  settled_ = std::none_of(wanted_.begin(), wanted_.end(),
                          [](const auto& entry) { return entry.second.pending; });
  return settled_;
}

void NextHops::report(const std::vector<Address>& changed) {
  const bool news = settle();
  if ((news || !changed.empty()) && on_change_) on_change_(changed);
}

}  // namespace guideway
