// SPDX-License-Identifier: Apache-2.0
// The way to each backend, as the kernel knows it: its route (any table, by the kernel's own
// lookup) and the neighbour that the route leads to, by netlink, kept fresh. The kernel resolves
// neighbours and keeps them resolved ("managed" entries, Linux 5.16; on older ones Guideway pokes
// them); nothing is imitated here.
//
// Node-local; lives in the event loop's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controlplane/event_loop.h"
#include "controlplane/kernel_net.h"
#include "controlplane/netlink.h"
#include "controlplane/result.h"
#include "dataplane/address.h"
#include "dataplane/headers.h"

namespace guideway {

struct NextHop {
  unsigned ifindex = 0;
  std::string interface;
  std::optional<Address> gateway;  // none: the backend itself is on the link
  Mac source_mac{};                // of the interface
  Mac mac{};                       // of the gateway or backend
  uint32_t mtu = 0;                // bytes of an IP packet; of the route, if that is smaller
  std::optional<Address> source;   // for tunnels, of the backend's family: configured, else the
                                   // kernel's choice
  bool operator==(const NextHop&) const = default;
};

// "02:00:00:00:00:01"
std::string mac_text(const Mac& mac);

// Either a next hop, or the reason why there is none:
//   "no route to 10.0.0.21", "the route to 10.0.0.21 is a blackhole" (unreachable, prohibited),
//   "10.0.0.21 is an address of this node", "eth1 is down",
//   "route leaves by eth0, which is no port of the dataplane",
//   "10.0.0.1 does not answer ARP on eth1" (IPv6: "neighbour discovery"; with a gateway the address
//   is the gateway's), "10.0.0.21 is being resolved by ARP on eth1", "not looked up yet"
// A hop that was there stays while the kernel resolves the same neighbour anew (its entry was
// flushed or is incomplete), and while the link is down for less than Config::link_down: it ends
// when the kernel's resolution fails.
struct NextHopState {
  std::optional<NextHop> hop;
  std::string reason;
  bool operator==(const NextHopState&) const = default;
};

class NextHops {
 public:
  struct Config {
    std::optional<Address> source4;  // [tunnel] source4, source6
    std::optional<Address> source6;
    EventLoop::Clock::duration settle = std::chrono::milliseconds(20);  // routes: look again when
                                                                        // quiet for so long
    EventLoop::Clock::duration poke = std::chrono::seconds(5);       // without managed neighbours
    bool managed = true;                                             // try managed neighbours first
    EventLoop::Clock::duration link_down = std::chrono::seconds(1);  // hops outlive the carrier by
    EventLoop::Clock::duration patience = std::chrono::seconds(3);   // of settled()
    EventLoop::Clock::duration retry = std::chrono::milliseconds(200);  // the kernel gave no answer
  };
  // The addresses whose state is another than before, in order. Called with none, too, when
  // settled() became true.
  using ChangeCallback = std::function<void(const std::vector<Address>&)>;

  // Netlink in the network namespace of the calling thread. Fails without CAP_NET_ADMIN.
  static Result<std::unique_ptr<NextHops>> create(EventLoop& loop, const Config& config,
                                                  ChangeCallback on_change);
  ~NextHops();  // leaves managed neighbours managed: the dataplane still needs them
  NextHops(const NextHops&) = delete;
  NextHops& operator=(const NextHops&) = delete;

  // The backends wanted from now on, and the interfaces that are ports of the dataplane (empty: not
  // known yet; any will do). What is new is looked up before they return; such changes are not
  // reported by on_change. Neighbours that nobody wants any longer are given back to the kernel.
  void want(const std::set<Address>& backends);
  void set_ports(const std::set<std::string>& interfaces);

  // Interfaces at whose other end is a dataplane that is away (TAPs): that they are down, or
  // neighbours do not answer, tells nothing of the link behind them, and hops that go by them stay,
  // however long that takes. Those let go have Config::link_down from then on.
  void set_held(const std::set<std::string>& interfaces);

