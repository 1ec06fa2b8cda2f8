// SPDX-License-Identifier: Apache-2.0
// A target of the prober, or a canary, with all that is known of it; and one probe of it under way.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "controlplane/http_prober.h"
#include "controlplane/judge.h"
#include "controlplane/outcome_order.h"
#include "controlplane/probe_packet.h"
#include "controlplane/prober.h"

namespace guideway {

class PortWatch;

inline constexpr uint64_t kUs = 1'000;
inline constexpr uint64_t kMs = 1'000'000;

struct Probed {
  explicit Probed(ProbeTarget t)
      : target(std::move(t)), judge(target.probe, target.before.is_down) {}

  uint64_t interval_ns() const { return target.probe.interval_ms * kMs; }
  uint64_t timeout_ns() const { return target.probe.timeout_ms * kMs; }
  bool is_http() const { return target.probe.kind == ProbeKind::http; }
  bool is_tcp() const { return target.probe.kind == ProbeKind::tcp; }

  enum class Leaving : uint8_t { no, its_way, for_good };  // while targets are set

  ProbeTarget target;
  Leaving leaving = Leaving::no;
  bool canary = false;
  Judge judge;
  OutcomeOrder order;
  std::optional<ProbePacket> packet;
  std::string problem;        // why there is no packet
  PortWatch* port = nullptr;  // none: no port of that name
  uint64_t due_ns = 0;        // the next probe
  uint32_t attempt = 0;       // the last one's number
  uint32_t awaited = 1;       // see Scoreboard::expect()
  uint32_t under_way = 0;     // not decided

  uint64_t sure_ns = 0;  // when the last probe was sent whose outcome is not unsure
  uint64_t srtt_ns = 0;  // 0: no answer yet
  uint64_t late_ns = 0;  // the round trip of one that was decided before its answer came; 0: none
  uint64_t sent = 0, answered = 0;

  uint64_t http_token = 0;  // of the request under way; 0: none
  std::optional<HttpAnswer> http_answer;
};

struct Flight {
  enum class State : uint8_t {
    open,     // no answer yet
    overdue,  // nor will there be one in time: to be decided
    judged,   // decided without an answer; looked for all the same, for a while
    gone,
  };
  Probed* probed = nullptr;
  uint32_t attempt = 0;
  State state = State::open;
  uint8_t asked = 0;  // how often it wanted the canaries to be asked
  bool http = false;
  bool held_up = false;    // this machine was, when it left or was answered: stamps tell nothing
  bool forgotten = false;  // its answer may have been overwritten before anybody looked
  uint64_t sent_ns = 0;
  uint64_t deadline_ns = 0;
  uint64_t look_ns = 0;    // when to look next
  uint64_t looked_ns = 0;  // last
  uint64_t until_ns = 0;   // judged: how long to look
  uint64_t answer_ns = 0;  // when an answer came that is late; 0: none has
};

}  // namespace guideway
