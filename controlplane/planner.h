// SPDX-License-Identifier: Apache-2.0
// Takes the plans of `gue` pools (pool_plan.h) step by step to where they are wanted: when all live
// nodes run what was decided last, it prepares, commits, asks the agents, retires. The one-step
// plans of other pools it retires when their time is over. Everything that it decides is stored
// before anybody acts on it; it keeps nothing that a restart would miss.
//
// Lives in the loop's thread; steps are computed in one of their own (a table is built for each).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "controlplane/event_loop.h"
#include "controlplane/intent.h"
#include "controlplane/result.h"
#include "controlplane/store.h"

namespace guideway {

class Planner {
 public:
  using Sockets = std::map<Address, uint64_t>;  // of those that answered
  struct World {
    std::function<std::shared_ptr<const Intent>()> intent;
    // Whether this node is the one that does it. Absent: yes.
    std::function<bool()> acts;
    // The revision that all live nodes run, at least.
    std::function<uint64_t()> confirmed;
    // As Store's.
    std::function<void(Store::Change change, const std::string& what, Store::Done done)> change;
    // Asks the agents how many sockets they hold in those ranges, of that pool's services, and
    // calls back once, in the loop's thread. Null: agents are not asked.
    std::function<void(const std::string& pool, std::vector<BackendRanges>,
                       std::function<void(Sockets)>)>
        ask;
  };

  struct Pace {
    std::chrono::milliseconds look{250};
    // From the confirmation to the first question: for SYNs in flight, and for ACKs to SYN cookies,
    // of which no socket tells yet.
    std::chrono::milliseconds settle{3'000};
    std::chrono::milliseconds ask_again{2'000};
  };
  Planner(EventLoop& loop, World world, Pace pace);
  ~Planner();  // waits for a step under way
  Planner(const Planner&) = delete;
  Planner& operator=(const Planner&) = delete;

  // The intent, or what is confirmed, may be another than before.
  void look();

  // Why the pool's change does not go on; empty: it does, or there is none.
  std::string waits(const std::string& pool) const;

 private:
  using Clock = EventLoop::Clock;
  struct Job {
    std::string pool;
    ChangePlan plan;
    std::vector<PlanEvent> events;  // until one changes something
    bool ask = false;
  };
  struct Outcome {
    std::string pool;
    ChangePlan before;
    bool stepped = false;  // an event was tried
    PlanStep step;
    std::vector<RetireQuestion> questions;
  };
  struct Watch {
    Clock::time_point first{};         // when the pool was seen not to be at rest
    uint64_t revision = 0;             // of the plan's last step
    Clock::time_point confirmed_at{};  // zero: not yet
    Clock::time_point next_ask{};
    std::map<uint64_t, Clock::time_point> earlier;  // epochs, since when they are earlier
    Answers answers;     // of the questions under way, then not taken yet
    unsigned asked = 0;  // questions without an answer yet
    std::string waits;
  };

  void end_drains(uint64_t confirmed);
  void ask_drains(uint64_t confirmed);
  void drained(const std::string& pool, const Address& backend, const Sockets& sockets);
  using IsOver = std::function<bool(const std::string&, const Pool&, const Address&)>;
  void disable(IsOver is_over);
  std::vector<Job> jobs(uint64_t confirmed);
  void watch(const std::string& name, const Pool& pool, uint64_t confirmed);
  void start(std::vector<Job> jobs, uint64_t confirmed);
  void take(std::vector<Outcome> outcomes);
  void end_of_step();
  void ask(const std::string& pool, std::vector<RetireQuestion> questions);
  void answered(const std::string& pool, uint64_t revision, size_t number, Sockets sockets);

  EventLoop& loop_;
  World world_;
  const Pace pace_;
  std::map<std::string, Watch> watches_;
  // Backends that drain and have no slot any more.
  struct Drain {
    Clock::time_point since{};
    Clock::time_point next_ask{};
    bool asked = false;  // and not answered yet
  };
  std::map<std::pair<std::string, Address>, Drain> drains_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  EventLoop::TimerId timer_ = 0;
  bool disables_ = false;  // drains that are over are being stored
  bool busy_ = false;      // a step is computed, or stored
  bool again_ = false;     // look() was called meanwhile
  std::thread thread_;
};

}  // namespace guideway
