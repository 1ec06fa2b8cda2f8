// SPDX-License-Identifier: Apache-2.0
#include "dataplane/choice.h"

#include "dataplane/headers.h"

namespace guideway {
namespace {

FlowSign sign_of(const Packet& packet) {
  if (packet.key.protocol == kProtocolUdp) return FlowSign::datagram;
  if (packet.tcp_flags & (kTcpFin | kTcpRst)) return FlowSign::end;
  const bool opens = (packet.tcp_flags & (kTcpSyn | kTcpAck)) == kTcpSyn;
  return opens ? FlowSign::syn : FlowSign::data;
}

const gw_backend* first_holder(const PoolView& pool, uint32_t slot) {
  const uint16_t* hop = pool.slot_hops(slot);
  for (uint32_t i = 0; i < pool.hops && hop[i] != GW_NO_HOP; ++i) {
    if (holds(pool.backends[hop[i]])) return &pool.backends[hop[i]];
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

// Without the flow table's help.
Choice choose_unknown(const Asked& asked, FlowSign sign) {
  const bool fresh = sign == FlowSign::syn || sign == FlowSign::datagram;
  if (!fresh) {
    if (const gw_backend* backend = first_holder(asked.pool, asked.slot))
      return {.backend = backend};
  }
  return choose_for_new(asked.pool, asked.slot);
}

}  // namespace

Choice choose_for_new(const PoolView& pool, uint32_t slot) {
  const uint16_t* hop = pool.slot_hops(slot);
  bool covered = false;
  for (uint32_t i = 0; i < pool.hops && hop[i] != GW_NO_HOP; ++i) {
    const gw_backend& backend = pool.backends[hop[i]];
    if (takes_new(backend, slot)) return {.backend = &backend};
    covered |= share_covers(backend.share, slot);
  }
  const uint16_t spare = pool.spares->spare(slot);
  if (spare != GW_NO_HOP) return {.backend = &pool.backends[spare]};
  return {.problem = covered ? Verdict::no_next_hop : Verdict::no_backend};
}

Choice choose_backend(const Image& image, const Asked& asked, FlowTable& flows, uint16_t now) {
  const FlowSign sign = sign_of(asked.packet);
  const bool may_change = asked.packet.kind == PacketKind::flow;
  if (!flows.empty()) {
    if (Flow* flow = flows.find(asked.hash, now)) {
      const gw_backend* backend = where_it_was(image, asked, *flow, sign);
      if (backend) {
        if (may_change) FlowTable::see(*flow, sign, now);
        return {.backend = backend};
      }
      if (may_change) flows.forget(*flow);
    }
  }
  const gw_backend& owner = asked.pool.backends[asked.pool.slot_hops(asked.slot)[0]];
  if (is_settled(owner, asked.slot)) return {.backend = &owner};
  const Choice choice = choose_unknown(asked, sign);
  // The last counter is many backends' name.
  if (choice.backend && may_change && choice.backend->counter != GW_BACKENDS_MAX - 1)
    flows.learn(asked.hash, static_cast<uint16_t>(choice.backend->counter), sign, now);
  return choice;
}

}  // namespace guideway
