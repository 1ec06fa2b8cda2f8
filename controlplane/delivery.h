// SPDX-License-Identifier: Apache-2.0
// Brings the intent to the dataplane: intent > tables > image > publisher > ACK, with the next hops
// of this node and the counters that come back. It is told the newest intent and looks after the
// rest: at most one table build and one unanswered root are under way, whatever comes meanwhile is
// one more of each, from the newest state.
//
// Lives in the loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controlplane/announcer.h"
#include "controlplane/control.h"
#include "controlplane/counter_book.h"
#include "controlplane/counters.h"
#include "controlplane/event_loop.h"
#include "controlplane/health.h"
#include "controlplane/image.h"
#include "controlplane/intent.h"
#include "controlplane/next_hops.h"
#include "controlplane/publisher.h"
#include "controlplane/result.h"
#include "controlplane/routes.h"
#include "controlplane/status.h"
#include "controlplane/table_builder.h"
#include "dataplane/node_config.h"

namespace guideway {

class Delivery {
 public:
  // `edge_object`: the file of the `edge` program, for TAPs.
  static Result<std::unique_ptr<Delivery>> create(EventLoop& loop, const NodeConfig& config,
                                                  const std::string& edge_object);
  ~Delivery();
  Delivery(const Delivery&) = delete;
  Delivery& operator=(const Delivery&) = delete;

  // The newest intent. Begins the delivery with the first call, which gives the stored one; any
  // other is a change. A stored intent older than the one that runs is not published, nor are
  // routes changed for it, until a change comes: the state directory was lost, or is a wrong one.
  void set_intent(std::shared_ptr<const Intent> intent);

  // Called after each generation that was adopted.
  void on_adoption(std::function<void()> callback) { on_adoption_ = std::move(callback); }
  Announcer& announcer() { return *announcer_; }
  Adoption adoption() const { return adoption_; }
  // What the dataplane forwards by, published by whomever; none: not connected.
  std::optional<Adoption> running() const;
  // Nothing forwards here: no dataplane listens, of whatever layout, and no heartbeat is seen.
  bool dataplane_is_gone() const { return !publisher_->present() && !alive_; }
  bool has_begun() const { return intent_ != nullptr; }
  // Ready once that revision is adopted, or is known not to be soon: refused, no dataplane, late.
  std::future<void> adopted(uint64_t revision);

  const Health& health() const { return *health_; }
  void set_agreed_down(const std::map<std::string, std::set<Address>>& agreed) {
    health_->set_agreed_down(agreed);
  }
  // The dataplane lives, and the operator wants this node to forward.
  bool serves() const;
  // Pools that this node is out of, and why (lone_view.h).
  void set_lone(const std::map<std::string, std::string>& pools);

  const EventLog& events() const { return health_->events(); }

  // All of a status but name, start and revision of the intent.
  void describe(Status& status) const;
  // Over the image that was made last.
  Result<Explanation> explain_flow(const Endpoint& client, const ServiceKey& service) const;

 private:
  struct Waiter {
    uint64_t revision;
    EventLoop::Clock::time_point until;
    std::promise<void> promise;
  };

  Delivery(EventLoop& loop, const NodeConfig& config);
  Result<void> open(const std::string& edge_object);
  void advance();
  void on_tables(std::shared_ptr<const Intent> intent, Result<TableMap> tables);
  bool may_publish() const;
  void publish();
  void claim_counters(uint64_t generation);
  void retry_counters();
  bool is_starting() const;
  bool is_hopeless(uint64_t revision) const;
  template <typename Answered>
  void answer_waiters(Answered answered);
  Result<void> build_and_send(uint64_t generation);
  void want_next_hops_and_routes();
  void tell_announcer();
  void on_next_hops(const std::vector<Address>& changed);
  void on_connected(const DataplaneInfo& info, UniqueFd counters);
  void on_ack(uint64_t generation, uint64_t revision, bool adopted, const std::string& reason);
  void on_refused(uint64_t generation, uint64_t revision, const std::string& reason);
  void on_disconnected(const std::string& why);
  void look_at_heartbeats();
  void describe_dataplane(NodeStatus& node) const;
  std::string problem() const;

  EventLoop& loop_;
  const NodeConfig config_;
  CounterBook book_;
  std::unique_ptr<Counters> counters_;  // null: no dataplane ever wrote any
  std::unique_ptr<NextHops> next_hops_;
  std::unique_ptr<Routes> routes_;
  std::unique_ptr<Health> health_;
  std::unique_ptr<Announcer> announcer_;
  std::unique_ptr<Publisher> publisher_;

  std::shared_ptr<const Intent> intent_;   // the newest
  std::shared_ptr<const Intent> applied_;  // the one that tables_ belong to; null before the first
  TableMap tables_;
  std::string build_problem_;    // of tables
  std::string publish_problem_;  // of the image
  std::string hold_problem_;     // why nothing is published although a dataplane is there
  std::string book_problem_;     // of the counter book
  bool changed_ = false;         // the newest intent is not the stored one that it began with
  uint64_t connections_ = 0;     // of dataplanes, so far
  bool first_ = true;            // nothing was published on this connection yet
  bool dirty_ = false;           // the next image differs from the last
  uint64_t in_flight_ = 0;       // generation sent and not answered
  uint64_t sent_digest_ = 0;     // of its tables
  EventLoop::Clock::time_point sent_at_{};
  uint64_t last_generation_ = 0;
  Adoption adoption_;
  std::optional<RefusedImage> refused_;
  uint64_t refused_revision_ = 0;
  EventLoop::Clock::duration refused_wait_{};  // until it is tried again
  EventLoop::TimerId refused_retry_ = 0;       // 0: not waiting
  EventLoop::TimerId book_retry_ = 0;          // 0: the book is saved
  EventLoop::Clock::time_point began_{};
  std::vector<Waiter> waiters_;
  std::function<void()> on_adoption_;
  EventLoop::TimerId retry_ = 0;
  EventLoop::TimerId announce_ = 0;  // the announcer has not been told the newest yet
  std::map<std::string, std::string> lone_;
  bool announces_ = false;  // the intent is the one to announce
  EventLoop::TimerId heartbeat_timer_ = 0;
  Heartbeats heartbeats_;
  bool alive_ = false;

  TableBuilder builder_;  // last: its thread ends first
};

}  // namespace guideway
