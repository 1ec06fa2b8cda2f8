// SPDX-License-Identifier: Apache-2.0
// What the kernel does with a VIP packet that reaches it: drops it. One rule per family, `from all
// lookup TABLE` before main, and per VIP one permanent `blackhole VIP` in that table: no RST, no
// loop, whether the dataplane runs or not. They stay when the control plane ends (fail static).
//
// Nothing is ever deleted but rules with our protocol number, and routes with it in our own table.
// Lives in the loop's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "controlplane/event_loop.h"
#include "controlplane/kernel_route.h"
#include "controlplane/netlink.h"
#include "controlplane/result.h"
#include "dataplane/address.h"

namespace guideway {

class Routes {
 public:
  struct Config {
    unsigned table = 2203;
    unsigned rule_priority = 203;
    EventLoop::Clock::duration settle =
        std::chrono::milliseconds(20);  // repair when quiet for so long
  };

  // Netlink in the network namespace of the calling thread. Changes nothing before set().
  static Result<std::unique_ptr<Routes>> create(EventLoop& loop, const Config& config);
  ~Routes();  // leaves rules and routes as they are
  Routes(const Routes&) = delete;
  Routes& operator=(const Routes&) = delete;

  // Makes rules and routes what `vips` asks for: adds the missing, deletes our left-overs. Done
  // when it returns; again and again from then on, whenever somebody changes them. An error is also
  // in problem(), and tried again by itself. Twice is the same as once. An address family that the
  // kernel lacks is a problem only if there is a VIP of it.
  Result<void> set(const std::set<Address>& vips);

  // What the last reconciliation could not do; empty: all is as wanted.
  const std::string& problem() const { return problem_; }

 private:
  Routes(EventLoop& loop, const Config& config) : loop_(loop), config_(config) {}
  void on_events();
  bool concerns_us(const nlmsghdr* message) const;
  void schedule(EventLoop::Clock::duration delay);
  Result<void> reconcile();
  bool has_vips(uint8_t family) const;
  bool kernel_has(uint8_t family);
  Result<void> reconcile_rule(uint8_t family);
  Result<void> reconcile_routes(uint8_t family);

  EventLoop& loop_;
  Config config_;
  std::string problem_;
  NetlinkSocket requests_;
  NetlinkSocket events_;
  std::set<Address> vips_;
  bool started_ = false;
  EventLoop::TimerId timer_ = 0;
};

}  // namespace guideway
