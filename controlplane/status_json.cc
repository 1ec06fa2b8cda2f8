// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstdio>
#include <ctime>

#include "controlplane/intent_change.h"
#include "controlplane/intent_json.h"
#include "controlplane/json_text.h"
#include "controlplane/status.h"
#include "dataplane/verdict.h"

namespace guideway {
namespace {

// Text that can hold no quote, backslash or control character needs no escapes.
std::string quoted_plain(const std::string& text) {
  return '"' + text + '"';
}

std::string field(const char* name, const std::string& json) {
  return std::string(",\"") + name + "\":" + json;
}
std::string field(const char* name, uint64_t number) {
  return field(name, std::to_string(number));
}

std::string boolean(bool value) {
  return value ? "true" : "false";
}

std::string hex16(uint64_t value) {
  char buffer[17];
  std::snprintf(buffer, sizeof buffer, "%016llx", static_cast<unsigned long long>(value));
  return buffer;
}

std::string fraction(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.6g", value);
  return buffer;
}

std::string utc(int64_t seconds) {
  std::time_t time = seconds;
  std::tm parts = {};
  gmtime_r(&time, &parts);
  char buffer[32];
  std::strftime(buffer, sizeof buffer, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return buffer;
}

std::string traffic(const Traffic& value) {
  return field("packets", value.packets) + field("bytes", value.bytes);
}

template <typename Items, typename Write>
std::string array(const Items& items, Write write) {
  std::string out = "[";
  for (const auto& item : items) {
    if (out.size() > 1) out += ',';
    out += write(item);
  }
  return out + "]";
}

std::string time_or_null(const std::string& time) {
  return time.empty() ? "null" : quoted_plain(time);
}

std::string write_sight(const std::optional<ProbeSight>& sight) {
  if (!sight) return field("rtt_us", "null");
  return field("rtt_us", sight->rtt_us == 0 ? "null" : std::to_string(sight->rtt_us)) +
         field("blind", boolean(sight->blind)) + field("probes_sent", sight->sent) +
         field("probes_answered", sight->answered) + field("successes", sight->successes) +
         field("successes_needed", sight->successes_needed);
}

std::string write_seen(const std::optional<BackendSeen>& seen) {
  if (!seen) return "null";
  const auto quoted = [](const std::string& name) { return json_quoted(name); };
  return "{\"nodes\":" + std::to_string(seen->nodes) +
         field("down_on", array(seen->down_on, quoted)) +
         field("blind_on", array(seen->blind_on, quoted)) + "}";
}

std::string write_backend(const BackendStatus& backend) {
  const std::string until = backend.drain_until == 0 ? "" : utc(backend.drain_until);
  return "{\"address\":" + quoted_plain(backend.address.text()) + field("weight", backend.weight) +
         field("mode", quoted_plain(mode_name(backend.mode))) +
         field("drain_until", time_or_null(until)) +
         field("state", quoted_plain(state_name(backend.state))) +
         field("reason", json_quoted(backend.reason)) +
         field("since", time_or_null(backend.since)) + field("seen", write_seen(backend.seen)) +
         field("share_now", fraction(backend.share_now)) + write_sight(backend.sight) +
         field("share", fraction(backend.share)) + field("slots", backend.slots) +
         field("next_hop", write_next_hop(backend.next_hop)) + traffic(backend.traffic) + "}";
}

std::string write_condition(const PoolStatus& pool) {
  return "{\"state\":" + quoted_plain(condition_name(pool.condition)) +
         field("reason", json_quoted(pool.condition_reason)) +
         field("since", time_or_null(pool.condition_since)) + "}";
}

std::string write_dataplane(const NodeStatus& node) {
  uint32_t index = 0;
  std::string ports = array(node.ports, [&](const PortStatus& port) {
    return "{\"index\":" + std::to_string(index++) +
           field("interface", json_quoted(port.interface)) + field("mac", quoted_plain(port.mac)) +
           field("mtu", port.mtu) + field("up", boolean(port.up)) + "}";
  });
  std::string refused = "null";
  if (node.refused) {
    refused = "{\"generation\":" + std::to_string(node.refused->generation) +
              field("reason", json_quoted(node.refused->reason)) + "}";
  }
  return "{\"connected\":" + boolean(node.connected) + field("alive", boolean(node.alive)) +
         field("pid", node.pid) + field("epoch", node.epoch) + field("workers", node.workers) +
         field("generation", node.generation) + field("revision", node.running_revision) +
         field("layout", node.layout) + field("flows", node.flow_table.flows) +
         field("flows_max", node.flow_table.flows_max) +
         field("flows_refused", node.flow_table.refused) + field("ports", ports) +
         field("refused", refused) +
         field("problem", node.problem.empty() ? "null" : json_quoted(node.problem)) + "}";
}

std::string write_counters(const NodeStatus& node) {
  std::string verdicts;
  for (unsigned i = 0; i < kVerdictCount; ++i) {
    if (node.verdicts[i] == 0) continue;
    if (!verdicts.empty()) verdicts += ',';
    verdicts +=
        quoted_plain(std::string(kVerdicts[i].name)) + ":" + std::to_string(node.verdicts[i]);
  }
  return "{\"received\":" + std::to_string(node.received) + ",\"verdicts\":{" + verdicts + "}}";
}

}  // namespace

std::string write_next_hop(const std::optional<NextHop>& hop) {
  if (!hop) return "null";
  return "{\"interface\":" + json_quoted(hop->interface) +
         field("gateway", hop->gateway ? quoted_plain(hop->gateway->text()) : "null") +
         field("mac", quoted_plain(mac_text(hop->mac))) + field("mtu", hop->mtu) + "}";
}

std::string write_change(const PoolStatus& pool) {
  if (!pool.change) return "null";
  const PoolStatus::Change& change = *pool.change;
  return "{\"epoch\":" + std::to_string(change.epoch) +
         field("incoming", change.incoming == 0 ? "null" : std::to_string(change.incoming)) +
         field("earlier", array(change.earlier, [](uint64_t n) { return std::to_string(n); })) +
         field("wanted", change.wanted ? "true" : "false") +
         field("waits", json_quoted(change.waits)) + "}";
}

std::string write_pool(const PoolStatus& pool) {
  return "{\"name\":" + quoted_plain(pool.name) +
         field("forwarding", quoted_plain(forwarding_name(pool.forwarding))) +
         field("table_slots", pool.table_slots) +
         field("digest", quoted_plain(pool.digest == 0 ? "" : hex16(pool.digest))) +
         field("services", pool.services) + field("probe", write_probe(pool.probe)) +
         field("slow_start_ms", pool.slow_start_ms) + field("hold_s", pool.hold_s) +
         field("change", write_change(pool)) + field("health", write_condition(pool)) +
         field("backends", array(pool.backends, write_backend)) + "}";
}

std::string write_service(const ServiceStatus& service) {
  return "{\"service\":" + quoted_plain(service.key.text()) +
         field("pool", quoted_plain(service.pool)) +
         field("state", quoted_plain(state_name(service.state))) +
         field("reason", json_quoted(service.reason)) + traffic(service.traffic) + "}";
}

std::string write_pools(const std::vector<PoolStatus>& pools) {
  return "{\"pools\":" + array(pools, write_pool) + "}";
}

std::string write_services(const std::vector<ServiceStatus>& services) {
  return "{\"services\":" + array(services, write_service) + "}";
}

std::string write_cluster(const Status& status) {
  if (!status.cluster) return "null";
  const ClusterStatus& cluster = *status.cluster;
  std::string refused;
  for (const auto& [key, why] : cluster.refused)
    refused += (refused.empty() ? "" : ",") + json_quoted(key) + ":" + json_quoted(why);
  const auto node = [&](const ClusterStatus::Node& one) {
    const NodeReport& report = one.report;
    const uint64_t newest = status.node.revision;
    return "{\"name\":" + json_quoted(one.name) + field("alive", boolean(one.alive)) +
           field("self", boolean(one.self)) + field("version", json_quoted(report.version)) +
           field("intent", report.intent) + field("revision", report.revision) +
           field("generation", report.generation) +
           field("digest", quoted_plain(report.digest == 0 ? "" : hex16(report.digest))) +
           field("behind", newest > report.revision ? newest - report.revision : 0) +
           field("down", one.down ? std::to_string(*one.down) : "null") +
           field("out", array(one.out, [](const std::string& name) { return json_quoted(name); })) +
           field("problem", json_quoted(one.problem)) + "}";
  };
  return "{\"state\":" + json_quoted(cluster.state) +
         field("id", quoted_plain(cluster.id == 0 ? "" : hex16(cluster.id))) +
         field("endpoint", json_quoted(cluster.endpoint)) +
         field("problem", json_quoted(cluster.problem)) +
         field("last_contact",
               cluster.last_contact == 0 ? "null" : quoted_plain(utc(cluster.last_contact))) +
         field("elected", json_quoted(cluster.elected)) + field("refused", "{" + refused + "}") +
         field("nodes", array(cluster.nodes, node)) + "}";
}

std::string write_status(const Status& status) {
  const NodeStatus& node = status.node;
  return "{\"node\":{\"name\":" + json_quoted(node.name) +
         field("version", quoted_plain(GW_VERSION)) +
         field("pid", static_cast<uint64_t>(getpid())) +
         field("started", quoted_plain(utc(node.started))) + "," +
         write_node_mode_fields(node.mode) + "}" + field("revision", node.revision) +
         field("cluster", write_cluster(status)) + field("dataplane", write_dataplane(node)) +
         field("counters", write_counters(node)) + field("vips", write_vips(status.vips)) +
         field("services", array(status.services, write_service)) +
         field("pools", array(status.pools, write_pool)) + "}";
}

}  // namespace guideway
