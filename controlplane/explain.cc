// SPDX-License-Identifier: Apache-2.0
#include "controlplane/explain.h"

#include <cstdio>
#include <utility>

#include "controlplane/intent_change.h"
#include "controlplane/intent_rules.h"
#include "controlplane/json_text.h"
#include "dataplane/flow.h"

namespace guideway {
namespace {

std::string describe_taker(const Explanation& out, size_t taker) {
  const std::string slot = "slot " + std::to_string(out.slot);
  const std::string address = out.hops[taker].address.text();
  if (taker == 0) return address + " owns " + slot + " and is up";
  const ExplainedHop& owner = out.hops[0];
  return owner.address.text() + ", the owner of " + slot + ", is not up (" + owner.reason +
         "); its stand-in " + address + " is";
}

std::string quoted(const std::string& text) {
  return json_quoted(text);
}

std::string write_hop(const ExplainedHop& hop) {
  return "{\"role\":\"" + hop.role + "\",\"address\":\"" + hop.address.text() + "\",\"state\":\"" +
         state_name(hop.state) + "\",\"takes\":" + (hop.takes ? "true" : "false") +
         ",\"reason\":" + quoted(hop.reason) + "}";
}

void walk_hops(const PoolTable& made, const Pool& pool,
               const std::function<const NextHopState&(const Address&)>& next_hop,
               Explanation& out) {
  const std::span<const uint16_t> hops = made.table->hops(out.slot);
  std::optional<size_t> taker;
  for (size_t i = 0; i < hops.size() && hops[i] != GW_NO_HOP; ++i) {
    ExplainedHop hop;
    hop.role = i == 0 ? "owner" : "stand-in";
    hop.address = made.backends[hops[i]].address;
    auto backend = pool.backends.find(hop.address);
    const NextHopState& state = next_hop(hop.address);
    std::tie(hop.state, hop.reason) = judge_backend(
        pool, hop.address, backend == pool.backends.end() ? Backend{} : backend->second, state);
    if (hop.state == BackendState::up && !taker) {
      taker = i;
      hop.takes = true;
      out.backend = hop.address;
      out.next_hop = state.hop;
    } else if (hop.state == BackendState::up) {
      hop.reason = "later in the list";
    }
    out.hops.push_back(std::move(hop));
  }
  out.why = taker ? describe_taker(out, *taker)
                  : "no hop of slot " + std::to_string(out.slot) + " is up: the packet is dropped";
}

}  // namespace

Result<Endpoint> Endpoint::parse(std::string_view text) {
  // A service's text without protocol is the same thing, and has been parsed already.
  auto key = ServiceKey::parse(std::string(text) + "/tcp");
  if (!key || key->port == 0 || text.find('/') != std::string_view::npos) {
    return fail("client",
                "must be an address and a port, got '" + std::string(text.substr(0, 64)) + "'",
                "like 198.51.100.7:40000 or [2001:db8::7]:40000");
  }
  return Endpoint{key->vip, key->port};
}

std::string Endpoint::text() const {
  const std::string host = address.is_v4() ? address.text() : "[" + address.text() + "]";
  return host + ":" + std::to_string(port);
}

Result<Explanation> explain(const Endpoint& client, const ServiceKey& asked, const Intent& intent,
                            const TableMap& tables,
                            const std::function<const NextHopState&(const Address&)>& next_hop) {
  if (client.address.is_v4() != asked.vip.is_v4()) {
    return fail("client", client.address.text() + " is " + family_name(client.address) +
                              ", but the VIP is " + family_name(asked.vip));
  }
  ServiceKey all_ports = asked;
  all_ports.port = 0;
  auto service = intent.services.find(asked);
  if (service == intent.services.end()) service = intent.services.find(all_ports);
  if (service == intent.services.end()) {
    return fail("service", "there is no service " + asked.text());
  }
  if (asked.port == 0) {
    return fail(
        "service", "name the port of the packet", "like " + [&] {
          ServiceKey one = asked;
          one.port = 443;
          return one.text();
        }());
  }
  const Pool& pool = intent.pools.at(service->second.pool);
  Explanation out;
  out.client = client;
  out.service = service->first;
  out.pool = service->second.pool;
  out.forwarding = pool.forwarding;
  out.revision = intent.revision;
  FlowKey key;
  key.client = client.address;
  key.vip = asked.vip;
  key.client_port = be16(client.port);
  key.vip_port = be16(asked.port);
  key.protocol = asked.protocol;
  out.hash = flow_hash(key, intent.flow_seed);
  auto made = tables.find(out.pool);
  if (made == tables.end() || made->second.table == nullptr) {
    out.why = "pool " + out.pool + " has no backend with weight: the packet is dropped";
    return out;
  }
  out.slots = made->second.table->slots();
  out.slot = flow_slot(out.hash, out.slots);
  walk_hops(made->second, pool, next_hop, out);
  return out;
}

std::string write_explanation(const Explanation& out) {
  char hash[19];
  std::snprintf(hash, sizeof hash, "0x%016llx", static_cast<unsigned long long>(out.hash));
  std::string hops;
  for (const ExplainedHop& hop : out.hops) hops += (hops.empty() ? "" : ",") + write_hop(hop);
  return "{\"client\":" + quoted(out.client.text()) + ",\"service\":" + quoted(out.service.text()) +
         ",\"pool\":" + quoted(out.pool) + ",\"forwarding\":\"" + forwarding_name(out.forwarding) +
         "\",\"hash\":\"" + hash + "\",\"slot\":" + std::to_string(out.slot) +
         ",\"slots\":" + std::to_string(out.slots) + ",\"hops\":[" + hops +
         "],\"backend\":" + (out.backend ? quoted(out.backend->text()) : "null") +
         ",\"next_hop\":" + write_next_hop(out.next_hop) +
         ",\"generation\":" + std::to_string(out.generation) +
         ",\"revision\":" + std::to_string(out.revision) + ",\"why\":" + quoted(out.why) + "}";
}

}  // namespace guideway
