// SPDX-License-Identifier: Apache-2.0
// What the control socket needs from the daemon behind it. All calls in the loop's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <string>

#include "controlplane/explain.h"
#include "controlplane/intent.h"
#include "controlplane/result.h"
#include "controlplane/status.h"
#include "controlplane/store.h"

namespace guideway {

// What the dataplane has adopted on its present connection; 0: nothing yet.
struct Adoption {
  uint64_t generation = 0;
  uint64_t revision = 0;
  uint64_t digest = 0;  // of its tables: a function of the revision
};

class Control {
 public:
  virtual ~Control() = default;

  // Never null. Immutable: it may be read in any thread.
  virtual std::shared_ptr<const Intent> intent() const = 0;

  // As Store's; what is changed is published.
  virtual void change(Store::Change change, const std::string& who, const std::string& what,
                      Store::Done done) = 0;

  virtual Adoption adoption() const = 0;

  // Ready once the dataplane has adopted that revision, or a later one. May be broken at the end.
  virtual std::future<void> adopted(uint64_t revision) = 0;

  virtual Status status() const = 0;
  // What happened to backends and pools: the body of GET /v1/events. Those numbered `since` or
  // higher; if they are more than `limit`, the newest of them.
  virtual std::string events_json(uint64_t since, size_t limit) const = 0;

  // Takes this node out of service, or back; durable when it returns. See announcer.h.
  virtual Result<void> set_drained(bool drained) = 0;
  virtual NodeModeStatus node_mode() const = 0;

  // Takes the cluster's intent for this node's; stays alone with it. See store_etcd.h.
  virtual void join_cluster(std::function<void(Result<void>)> done) = 0;
  virtual Result<void> leave_cluster() = 0;

  virtual Result<Explanation> explain_flow(const Endpoint& client,
                                           const ServiceKey& service) const = 0;
};

}  // namespace guideway
