// SPDX-License-Identifier: Apache-2.0
// The agent's end of agent_protocol.h: tells nodes that have the key how many sockets this host
// holds. Lives in the loop's thread.
//
// What strangers can do: make it hash what they send, at most 1 MiB for each connection, and take
// connections, each for at most the time-out. When all are taken, the next one costs the
// peer that has most of them its oldest; so who takes many only crowds out himself.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "controlplane/agent_protocol.h"
#include "controlplane/event_loop.h"
#include "controlplane/result.h"
#include "controlplane/unique_fd.h"

namespace guideway::cli {

struct AgentListen {
  Address address;  // [::] takes IPv4 too
  uint16_t port = kAgentPort;

  // "[::]:6081", "0.0.0.0:6081", "10.0.0.21:6081".
  static Result<AgentListen> parse(const std::string& text);
  std::string text() const;
};

// Connections, by how they ended.
struct AgentServerCounters {
  uint64_t answered = 0;
  uint64_t refused = 0;      // with the key, but not to be answered; the node was told why
  uint64_t wrong_key = 0;    // or a replayed request
  uint64_t broken = 0;       // too long, cut off, or something after the request
  uint64_t timed_out = 0;    // too slow
  uint64_t crowded_out = 0;  // made room for another
  bool operator==(const AgentServerCounters&) const = default;
};

struct AgentServerLimits {
  size_t connections = 64;
  std::chrono::milliseconds timeout{2000};  // of a connection, from beginning to end
};

// What the server asks this host; called in the loop's thread.
struct AgentHost {
  std::function<Result<uint64_t>(const AgentRequest&)> sockets;
  std::function<uint64_t()> second_chances;
};

class AgentServer {
 public:
  static Result<std::unique_ptr<AgentServer>> create(EventLoop& loop, AgentKey key,
                                                     const AgentListen& listen, AgentHost host,
                                                     AgentServerLimits limits);
  ~AgentServer();
  AgentServer(const AgentServer&) = delete;
  AgentServer& operator=(const AgentServer&) = delete;

  const AgentServerCounters& counters() const { return counters_; }
  size_t connections() const { return connections_.size(); }
  uint16_t port() const { return port_; }  // the kernel's choice if it was asked for 0

 private:
  using Count = uint64_t AgentServerCounters::*;
  struct Connection {
    UniqueFd fd;
    Address peer;
    Address local;
    AgentChallenge challenge;
    std::string in;
    std::string out;
    size_t sent = 0;
    bool answering = false;
    Count ends_as = nullptr;  // once `out` is sent
    EventLoop::TimerId timer = 0;
  };
  // By age: a serial number.
  using Connections = std::map<uint64_t, Connection>;

  AgentServer(EventLoop& loop, AgentKey key, AgentHost host, AgentServerLimits limits);
  Result<void> listen(const AgentListen& where);
  void accept_some();
  bool begin(UniqueFd fd);
  void make_room();
  void handle(uint64_t serial);
  void receive(uint64_t serial, Connection& connection);
  void answer(uint64_t serial, Connection& connection, const AgentFrame& frame);
  void send_rest(uint64_t serial, Connection& connection);
  std::string body_for(const Connection& connection, const AgentFrame& frame, Count& ends_as);
  void end(uint64_t serial, Count as);

  EventLoop& loop_;
  const AgentKey key_;
  const AgentHost host_;
  const AgentServerLimits limits_;
  std::string boot_id_;
  int64_t started_ = 0;
  UniqueFd listener_;
  EventLoop::TimerId listen_again_ = 0;
  uint16_t port_ = 0;
  uint64_t next_serial_ = 1;
  Connections connections_;
  AgentServerCounters counters_;
};

}  // namespace guideway::cli
