// SPDX-License-Identifier: Apache-2.0
#include "dataplane/choice.h"

#include <algorithm>

namespace guideway {
namespace {

FlowSign sign_of(const Packet& packet) {
  if (packet.key.protocol == kProtocolUdp) return FlowSign::datagram;
  if (packet.tcp_flags & (kTcpFin | kTcpRst)) return FlowSign::end;
  const bool opens = (packet.tcp_flags & (kTcpSyn | kTcpAck)) == kTcpSyn;
  return opens ? FlowSign::syn : FlowSign::data;
}

const gw_backend* first_holder(const PoolView& pool, uint32_t slot) {
  const auto entries = pool.entries(slot);
  // Earlier owners stand in front of the other earlier hops, the most recent first.
  const auto earlier = std::find_if(entries.begin(), entries.end(),
                                    [](uint16_t e) { return (e & GW_HOP_EARLIER) != 0; });
  if (earlier != entries.end() && holds(pool.backend_of(*earlier)))
    return &pool.backend_of(*earlier);
  for (const uint16_t entry : entries) {
    if (holds(pool.backend_of(entry))) return &pool.backend_of(entry);
  }
  return nullptr;
}

// Where the flow has been so far, if it can stay there.
const gw_backend* where_it_was(const Image& image, const Asked& asked, const Flow& flow,
                               FlowSign sign) {
  // A connection that ended may be followed by another with the same ports. (Not so one that did
  // not: a forged SYN must not move it.)
  if (flow.state == FlowState::closing && sign == FlowSign::syn) return nullptr;
  const gw_backend* backend = image.backend_named(flow.backend);
  const bool in_pool = backend && backend >= asked.pool.backends.data() &&
                       backend < asked.pool.backends.data() + asked.pool.backends.size();
  if (!in_pool) return nullptr;
  return holds(*backend) || takes_new(*backend, asked.slot) ? backend : nullptr;
}

struct Known {
  const gw_backend* backend = nullptr;
  Flow* flow = nullptr;  // null: not this packet's own
};

// The flow table's word; no backend: it has none, or none that counts any more.
Known find_known(const Image& image, const Asked& asked, FlowTable& flows, FlowSign sign,
                 uint16_t now) {
  if (flows.empty()) return {};
  Flow* flow = flows.find(asked.hash, now);
  if (!flow) return {};
  const bool may_change = asked.packet.kind == PacketKind::flow;
  const gw_backend* backend = where_it_was(image, asked, *flow, sign);
  if (may_change && backend) FlowTable::see(*flow, sign, now);
  if (may_change && !backend) flows.forget(*flow);
  return {backend, may_change && backend ? flow : nullptr};
}

// False: the next packets of the flow will be unknown, too.
bool learn(const Asked& asked, const gw_backend& backend, FlowTable& flows, FlowSign sign,
           uint16_t now) {
  // The last counter is many backends' name.
  if (asked.packet.kind != PacketKind::flow || backend.counter == GW_BACKENDS_MAX - 1) return false;
  return flows.learn(asked.hash, static_cast<uint16_t>(backend.counter), sign, now);
}

struct Leader {
  const gw_backend* backend = nullptr;
  bool is_spare = false;
  Verdict problem = Verdict::no_backend;  // if there is none
};

Leader find_leader(const PoolView& pool, uint32_t slot) {
  const auto entries = pool.entries(slot);
  bool covered = false;
  const auto may_lead = [&](uint16_t entry) {
    const gw_backend& backend = pool.backend_of(entry);
    const bool covers = share_covers(backend.share, slot);
    covered |= covers;
    return covers && backend.outer_bytes != 0;
  };
  if (pool.has_owners && may_lead(entries.front()))
    return {.backend = &pool.backend_of(entries.front())};
  if (pool.has_stand_ins && !entries.empty() && may_lead(entries.back()))
    return {.backend = &pool.backend_of(entries.back())};
  const uint16_t spare = pool.spares->spare(slot);
  if (spare != GW_NO_HOP) return {.backend = &pool.backends[spare], .is_spare = true};
  return {.problem = covered ? Verdict::no_next_hop : Verdict::no_backend};
}

// Without the flow table's help.
Choice choose_unknown(const Asked& asked, FlowSign sign) {
  const bool fresh = sign == FlowSign::syn || sign == FlowSign::datagram;
  if (!fresh) {
    if (const gw_backend* backend = first_holder(asked.pool, asked.slot))
      return {.backend = backend};
  }
  return choose_for_new(asked.pool, asked.slot);
}

// Each once; what comes when it is full is left out.
void add_hop(Choice& list, const gw_backend& hop) {
  if (!list.backend) {
    list.backend = &hop;
    return;
  }
  const auto end = list.later.begin() + list.later_count;
  if (list.backend == &hop || std::find(list.later.begin(), end, &hop) != end) return;
  if (list.later_count < list.later.size()) list.later[list.later_count++] = &hop;
}

Choice choose_list(const Image& image, const Asked& asked, FlowTable& flows, FlowSign sign,
                   uint16_t now) {
  const PoolView& pool = asked.pool;
  Choice list;
  const gw_backend* known = find_known(image, asked, flows, sign, now).backend;
  if (known) add_hop(list, *known);
  const Leader leader = find_leader(pool, asked.slot);
  if (leader.backend) add_hop(list, *leader.backend);
  if (!list.backend && sign == FlowSign::syn) return {.problem = leader.problem};

  const auto entries = pool.entries(asked.slot);
  for (const uint16_t entry : entries) {
    if (takes_new(pool.backend_of(entry), asked.slot)) add_hop(list, pool.backend_of(entry));
  }
  bool wanted = false;
  for (const uint16_t entry : entries) {
    const gw_backend& backend = pool.backend_of(entry);
    if (holds(backend)) add_hop(list, backend);
    wanted |= share_covers(backend.share, asked.slot) || (backend.flags & GW_HOLDS) != 0;
  }
  if (!list.backend) list.problem = wanted ? Verdict::no_next_hop : leader.problem;
  // No list will name the spare once the slot has a better leader.
  if (!known && leader.is_spare) learn(asked, *leader.backend, flows, sign, now);
  return list;
}

}  // namespace

Choice choose_for_new(const PoolView& pool, uint32_t slot) {
  const Leader leader = find_leader(pool, slot);
  return {.backend = leader.backend, .problem = leader.problem};
}

Choice choose_backend(const Image& image, const Asked& asked, FlowTable& flows, uint16_t now) {
  const FlowSign sign = sign_of(asked.packet);
  if (carries_list(asked.pool, asked.packet)) return choose_list(image, asked, flows, sign, now);
  const Known known = find_known(image, asked, flows, sign, now);
  const gw_backend* owner = asked.pool.owner(asked.slot);
  const bool settled = is_settled(asked.pool, owner, asked.slot);
  if (known.backend) {
    // The slot says the same again, and will until it changes; then its flows are learned anew.
    if (settled && known.backend == owner && known.flow) flows.forget(*known.flow);
    return {.backend = known.backend};
  }
  if (settled) return {.backend = owner};
  const Choice choice = choose_unknown(asked, sign);
  if (!choice.backend || learn(asked, *choice.backend, flows, sign, now)) return choice;
  // A connection that cannot be remembered begins where its next packets will go.
  const gw_backend* later = sign == FlowSign::syn ? first_holder(asked.pool, asked.slot) : nullptr;
  return later ? Choice{.backend = later} : choice;
}

}  // namespace guideway
