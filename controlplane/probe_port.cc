// SPDX-License-Identifier: Apache-2.0
#include "controlplane/probe_port.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace guideway {
namespace {

constexpr uint64_t kCheckNs = 100 * kMs;
constexpr uint64_t kRetryNs = 20 * kMs;
// For a TAP a program is loaded each time, which takes milliseconds.
constexpr uint64_t kRetryMostNs = 320 * kMs;
constexpr size_t kCanariesMax = 4;
constexpr uint32_t kCanaryAwaited = 64;
constexpr uint64_t kJitterNs = 500 * kUs;  // of probes that are sent at an interval
constexpr size_t kResetsKeptMax = 4096;

}  // namespace

PortWatch::PortWatch(ProbePort port, std::unique_ptr<ProbePath> path)
    : port_(std::move(port)), path_(std::move(path)) {}

std::string PortWatch::why_not() const {
  if (port_.owned && port_.connection == 0) return port_.interface + ": no dataplane is connected";
  return reason_;
}

std::string PortWatch::problem() const {
  if (!can_send()) return why_not();
  return silent_ ? "nothing comes back by " + port_.interface : "";
}

std::optional<std::string> PortWatch::check(uint64_t now_ns) {
  last_check_ = now_ns;
  if (!open_) {
    open(now_ns);
    return {};
  }
  const auto there = path_->check();
  if (there) {
    verified_ = now_ns;
    next_check_ = now_ns + kCheckNs;
    return {};
  }
  open(now_ns);
  return there.error().text();
}

void PortWatch::open(uint64_t now_ns) {
  const auto opened = path_->open();
  open_ = opened.has_value();
  if (open_) {
    verified_ = trusted_from_ = now_ns;
    retry_ = 0;
    next_check_ = now_ns + kCheckNs;
    return;
  }
  reason_ = opened.error().text();
  retry_ = port_.owned ? std::clamp(retry_ * 2, kRetryNs, kRetryMostNs) : kRetryNs;
  next_check_ = now_ns + retry_;
}

std::optional<std::string> PortWatch::set_connection(uint64_t connection) {
  const uint64_t before = std::exchange(port_.connection, connection);
  if (!port_.owned || connection == before) return {};
  return port_.interface +
         (connection == 0 ? ": no dataplane is connected" : ": another dataplane is connected");
}

void PortWatch::note_answer(uint64_t sent_ns, uint64_t received_ns) {
  if (std::exchange(silent_, false)) trusted_from_ = std::max(trusted_from_, sent_ns);
  evidence_.note(sent_ns, received_ns);
}

void PortWatch::note_silence(uint64_t sent_ns) {
  if (evidence_.newest_received_ns() < sent_ns) silent_ = true;
}

bool PortWatch::vouches(uint64_t sent_ns, uint64_t interval_ns, uint64_t heard_ns,
                        uint64_t timeout_ns) const {
  const uint64_t span_ns = interval_ns * 5 / 4 + kJitterNs;
  const uint64_t gap_ns = interval_ns + kJitterNs;
  if (distrusts(sent_ns)) return false;
  if (evidence_.holds({sent_ns, sent_ns + span_ns}, heard_ns, timeout_ns)) return true;
  // Of a slow backend among fast ones: answers all the while until its own was due.
  if (heard_ns <= sent_ns + span_ns) return false;
  uint64_t from = sent_ns;
  while (from < heard_ns && evidence_.holds({from, from + gap_ns}, 0, timeout_ns))
    from += gap_ns / 8;
  return from >= heard_ns &&
         evidence_.holds({heard_ns - span_ns, heard_ns + span_ns}, heard_ns, timeout_ns);
}

void PortWatch::set_canaries(const std::vector<ProbePort::Canary>& canaries,
                             const gw_probe_secret& secret) {
  port_.canaries = canaries;
  canaries_.clear();
  for (const ProbePort::Canary& canary : canaries) {
    if (canaries_.size() == kCanariesMax) break;
    ProbeTarget target;
    target.id = kProbeTargetsMax + static_cast<uint32_t>(canaries_.size());
    target.probe.kind = ProbeKind::icmp;
    target.outer = canary.outer;
    target.source = canary.source;
    target.destination = canary.destination;
    auto packet = ProbePacket::make(target, secret);
    if (!packet) continue;
    auto probed = std::make_unique<Probed>(std::move(target));
    probed->canary = true;
    probed->packet = *packet;
    probed->port = this;
    probed->awaited = kCanaryAwaited;
    canaries_.push_back(std::move(probed));
  }
}

void PortWatch::queue(Probed& probed, uint32_t attempt, bool is_probe, ProbePath::Frame frame) {
  Outgoing& out = outgoing_.emplace_back();
  out.probed = &probed;
  out.attempt = attempt;
  out.is_probe = is_probe;
  out.size = static_cast<uint16_t>(frame.size());
  std::memcpy(out.bytes.data(), frame.data(), frame.size());
}

void PortWatch::drop_probes() {
  std::erase_if(outgoing_, [](const Outgoing& out) { return out.is_probe; });
}

void PortWatch::keep_resets() {
  drop_probes();
  if (outgoing_.size() > kResetsKeptMax)
    outgoing_.erase(outgoing_.begin(), outgoing_.end() - kResetsKeptMax);
}

}  // namespace guideway
