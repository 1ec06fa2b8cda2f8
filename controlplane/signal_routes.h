// SPDX-License-Identifier: Apache-2.0
// What BGP announces, told as kernel routes: per announced VIP one `blackhole VIP proto 203 metric
// METRIC`. BIRD exports it by the protocol number, FRR by prefix list and metric; the metric tells
// them how the VIP is to be announced (docs/bgp.md). No packet follows these routes: the blackholes
// of routes.h are looked up first.
//
// Nothing is ever deleted but routes with our protocol number in the table given, and nobody else
// may use that number there. Lives in the loop's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "controlplane/event_loop.h"
#include "controlplane/netlink.h"
#include "controlplane/result.h"
#include "dataplane/address.h"

namespace guideway {

class SignalRoutes {
 public:
  using Metrics = std::map<Address, uint32_t>;  // per announced VIP, 1 and more

  struct Config {
    unsigned table = 254;  // main: FRR reads no other
    EventLoop::Clock::duration settle =
        std::chrono::milliseconds(20);  // repair when quiet for so long
  };

  // Netlink in the network namespace of the calling thread. Changes nothing before set().
  static Result<std::unique_ptr<SignalRoutes>> create(EventLoop& loop, const Config& config);
  ~SignalRoutes();  // leaves the routes as they are
  SignalRoutes(const SignalRoutes&) = delete;
  SignalRoutes& operator=(const SignalRoutes&) = delete;

  // What stands now, of whatever run; of several for one VIP the lowest metric, which is what a BGP
  // daemon goes by.
  Result<Metrics> read();

  // Makes the routes what `wanted` asks for, and keeps them so. Where a metric changes the new
  // route is there before the old one goes, so that the VIP is never withdrawn in between. An error
  // is also in problem(), and tried again by itself.
  Result<void> set(const Metrics& wanted);

  // Repairs nothing until the next set(): what stands may be taken away by somebody who knows
  // better (guideway-controlplane --withdraw).
  void pause();

  // What the last reconciliation could not do; empty: all is as wanted.
  const std::string& problem() const { return problem_; }

 private:
  SignalRoutes(EventLoop& loop, const Config& config) : loop_(loop), config_(config) {}
  void on_events();
  bool concerns_us(const nlmsghdr* message) const;
  void schedule(EventLoop::Clock::duration delay);
  Result<void> reconcile();
  Result<void> reconcile(uint8_t family);

  EventLoop& loop_;
  Config config_;
  std::string problem_;
  NetlinkSocket requests_;
  NetlinkSocket events_;
  Metrics wanted_;
  bool repairs_ = false;
  EventLoop::TimerId timer_ = 0;
};

// Deletes all signal routes of the table, and says how many. For when no control plane may be there
// to do it: the dataplane ended.
Result<size_t> withdraw_signal_routes(unsigned table);

}  // namespace guideway
