// SPDX-License-Identifier: Apache-2.0
#include "controlplane/explain.h"

#include <algorithm>
#include <cstdio>
#include <span>
#include <utility>

#include "controlplane/intent_change.h"
#include "controlplane/intent_rules.h"
#include "controlplane/json_text.h"
#include "dataplane/flow.h"
#include "dataplane/spare.h"

namespace guideway {
namespace {

std::string describe_taker(const Explanation& out, size_t taker) {
  const std::string slot = "slot " + std::to_string(out.slot);
  if (out.hops[0].role != "owner")
    return slot + " has no owner; its " + out.hops[taker].role + " " +
           out.hops[taker].address.text() + " takes new flows";
  const std::string address = out.hops[taker].address.text();
  if (taker == 0) return address + " owns " + slot + " and takes new flows";
  const ExplainedHop& owner = out.hops[0];
  const std::string why = owner.address.text() + ", the owner of " + slot +
                          ", takes no new flows (" + owner.reason + "); ";
  if (out.hops[taker].role == "spare") {
    return why + "nor do its stand-ins; its spare " + address + " does";
  }
  return why + "its stand-in " + address + " does";
}

std::string quoted(const std::string& text) {
  return json_quoted(text);
}

std::string write_hop(const ExplainedHop& hop) {
  return "{\"role\":\"" + hop.role + "\",\"address\":\"" + hop.address.text() + "\",\"state\":\"" +
         state_name(hop.state) + "\",\"takes\":" + (hop.takes ? "true" : "false") +
         ",\"reason\":" + quoted(hop.reason) + "}";
}

std::string slow_text(const Release& release) {
  return "slow start: it takes " + std::to_string(release.share * 100 / GW_SHARE_ALL) +
         " % of its slots, and not this one";
}

// One hop as the worker sees it for a new flow.
ExplainedHop look_at(const std::string& role, const Address& address, const std::string& pool_name,
                     const Pool& pool, const ExplainSource& source, uint32_t slot) {
  ExplainedHop hop;
  hop.role = role;
  hop.address = address;
  if (const auto view = source.health.backend(pool_name, address)) {
    hop.state = view->state.state;
    hop.reason = view->state.reason;
  }
  const Release release = source.health.release(pool_name, address);
  const std::string no_way = next_hop_problem(pool.forwarding, address, source.next_hop(address));
  const bool covers = share_covers(release.share, slot);
  hop.takes = covers && no_way.empty();
  if (!no_way.empty()) hop.reason = no_way;
  if (no_way.empty() && !covers && release.share > 0) hop.reason = slow_text(release);
  if (hop.takes) {
    hop.reason.clear();
    if (hop.state == BackendState::down) hop.reason = "down, but in panic it keeps its slots";
  }
  return hop;
}

std::optional<Address> spare_of(const PoolTable& made, const std::string& pool_name,
                                const Pool& pool, const ExplainSource& source, uint32_t slot) {
  std::vector<gw_backend> backends(made.backends.size());
  for (size_t i = 0; i < backends.size(); ++i) {
    const Address& address = made.backends[i].address;
    backends[i].share = source.health.release(pool_name, address).share;
    const auto known = pool.backends.find(address);
    const bool is_spare =
        pool.forwarding != Forwarding::gue ||
        (known != pool.backends.end() && known->second.mode == BackendMode::enabled);
    backends[i].weight = static_cast<uint16_t>(is_spare ? made.backends[i].weight : 0);
    const bool way = next_hop_problem(pool.forwarding, address, source.next_hop(address)).empty();
    backends[i].outer_bytes = way ? 14 : 0;  // any but 0
  }
  const uint16_t spare = SparePool(backends).spare(slot);
  if (spare == GW_NO_HOP) return {};
  return made.backends[spare].address;
}

std::string role_of(const SealedTable& table, std::span<const uint16_t> hops, size_t i) {
  if (i == 0 && table.has_owners()) return "owner";
  if (i + 1 == hops.size() && table.has_stand_ins()) return "stand-in";
  return hops[i] & GW_HOP_INCOMING ? "incoming" : "earlier";
}

void walk_hops(const PoolTable& made, const Pool& pool, const ExplainSource& source,
               Explanation& out) {
  std::optional<size_t> taker;
  const std::span<const uint16_t> all = made.table->hops(out.slot);
  const auto hops =
      all.first(static_cast<size_t>(std::find(all.begin(), all.end(), GW_NO_HOP) - all.begin()));
  for (size_t i = 0; i < hops.size(); ++i) {
    const std::string role = role_of(*made.table, hops, i);
    ExplainedHop hop = look_at(role, made.backends[hops[i] & GW_HOP_INDEX].address, out.pool, pool,
                               source, out.slot);
    if (hop.takes && role != "owner" && role != "stand-in") {
      hop.takes = false;
      hop.reason = "has no new flows of this slot";
    } else if (hop.takes && taker) {
      hop.takes = false;
      hop.reason = "later in the list";
    } else if (hop.takes) {
      taker = out.hops.size();
    }
    out.hops.push_back(std::move(hop));
  }
  if (!taker) {
    if (const auto spare = spare_of(made, out.pool, pool, source, out.slot)) {
      taker = out.hops.size();
      out.hops.push_back(look_at("spare", *spare, out.pool, pool, source, out.slot));
    }
  }
  if (taker) {
    out.backend = out.hops[*taker].address;
    out.next_hop = source.next_hop(*out.backend).hop;
  }
  out.why = taker ? describe_taker(out, *taker)
                  : "no backend of pool " + out.pool + " takes new flows: the packet is dropped";
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

Result<Explanation> explain(const Endpoint& client, const ServiceKey& asked,
                            const ExplainSource& source) {
  const Intent& intent = source.intent;
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
  auto made = source.tables.find(out.pool);
  if (made == source.tables.end() || made->second.table == nullptr) {
    out.why = "pool " + out.pool + " has no backend with weight: the packet is dropped";
    return out;
  }
  out.slots = made->second.table->slots();
  out.slot = flow_slot(out.hash, out.slots);
  walk_hops(made->second, pool, source, out);
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
