// SPDX-License-Identifier: Apache-2.0
// A port as the prober sees it: whether probes can be sent and their replies taken, whether the way
// there and back has worked lately, and what is to be sent next. Pure, but for its path.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/probe_evidence.h"
#include "controlplane/probe_path.h"
#include "controlplane/probed.h"
#include "controlplane/prober.h"

namespace guideway {

class PortWatch {
 public:
  PortWatch(ProbePort port, std::unique_ptr<ProbePath> path);

  const ProbePort& port() const { return port_; }
  ProbePath& path() const { return *path_; }

  bool can_send() const { return open_ && (!port_.owned || port_.connection != 0); }
  std::string why_not() const;  // if it cannot
  std::string problem() const;  // that, or that nothing comes back; empty: none

  // Opens, or looks whether all is as it was, and sets the next time to do so. What it returns says
  // why all that is under way is void; nothing: it is not.
  std::optional<std::string> check(uint64_t now_ns);
  uint64_t next_check_ns() const { return next_check_; }
  uint64_t last_check_ns() const { return last_check_; }
  uint64_t verified_ns() const { return verified_; }  // all was well then
  // The same interface with another dataplane, or none; as above.
  std::optional<std::string> set_connection(uint64_t connection);

  void note_answer(uint64_t sent_ns, uint64_t received_ns);
  // A probe that was sent then has had no answer, and nobody vouches.
  void note_silence(uint64_t sent_ns);
  // Another probe, sent up to an interval after this one, was answered in time (within
  // `timeout_ns`), at `heard_ns` or later; or others were, with no longer gap than that, all the
  // while until then. And the port was not silent when this one was sent. An answer that took
  // longer vouches for nobody: frames may have waited in the node's queues.
  bool vouches(uint64_t sent_ns, uint64_t interval_ns, uint64_t heard_ns,
               uint64_t timeout_ns) const;
  // What was sent then tells nothing by having no answer: nobody was heard.
  bool distrusts(uint64_t sent_ns) const { return sent_ns < trusted_from_; }
  // Something that was sent then or later was answered.
  bool answered_since(uint64_t sent_ns) const { return evidence_.newest_sent_ns() >= sent_ns; }

  std::vector<std::unique_ptr<Probed>>& canaries() { return canaries_; }
  void set_canaries(const std::vector<ProbePort::Canary>& canaries, const gw_probe_secret& secret);
  uint64_t asked_ns = 0;  // when the canaries were asked last

  // To be sent with the next flush.
  struct Outgoing {
    Probed* probed = nullptr;  // of a reset: may be gone
    uint32_t attempt = 0;
    bool is_probe = false;  // else a reset
    uint16_t size = 0;
    std::array<uint8_t, ProbePacket::kBytesMax> bytes;
  };
  void queue(Probed& probed, uint32_t attempt, bool is_probe, ProbePath::Frame frame);
  std::vector<Outgoing>& outgoing() { return outgoing_; }
  void drop_probes();  // of what is to be sent
  // Nothing can be sent now. The resets wait until it can: what they end is still at the backend.
  void keep_resets();

 private:
  void open(uint64_t now_ns);

  ProbePort port_;
  std::unique_ptr<ProbePath> path_;
  bool open_ = false;
  bool silent_ = false;
  std::string reason_ = "not yet looked at";  // why it is not open
  uint64_t last_check_ = 0, next_check_ = 0, verified_ = 0;
  uint64_t retry_ = 0;
  uint64_t trusted_from_ = 0;
  ProbeEvidence evidence_;
  std::vector<std::unique_ptr<Probed>> canaries_;
  std::vector<Outgoing> outgoing_;
};

}  // namespace guideway
