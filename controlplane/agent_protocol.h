// SPDX-License-Identifier: Apache-2.0
// What a node and the agent on a backend say to each other: messages, their layout, and how each
// end knows that the other has the key. Pure but for random numbers, of the challenge and of each
// request.
//
// TCP, made by the node, to the agent's port; one request, one answer, then the agent closes.
// Integers are big-endian.
//
//   agent to node   challenge   "GWAG" | u16 version (2) | u16 zero | 32 random bytes
//   node to agent   request     u32 length of what follows but the HMAC | 32 random bytes | body |
//                               32 bytes HMAC-SHA256(key, challenge | all before it)
//   agent to node   answer      u32 length of the body | body | 32 bytes HMAC-SHA256(key,
//                               challenge | the request's HMAC | length | body)
//
// So a request is good for one connection (by the agent's random bytes) and an answer for one
// request (by the node's): neither can be replayed.
// A request names the backend that it is meant for, and an agent answers only if the connection
// came to that address: nobody on the way can have another backend's answer taken for this one's.
// What is said is not secret: a listener learns VIPs and numbers, nothing that helps him to ask.
// An agent that does not find the key closes the connection, and says nothing.
//
// Bodies are JSON. The request:
//   {"backend": "10.0.0.21", "flow_seed": 1234, "services": ["203.0.113.10:443/tcp", ...],
//    "ranges": [first, last, first, last, ...]}
// TCP services only, with the text of ServiceKey (without a port: all of them); ranges of the upper
// half of flow hashes, both ends included, at most kAgentRangesMax. All members are needed; one
// that the agent does not know is refused, since it might change what is asked. The answer:
//   {"sockets": 12, "second_chances": 3456, "version": "0.1.0", "boot_id": "...", "started":
//   1700000000}
// or {"error": "why it could not be told"}. A node ignores members that it does not know.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/agent_key.h"
#include "controlplane/hop_table.h"
#include "controlplane/intent.h"
#include "controlplane/result.h"

namespace guideway {

inline constexpr uint16_t kAgentPort = 6081;
inline constexpr uint16_t kAgentProtocol = 2;
inline constexpr size_t kAgentNonceBytes = 32;
inline constexpr size_t kAgentChallengeBytes = 8 + kAgentNonceBytes;
inline constexpr size_t kAgentMacBytes = 32;
inline constexpr size_t kAgentRequestMax = size_t{1} << 20;  // of the body
inline constexpr size_t kAgentAnswerMax = size_t{64} << 10;
// With as many services as a node can have, these fit into a request; for more of them, ask again.
inline constexpr size_t kAgentRangesMax = 24'000;

using AgentMac = std::array<uint8_t, kAgentMacBytes>;

// As it is on the wire.
struct AgentChallenge {
  std::array<uint8_t, kAgentChallengeBytes> bytes{};

  static Result<AgentChallenge> fresh();
  // Of kAgentChallengeBytes; an error if it is none of ours, or of another version.
  static Result<AgentChallenge> parse(std::string_view bytes);
  std::string_view view() const {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
};

// What has arrived of a request or answer.
struct AgentFrame {
  enum class State {
    more,   // the rest is to come
    whole,  // `body` and `mac` are set, nothing is checked yet
    bad,    // longer than it may be, or something comes after it
  };
  State state = State::more;
  std::string_view body;  // within what was given
  AgentMac mac{};

  static AgentFrame of(std::string_view received, size_t body_max);
  // The body of a request, without the node's random bytes; empty if it is too short for one.
  std::string_view request() const {
    return body.size() < kAgentNonceBytes ? std::string_view() : body.substr(kAgentNonceBytes);
  }
};

// A message as it is sent, and its HMAC. Nothing if libcrypto has no memory, the kernel no random
// numbers, or the body is longer than it may be.
struct AgentMessage {
  std::string bytes;
  AgentMac mac{};
};
std::optional<AgentMessage> seal_request(const AgentKey& key, const AgentChallenge& challenge,
                                         std::string_view body);
std::optional<AgentMessage> seal_answer(const AgentKey& key, const AgentChallenge& challenge,
                                        const AgentMac& request, std::string_view body);

// Whether the HMAC is right; in the same time for all that are wrong.
bool genuine_request(const AgentKey& key, const AgentChallenge& challenge, const AgentFrame& frame);
bool genuine_answer(const AgentKey& key, const AgentChallenge& challenge, const AgentMac& request,
                    const AgentFrame& frame);

struct AgentRequest {
  Address backend;  // whom it is meant for
  uint64_t flow_seed = 0;
  std::vector<ServiceKey> services;  // TCP
  std::vector<HashRange> ranges;
};

struct AgentAnswer {
  uint64_t sockets = 0;         // in the ranges asked about
  uint64_t second_chances = 0;  // packets sent on to a later hop, since `redirect` was attached
  std::string version;          // of the agent
  std::string boot_id;          // of the host's kernel: another one, another boot
  int64_t started = 0;          // the agent, in seconds since 1970
};

std::string write_agent_request(const AgentRequest& request);
Result<AgentRequest> read_agent_request(std::string_view body);
std::string write_agent_answer(const AgentAnswer& answer);
std::string write_agent_refusal(const Error& error);
// A refusal is an error, with the agent's words.
Result<AgentAnswer> read_agent_answer(std::string_view body);

}  // namespace guideway
