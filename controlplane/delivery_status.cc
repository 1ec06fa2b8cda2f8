// SPDX-License-Identifier: Apache-2.0
// What Delivery tells about itself, its pools and single flows.
#include "controlplane/delivery.h"

namespace guideway {

std::string Delivery::problem() const {
  for (const std::string& one :
       {publisher_->problem(), hold_problem_, build_problem_, publish_problem_, book_problem_,
        next_hops_->problem(), routes_->problem(), health_->problem(), announcer_->problem()}) {
    if (!one.empty()) return one;
  }
  return "";
}

void Delivery::describe_dataplane(NodeStatus& node) const {
  node.connected = publisher_->connected();
  node.alive = alive_;
  node.refused = refused_;
  node.problem = problem();
  if (node.connected) {
    const DataplaneInfo& info = *publisher_->info();
    node.pid = info.pid;
    node.workers = info.workers;
    node.layout = info.layout;
    bool any = adoption_.generation != 0;
    node.generation = any ? adoption_.generation : info.generation;
    node.running_revision = any ? adoption_.revision : info.revision;
    for (const std::string& interface : info.ports) node.ports.push_back(port_status(interface));
  } else if (alive_) {
    node.pid = counters_->pid();
    node.workers = counters_->workers();
    node.generation = counters_->generation();
    node.running_revision = counters_->revision();
  }
  if (counters_ != nullptr) {
    node.epoch = counters_->epoch();
    node.received = counters_->received();
    node.verdicts = counters_->verdicts();
    node.flow_table = counters_->flow_table();
  }
}

void Delivery::describe(Status& status) const {
  if (!has_begun()) {
    status.node.problem = "waiting for the cluster's intent";
    return;
  }
  describe_dataplane(status.node);
  health_->refresh_sights();
  StatusSource source{
      *intent_,
      tables_,
      *health_,
      [this](const Address& address) -> const NextHopState& { return next_hops_->get(address); },
      [this](const ServiceKey& key) {
        if (counters_ == nullptr) return Traffic{};
        return book_.service(key, *counters_).value_or(Traffic{});
      },
      [this](const std::string& pool, const Address& address) {
        if (counters_ == nullptr) return Traffic{};
        return book_.backend(pool, address, *counters_).value_or(Traffic{});
      }};
  make_pools_and_services(source, status);
  // Whatever the backends are: nobody sends them anything.
  if (!alive_ && !is_starting() && !publisher_->forwards_by_another_layout()) {
    for (ServiceStatus& service : status.services) {
      service.state = ServiceState::down;
      service.reason = "no dataplane forwards";
    }
  }
  status.vips = announcer_->vips();
  status.node.mode = announcer_->mode();
}

Result<Explanation> Delivery::explain_flow(const Endpoint& client,
                                           const ServiceKey& service) const {
  if (!has_begun()) return fail("", "the control plane waits for the cluster's intent");
  const Intent& intent = applied_ != nullptr ? *applied_ : *intent_;
  auto explanation = explain(
      client, service,
      {intent, tables_, *health_,
       [this](const Address& address) -> const NextHopState& { return next_hops_->get(address); }});
  if (explanation) explanation->generation = adoption_.generation;
  return explanation;
}

}  // namespace guideway
