// SPDX-License-Identifier: Apache-2.0
// A daemon without kernel, dataplane or disk behind the control socket.
#pragma once

#include <future>
#include <memory>
#include <string>
#include <vector>

#include "controlplane/control.h"
#include "controlplane/event_loop.h"
#include "controlplane/health.h"
#include "dataplane/node_config.h"

namespace guideway::test {

class FakeControl : public Control {
 public:
  bool store_fails = false;
  bool adopts = true;  // at once
  std::string last_who, last_what;

  FakeControl()
      : loop_(std::move(EventLoop::create().value())),
        health_(
            *loop_, NodeConfig{}, "",
            [this](const Address& address) -> const NextHopState& { return next_hop(address); },
            [](bool) {}) {
    Intent intent;
    intent.flow_seed = 1;
    intent_ = std::make_shared<const Intent>(std::move(intent));
    up_.hop = NextHop{};
    up_.hop->interface = "eth1";
    up_.hop->mtu = 1500;
    up_.hop->source = Address::parse("10.0.0.11");
    down_.reason = "no route to 10.0.0.99";
    look_at_health();
  }

  std::shared_ptr<const Intent> intent() const override { return intent_; }

  void change(Store::Change change, const std::string& who, const std::string& what,
              Store::Done done) override {
    const std::shared_ptr<const Intent> before = intent_;
    ChangeResult after = next_intent(*before, change);
    if (!after) return done(tl::unexpected(after.error()));
    if (after->revision == before->revision) return done(Store::Changed{before, before});
    if (store_fails)
      return done(tl::unexpected(
          RefusedChange{Refusal::not_stored,
                        {"/state/intent.json", "cannot be written: No space left on device", ""}}));
    last_who = who;
    last_what = what;
    intent_ = std::make_shared<const Intent>(std::move(*after));
    look_at_health();
    if (adopts) adopt();
    done(Store::Changed{before, intent_});
  }

  void adopt() {
    adoption_ = {adoption_.generation + 1, intent_->revision};
    for (auto& waiter : waiters_) waiter.set_value();
    waiters_.clear();
  }

  Adoption adoption() const override { return adoption_; }

  std::future<void> adopted(uint64_t) override {
    waiters_.emplace_back();
    return waiters_.back().get_future();
  }

  Status status() const override {
    Status out;
    out.node.name = "test";
    out.node.revision = intent_->revision;
    TableMap tables = build_tables(*intent_, {}).value();
    StatusSource source{
        *intent_,
        tables,
        health_,
        [this](const Address& address) -> const NextHopState& { return next_hop(address); },
        [](const ServiceKey&) {
          return Traffic{3, 180};
        },
        [](const std::string&, const Address&) {
          return Traffic{1, 60};
        }};
    make_pools_and_services(source, out);
    return out;
  }

  // What it was asked.
  std::string events_json(uint64_t since, size_t limit) const override {
    return "{\"events\":[],\"next\":" + std::to_string(since) +
           ",\"limit\":" + std::to_string(limit) + "}";
  }
  Result<void> set_drained(bool drained) override {
    if (store_fails) return fail("/state/node.json", "cannot be written: No space left on device");
    mode.mode = drained ? NodeMode::draining : NodeMode::normal;
    return {};
  }
  NodeModeStatus node_mode() const override { return mode; }
  NodeModeStatus mode;
  void join_cluster(std::function<void(Result<void>)> done) override {
    joined = !store_fails;
    done(store_fails ? Result<void>(fail("cluster", "etcd: no answer")) : Result<void>());
  }
  Result<void> leave_cluster() override {
    joined = false;
    return {};
  }
  bool joined = false;

  Result<Explanation> explain_flow(const Endpoint& client,
                                   const ServiceKey& service) const override {
    TableMap tables = build_tables(*intent_, {}).value();
    return explain(
        client, service,
        {*intent_, tables, health_,
         [this](const Address& address) -> const NextHopState& { return next_hop(address); }});
  }

 private:
  // 10.0.0.99 is the one that cannot be reached.
  const NextHopState& next_hop(const Address& address) const {
    return address.text() == "10.0.0.99" ? down_ : up_;
  }

  // Nothing is sent: to the health of the fake no pool is probed.
  void look_at_health() {
    Intent quiet = *intent_;
    for (auto& [name, pool] : quiet.pools) pool.probe = {};
    health_.set_intent(std::make_shared<const Intent>(std::move(quiet)));
  }

  std::unique_ptr<EventLoop> loop_;  // never runs
  Health health_;
  std::shared_ptr<const Intent> intent_;
  Adoption adoption_;
  std::vector<std::promise<void>> waiters_;
  NextHopState up_;
  NextHopState down_;
};

}  // namespace guideway::test
