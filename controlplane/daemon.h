// SPDX-License-Identifier: Apache-2.0
// The control plane as a whole: the store and the intent in it, its delivery to the dataplane, and
// the control socket; all on one event loop.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "controlplane/agent_client.h"
#include "controlplane/api.h"
#include "controlplane/cluster.h"
#include "controlplane/control.h"
#include "controlplane/delivery.h"
#include "controlplane/etcd_client.h"
#include "controlplane/event_loop.h"
#include "controlplane/http_server.h"
#include "controlplane/lone_view.h"
#include "controlplane/planner.h"
#include "controlplane/result.h"
#include "controlplane/shared_views.h"
#include "controlplane/store.h"
#include "controlplane/store_etcd.h"
#include "controlplane/unique_fd.h"
#include "dataplane/node_config.h"
#include "dataplane/supervisor.h"

namespace guideway {

class Daemon : public Control {
 public:
  // Takes the lock, reads the intent, begins to deliver it, and listens. Blocks SIGTERM and SIGINT
  // for the threads it starts.
  // `bpf_dir`: where the `edge` program is.
  static Result<std::unique_ptr<Daemon>> start(const NodeConfig& config,
                                               const std::string& bpf_dir);
  ~Daemon() override;

  // Until SIGTERM, SIGINT or stop(). False: it had to end, for a reason that is in the log.
  bool run();
  void stop();  // from any thread

  std::shared_ptr<const Intent> intent() const override { return store_->intent(); }
  void change(Store::Change change, const std::string& who, const std::string& what,
              Store::Done done) override {
    store_->change(std::move(change), who, what, std::move(done));
  }
  Adoption adoption() const override { return delivery_->adoption(); }
  std::future<void> adopted(uint64_t revision) override { return delivery_->adopted(revision); }
  Status status() const override;
  std::string events_json(uint64_t since, size_t limit) const override {
    return delivery_->events().json(since, limit);
  }
  Result<void> set_drained(bool drained) override {
    return delivery_->announcer().set_drained(drained);
  }
  NodeModeStatus node_mode() const override { return delivery_->announcer().mode(); }
  void join_cluster(std::function<void(Result<void>)> done) override;
  Result<void> leave_cluster() override;
  Result<Explanation> explain_flow(const Endpoint& client,
                                   const ServiceKey& service) const override;

 private:
  Daemon(const NodeConfig& config, std::string bpf_dir);
  Result<void> open();
  Result<void> lock();
  void begin();
  void end_drains();
  Result<void> make_planner();
  void ask_agents(const std::string& pool, const std::vector<BackendRanges>& ranges,
                  std::function<void(Planner::Sockets)> done);

  // In a cluster (daemon_cluster.cc).
  Result<void> make_store();
  void begin_in_cluster();
  void on_cluster();
  bool is_up_to_date();
  void report();
  bool is_elected() const;
  uint64_t confirmed() const;
  std::optional<ClusterStatus> cluster_status() const;
  // daemon_views.cc
  void look_at_views();
  std::map<std::string, std::set<Address>> agreed_down(bool current) const;
  void describe_views(Status& status) const;

  const NodeConfig config_;
  const std::string bpf_dir_;
  const Supervisor supervisor_;
  int64_t started_ = 0;
  bool ends_drains_ = false;  // under way
  NodeReport report_;
  EventLoop::Clock::time_point connected_at_ = EventLoop::Clock::now();  // to a dataplane
  bool was_elected_ = false;
  uint64_t last_confirmed_ = 0;
  int64_t read_under_ = 0;  // the lease under which the intent was read anew
  uint64_t catch_up_ = 0;   // the revision that was then the newest; 0: not known yet
  bool caught_up_ = false;
  LoneView lone_;
  EventLoop::Clock::time_point views_looked_at_{};
  UniqueFd lock_;
  std::atomic<bool> failed_{false};
  // In order of making: each needs those above.
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<EtcdClient> etcd_;  // null, and so cluster_ and views_: not in a cluster
  std::unique_ptr<Store> store_;
  EtcdStore* etcd_store_ = nullptr;  // it is store_
  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<SharedViews> views_;
  std::unique_ptr<Delivery> delivery_;
  std::unique_ptr<AgentClient> agents_;  // null: not asked
  std::unique_ptr<Planner> planner_;
  std::unique_ptr<Api> api_;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace guideway
