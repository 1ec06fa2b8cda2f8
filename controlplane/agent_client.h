// SPDX-License-Identifier: Apache-2.0
// The node's end of agent_protocol.h: asks the agents on many backends at once.
//
// Lives in the loop's thread; connections are made in a thread of its own, in the network namespace
// of who created it, so that a large question does not hold the loop up.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "controlplane/agent_protocol.h"
#include "controlplane/event_loop.h"
#include "controlplane/result.h"

namespace guideway {

struct AgentQuestion {
  Address backend;
  std::vector<HashRange> ranges;
};

struct AgentClientLimits {
  size_t connections = 256;                 // at a time
  std::chrono::milliseconds timeout{2000};  // of a connection, from beginning to end
};

class AgentClient {
 public:
  // One for each backend asked: what it said, or why it is not known. An error is not "none".
  using Answers = std::map<Address, Result<AgentAnswer>>;
  using Done = std::function<void(Answers)>;

  static Result<std::unique_ptr<AgentClient>> create(EventLoop& loop, AgentKey key, uint16_t port,
                                                     AgentClientLimits limits = {});
  // What is under way is dropped: its `done` is not called.
  ~AgentClient();
  AgentClient(const AgentClient&) = delete;
  AgentClient& operator=(const AgentClient&) = delete;

  // `services` of one pool; those that are not TCP are left out. `done` is called once, in the
  // loop's thread, never from within ask(). A question of more ranges than fit into a request is
  // asked in parts, one after another, and `sockets` is their sum. A backend that stands twice is
  // asked once, about all its ranges.
  void ask(uint64_t flow_seed, std::vector<ServiceKey> services,
           std::vector<AgentQuestion> questions, Done done);

 private:
  class Impl;
  explicit AgentClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace guideway
