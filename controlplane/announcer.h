// SPDX-License-Identifier: Apache-2.0
// Announces VIPs: is told what goes on (services, heartbeats, images, what the operator wants),
// judges each VIP by announce.h and keeps signal_routes.h as judged. Whatever it does not know yet
// changes nothing: a control plane that starts anew withdraws nothing.
//
// Lives in the loop's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "controlplane/announce.h"
#include "controlplane/event_loop.h"
#include "controlplane/node_mode_file.h"
#include "controlplane/result.h"
#include "controlplane/signal_routes.h"
#include "dataplane/address.h"
#include "dataplane/node_config.h"

namespace guideway {

struct VipStatus {
  Address vip;
  Announcement announcement = Announcement::withdrawn;
  std::string reason;
};

struct NodeModeStatus {
  NodeMode mode = NodeMode::normal;
  bool quiet = false;  // nothing was forwarded for a second
};

class Announcer {
 public:
  using Clock = EventLoop::Clock;
  using Services = std::map<Address, std::vector<ServiceFacts>>;

  static Result<std::unique_ptr<Announcer>> create(EventLoop& loop, const NodeConfig& config);
  ~Announcer();

  // All VIPs of the intent. Nothing is announced nor withdrawn before the first call.
  void set_services(Services services);

  // Every 100 ms. `beating`: the workers' heartbeats advanced since the last look. `forwarded`:
  // packets, of all time.
  void look(bool beating, uint64_t forwarded);
  // A dataplane forwards whose counters cannot be read, nor its image replaced: one of another
  // layout. What is announced then is held until it is gone; a drain takes all its time.
  void set_unreadable(bool unreadable) { unreadable_ = unreadable; }
  // `generation`: what the dataplane runs already, 0: nothing.
  void on_connected(uint64_t generation);
  void on_disconnected();
  // An image with these VIPs went out; it was adopted. One at a time.
  void on_published(uint64_t generation, std::set<Address> vips);
  void on_adopted(uint64_t generation);

  void set_lease_lapsing(bool lapsing);

  // Takes the node out of service, or back. Durable when it returns. Out: reduced first; withdrawn
  // when no traffic has come for a second, at the latest after drain_seconds.
  Result<void> set_drained(bool drained);
  NodeModeStatus mode() const;

  std::vector<VipStatus> vips() const;
  const std::string& problem() const { return routes_->problem(); }

 private:
  struct Vip {
    VipFacts facts;
    Announcement announced = Announcement::withdrawn;
    std::string reason;
    Clock::time_point worse_since{};  // zero: the judgement is not worse than what is announced
  };

  Announcer(EventLoop& loop, const NodeConfig& config);
  Result<void> open();
  DataplaneLife life() const;
  void drain_on();
  void save_mode(NodeMode mode);
  void judge();
  bool judge(Vip& vip, const NodeFacts& node, const Address& address);
  void set_routes();

  EventLoop& loop_;
  const AnnounceConfig config_;
  const AnnounceRules rules_;
  NodeModeFile file_;
  std::unique_ptr<SignalRoutes> routes_;
  SignalRoutes::Metrics found_;  // left by an earlier run, until services are known
  bool started_ = false;
  bool paused_ = true;
  std::map<Address, Vip> vips_;

  bool unknown_image_ = true;         // what runs was published by somebody else
  unsigned silent_looks_ = 0;         // in a row, without a beat
  unsigned silent_limit_;             // of them, and the dataplane is dead
  bool unreadable_ = false;           // there, but neither beats nor packets can be seen
  bool beats_ = false;                // it did since the connection changed
  uint64_t published_ = 0;            // generation sent last
  std::set<Address> published_vips_;  // in it
  std::set<Address> adopted_;

  NodeMode mode_ = NodeMode::normal;
  bool lease_lapsing_ = false;
  Clock::time_point drain_began_{};
  uint64_t forwarded_ = 0;
  Clock::time_point last_traffic_{};
};

}  // namespace guideway
