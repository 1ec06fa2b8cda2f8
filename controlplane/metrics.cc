// SPDX-License-Identifier: Apache-2.0
#include "controlplane/metrics.h"

#include <initializer_list>
#include <utility>

#include "dataplane/verdict.h"

namespace guideway {
namespace {

using Labels = std::initializer_list<std::pair<const char*, std::string>>;

class Writer {
 public:
  std::string text;

  void metric(const char* name, const char* type, const char* help) {
    name_ = name;
    text += std::string("# HELP ") + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
  }

  void value(uint64_t value, Labels labels = {}) {
    text += name_;
    char separator = '{';
    for (const auto& [label, content] : labels) {
      text += separator;
      text += std::string(label) + "=\"" + escaped(content) + '"';
      separator = ',';
    }
    if (labels.size() > 0) text += '}';
    text += ' ' + std::to_string(value) + '\n';
  }

  void single(const char* name, const char* type, const char* help, uint64_t value) {
    metric(name, type, help);
    this->value(value);
  }

 private:
  static std::string escaped(const std::string& content) {
    std::string out;
    for (char c : content) {
      if (c == '\\' || c == '"') out += '\\';
      if (c == '\n') {
        out += "\\n";
      } else {
        out += c;
      }
    }
    return out;
  }

  const char* name_ = "";
};

void write_node(const NodeStatus& node, Writer& out) {
  out.metric("guideway_info", "gauge", "Constant 1; what runs here.");
  out.value(1, {{"node", node.name}, {"version", GW_VERSION}});
  out.single("guideway_revision", "gauge", "Revision of the intent.", node.revision);
  out.single("guideway_dataplane_connected", "gauge",
             "1: the control plane has a connection to the dataplane.", node.connected ? 1 : 0);
  out.single("guideway_dataplane_alive", "gauge", "1: the heartbeat of each worker advances.",
             node.alive ? 1 : 0);
  out.single("guideway_dataplane_generation", "gauge", "Generation of the image that runs.",
             node.generation);
  out.single("guideway_dataplane_revision", "gauge",
             "Revision that the running image is made from.", node.running_revision);
  out.single("guideway_dataplane_refused", "gauge", "1: the last image was refused.",
             node.refused ? 1 : 0);
  out.single("guideway_dataplane_starts_total", "counter", "Starts of the dataplane.", node.epoch);
  out.single("guideway_dataplane_workers", "gauge", "Workers that run.", node.workers);
  out.single("guideway_received_packets_total", "counter", "Packets received by the dataplane.",
             node.received);
  out.single("guideway_flow_table_flows", "gauge", "Entries of the flow tables in use.",
             node.flow_table.flows);
  out.single("guideway_flow_table_flows_max", "gauge", "Entries that the flow tables have.",
             node.flow_table.flows_max);
  out.single("guideway_flow_table_refused_total", "counter",
             "Flows that found no room in their flow table.", node.flow_table.refused);
  out.metric("guideway_verdicts_total", "counter", "Packets by what became of them.");
  for (unsigned i = 0; i < kVerdictCount; ++i) {
    out.value(node.verdicts[i], {{"verdict", std::string(kVerdicts[i].name)}});
  }
}

void write_announce_metrics(const Status& status, Writer& out) {
  out.single("guideway_node_in_service", "gauge", "0: the operator took the node out of service.",
             status.node.mode.mode == NodeMode::normal ? 1 : 0);
  out.metric("guideway_vip_announcement", "gauge", "1 for how the VIP is announced.");
  for (const VipStatus& vip : status.vips) {
    for (Announcement one :
         {Announcement::normal, Announcement::reduced, Announcement::withdrawn}) {
      out.value(vip.announcement == one ? 1 : 0,
                {{"vip", vip.vip.text()}, {"announcement", announcement_name(one)}});
    }
  }
}

void write_service_metrics(const Status& status, Writer& out) {
  out.metric("guideway_service_state", "gauge", "1 for the state that the service is in.");
  for (const ServiceStatus& service : status.services) {
    for (ServiceState state : {ServiceState::ready, ServiceState::degraded, ServiceState::down}) {
      out.value(
          service.state == state ? 1 : 0,
          {{"service", service.key.text()}, {"pool", service.pool}, {"state", state_name(state)}});
    }
  }
  out.metric("guideway_service_packets_total", "counter", "Packets sent to backends, by service.");
  for (const ServiceStatus& service : status.services) {
    out.value(service.traffic.packets, {{"service", service.key.text()}});
  }
  out.metric("guideway_service_bytes_total", "counter",
             "Bytes of the clients' IP packets sent to backends, by service.");
  for (const ServiceStatus& service : status.services) {
    out.value(service.traffic.bytes, {{"service", service.key.text()}});
  }
}

void write_backend_metrics(const Status& status, Writer& out) {
  out.metric("guideway_backends", "gauge", "Backends by state.");
  for (const PoolStatus& pool : status.pools) {
    for (BackendState state :
         {BackendState::up, BackendState::down, BackendState::draining, BackendState::disabled,
          BackendState::unknown, BackendState::no_next_hop, BackendState::no_weight}) {
      uint64_t count = 0;
      for (const BackendStatus& backend : pool.backends) count += backend.state == state ? 1 : 0;
      out.value(count, {{"pool", pool.name}, {"state", state_name(state)}});
    }
  }
  out.metric("guideway_pool_condition", "gauge", "1 for the condition that the pool is in.");
  for (const PoolStatus& pool : status.pools) {
    for (PoolCondition one : {PoolCondition::normal, PoolCondition::panic, PoolCondition::blind}) {
      out.value(pool.condition == one ? 1 : 0,
                {{"pool", pool.name}, {"condition", condition_name(one)}});
    }
  }
  out.metric("guideway_backend_up", "gauge", "1: the backend is up.");
  for (const PoolStatus& pool : status.pools) {
    for (const BackendStatus& backend : pool.backends) {
      out.value(backend.state == BackendState::up ? 1 : 0,
                {{"pool", pool.name}, {"backend", backend.address.text()}});
    }
  }
  out.metric("guideway_probe_rtt_microseconds", "gauge", "Smoothed round trip of its probes.");
  for (const PoolStatus& pool : status.pools) {
    for (const BackendStatus& backend : pool.backends) {
      if (!backend.sight || backend.sight->rtt_us == 0) continue;
      out.value(backend.sight->rtt_us, {{"pool", pool.name}, {"backend", backend.address.text()}});
    }
  }
  out.metric("guideway_probes_sent_total", "counter", "Probes sent to the backend.");
  for (const PoolStatus& pool : status.pools) {
    for (const BackendStatus& backend : pool.backends) {
      if (!backend.sight) continue;
      out.value(backend.sight->sent, {{"pool", pool.name}, {"backend", backend.address.text()}});
    }
  }
  out.metric("guideway_probes_answered_total", "counter", "Probes that were answered in time.");
  for (const PoolStatus& pool : status.pools) {
    for (const BackendStatus& backend : pool.backends) {
      if (!backend.sight) continue;
      out.value(backend.sight->answered,
                {{"pool", pool.name}, {"backend", backend.address.text()}});
    }
  }
  out.metric("guideway_backend_packets_total", "counter", "Packets sent to the backend.");
  for (const PoolStatus& pool : status.pools) {
    for (const BackendStatus& backend : pool.backends) {
      out.value(backend.traffic.packets,
                {{"pool", pool.name}, {"backend", backend.address.text()}});
    }
  }
  out.metric("guideway_backend_bytes_total", "counter",
             "Bytes of the clients' IP packets sent to the backend.");
  for (const PoolStatus& pool : status.pools) {
    for (const BackendStatus& backend : pool.backends) {
      out.value(backend.traffic.bytes, {{"pool", pool.name}, {"backend", backend.address.text()}});
    }
  }
}

}  // namespace

std::string write_metrics(const Status& status) {
  Writer out;
  write_node(status.node, out);
  write_announce_metrics(status, out);
  write_service_metrics(status, out);
  write_backend_metrics(status, out);
  return std::move(out.text);
}

}  // namespace guideway
