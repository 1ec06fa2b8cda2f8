// SPDX-License-Identifier: Apache-2.0
// The prober's end of `edge`: the scoreboard of an interface, mapped, and the secret that tells
// genuine replies. On an interface that is shared with the kernel the dataplane's driver has
// attached `edge` (find()); on a TAP, which stands for a NIC that DPDK owns, the control plane
// attaches the same program itself (attach_tap()): it has no VIPs there and passes all that is no
// probe reply.
//
//   board = Scoreboard::find(interface, secret)
//   board.expect(target, attempt, 10)      then the probe is sent (cookie.h says what it holds)
//   board.read(target, attempt)            as often as one likes
//
// One thread at a time; needs root (expect and read do not). Errors name the interface.
#pragma once

#include <cstdint>
#include <string>

#include "bpf/attachment.h"
#include "bpf/layout.h"
#include "controlplane/result.h"

namespace guideway {

class Scoreboard {
 public:
  // The scoreboard of the `edge` that is attached now, cleared, with this secret. Fails if no
  // `edge` is attached, or if it is one without a scoreboard (an older one).
  static Result<Scoreboard> find(const std::string& interface, const gw_probe_secret& secret);

  // Attaches `edge` from the object file to a TAP: native, else generic. One that an earlier
  // control plane left is replaced; another program there is an error. It stays attached at the
  // end (the next start replaces it): a probe reply in the meantime goes nowhere else.
  static Result<Scoreboard> attach_tap(const std::string& tap, const std::string& object,
                                       const gw_probe_secret& secret);

  Scoreboard(Scoreboard&& other) noexcept;
  Scoreboard& operator=(Scoreboard&& other) noexcept;
  ~Scoreboard();

  // Whether the program that this scoreboard belongs to is still the one on the interface; false
  // as well if the interface is gone. A few system calls.
  Result<bool> attached() const;

  // To be called before attempt `attempt` of the target is sent; attempts count up by one, modulo
  // GW_PROBE_ATTEMPTS, from anywhere. From now on the replies to the newest `awaited` attempts are
  // taken (1 to GW_SCORE_AWAITED_MAX: as many as fit into the time-out, and as long as late ones
  // are of interest), and nothing else of this target: without it there are no replies. Other
  // packets go to the kernel. No system call.
  void expect(uint32_t target, uint32_t attempt, uint32_t awaited);

  // No reply is taken for this target any more.
  void forget(uint32_t target);

  struct Reply {
    gw_reply_kind kind = GW_REPLY_none;
    uint64_t received_ns = 0;  // CLOCK_MONOTONIC, rounded down to 64 ns
  };
  // What came back of that attempt of the target since expect(); none: nothing (yet), or
  // overwritten by the reply to a later attempt (the GW_SCORE_REPLIES latest stand). `target` below
  // GW_PROBE_TARGETS_MAX, `attempt` any number: it is taken modulo GW_PROBE_ATTEMPTS. No system
  // call; from any thread, also while replies come in.
  Reply read(uint32_t target, uint32_t attempt) const;

  unsigned program_id() const { return attachment_.program_id; }

 private:
  Scoreboard() = default;
  static Result<Scoreboard> of(const Interface& interface, Attachment attachment,
                               const gw_probe_secret& secret);

  Interface interface_;
  Attachment attachment_;
  gw_score* scores_ = nullptr;  // [GW_PROBE_TARGETS_MAX], mapped
};

}  // namespace guideway