  // Whether the next hops are worth a first publication: each wanted address has a hop or a
  // definite reason against it, or Config::patience is over since the first address was wanted.
  // Once true with addresses wanted, it stays true. Within want() and set_ports() it becomes true
  // without a callback.
  bool settled() const { return settled_ || wanted_.empty(); }

  // "not looked up yet" for an address that is not wanted. Valid until the next callback.
  const NextHopState& get(const Address& backend) const;

  // What keeps it from watching the kernel; empty: nothing.
  const std::string& problem() const { return problem_; }

 private:
  struct Neighbour : KernelNeighbour {
    int error = 0;  // of asking the kernel to resolve it
    // After its link came up, or its dataplane back, this less one times that it has failed is
    // not believed: the kernel repeats the old state when it is asked, or ends a resolution that
    // began when nobody could answer.
    uint8_t anew = 0;
  };
  struct Wanted {
    bool looked_up = false;  // `route` holds
    KernelRoute route;
    NextHopState state;
    bool pending = true;  // no hop yet, but there may be one in a moment
  };
  struct Verdict {
    NextHopState state;
    bool pending = false;
  };

  NextHops(EventLoop& loop, const Config& config, ChangeCallback on_change);

  Result<void> open();
  Result<void> read_kernel();  // all links and neighbours
  void on_events();
  void on_neighbour(const nlmsghdr* message, std::set<Address>& touched);
  void take_link(unsigned ifindex, const KernelLink& link);
  bool is_down(unsigned ifindex) const;  // for longer than hops outlive it
  void ask_anew(unsigned ifindex);       // what failed there failed for want of a way
  void schedule_links();
  void schedule_routes();  // all of them
  void schedule_route(const RoutePrefix& prefix);
  void schedule_retry();
  void start_routes_timer(EventLoop::Clock::duration delay);
  void look_up_changed();
  void look_up(const std::vector<Address>& backends);
  void count_users();
  void settle_neighbours();
  void refresh_neighbours(const std::vector<NeighbourKey>& keys);
  void ask_neighbours(const std::vector<NeighbourKey>& keys);
  void release_neighbours(const std::vector<NeighbourKey>& keys);
  void poke();
  void take_neighbour(const NeighbourKey& key, const KernelNeighbour& neighbour);
  Verdict judge(const Address& backend, const Wanted& wanted) const;
  const Mac* mac_of(const NeighbourKey& key, const KernelLink& link, const Wanted& wanted) const;
  bool has_failed(const NeighbourKey& key) const;
  std::string neighbour_problem(const NeighbourKey& key, const std::string& interface) const;
  template <typename Addresses>
  std::vector<Address> judge_all(const Addresses& backends);
  std::vector<Address> all_wanted() const;
  bool settle();  // true: settled() became true
  void report(const std::vector<Address>& changed);

  EventLoop& loop_;
  Config config_;
  ChangeCallback on_change_;
  std::string problem_;

  NetlinkSocket requests_;
  NetlinkSocket events_;
  bool managed_works_ = true;  // until an entry that was asked for turns out not to be managed

  std::map<Address, Wanted> wanted_;
  std::set<std::string> ports_;
  std::set<std::string> held_;
  std::map<unsigned, KernelLink> links_;                         // by ifindex
  std::map<unsigned, EventLoop::Clock::time_point> down_since_;  // links that have been up
  std::map<NeighbourKey, Neighbour> neighbours_;
  std::map<NeighbourKey, std::vector<Address>> users_;  // wanted backends behind each neighbour

  bool stale_ = false;  // links and neighbours: events were lost, and reading anew failed
  bool settled_ = false;
  EventLoop::TimerId settled_timer_ = 0;
  EventLoop::TimerId links_timer_ = 0;
  EventLoop::TimerId routes_timer_ = 0;
  EventLoop::TimerId poke_timer_ = 0;
  EventLoop::Clock::duration routes_took_{};
  std::vector<RoutePrefix> changed_routes_;  // to be looked up when the timer is due
  bool all_routes_changed_ = false;
};

}  // namespace guideway
