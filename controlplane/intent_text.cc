// SPDX-License-Identifier: Apache-2.0
// The words of an intent: what JSON and messages call its values.
#include "controlplane/intent_change.h"
#include "controlplane/time_text.h"

namespace guideway {
namespace {

template <typename Value>
struct Name {
  Value value;
  const char* name;
};

constexpr Name<Forwarding> kForwardings[] = {
    {Forwarding::l2, "l2"}, {Forwarding::ipip, "ipip"}, {Forwarding::gue, "gue"}};
constexpr Name<BackendMode> kModes[] = {{BackendMode::enabled, "enabled"},
                                        {BackendMode::draining, "draining"},
                                        {BackendMode::disabled, "disabled"}};
constexpr Name<ProbeKind> kProbeKinds[] = {{ProbeKind::none, "none"},
                                           {ProbeKind::tcp, "tcp"},
                                           {ProbeKind::icmp, "icmp"},
                                           {ProbeKind::udp, "udp"},
                                           {ProbeKind::http, "http"}};
constexpr Name<UdpQuery> kUdpQueries[] = {{UdpQuery::dns, "dns"}, {UdpQuery::echo, "echo"}};

template <typename Value, size_t N>
const char* name_in(const Name<Value> (&names)[N], Value value) {
  for (const Name<Value>& one : names) {
    if (one.value == value) return one.name;
  }
  return "";
}

template <typename Value, size_t N>
std::optional<Value> value_in(const Name<Value> (&names)[N], std::string_view name) {
  for (const Name<Value>& one : names) {
    if (one.name == name) return one.value;
  }
  return {};
}

}  // namespace

const char* forwarding_name(Forwarding forwarding) {
  return name_in(kForwardings, forwarding);
}
std::optional<Forwarding> forwarding_of(std::string_view name) {
  return value_in(kForwardings, name);
}

const char* mode_name(BackendMode mode) {
  return name_in(kModes, mode);
}
std::optional<BackendMode> mode_of(std::string_view name) {
  return value_in(kModes, name);
}

const char* probe_kind_name(ProbeKind kind) {
  return name_in(kProbeKinds, kind);
}
std::optional<ProbeKind> probe_kind_of(std::string_view name) {
  return value_in(kProbeKinds, name);
}

const char* udp_query_name(UdpQuery query) {
  return name_in(kUdpQueries, query);
}
std::optional<UdpQuery> udp_query_of(std::string_view name) {
  return value_in(kUdpQueries, name);
}

std::string probe_text(const Probe& probe) {
  std::string out = probe_kind_name(probe.kind);
  if (probe.kind == ProbeKind::none) return out;
  if (probe.kind != ProbeKind::icmp) out += ":" + std::to_string(probe.port);
  if (probe.kind == ProbeKind::http) out += probe.path;
  if (!probe.host.empty()) out += " of host " + probe.host;
  if (probe.kind == ProbeKind::udp) out += std::string(" by ") + udp_query_name(probe.query);
  return out + " every " + duration_text(probe.interval_ms) + ", time-out " +
         duration_text(probe.timeout_ms) + ", fall " + std::to_string(probe.fall) + ", rise " +
         std::to_string(probe.rise);
}

}  // namespace guideway
