// SPDX-License-Identifier: Apache-2.0
#include "dataplane/forward.h"

#include <array>
#include <cassert>

#include "dataplane/choice.h"
#include "dataplane/encap.h"
#include "dataplane/headers.h"
#include "dataplane/icmp.h"
#include "dataplane/parse.h"

namespace guideway {
namespace {

// A packet between two steps. The steps each go over the whole burst, so that the cache misses of
// one step overlap: a step prefetches what the next one reads.
struct Work {
  uint64_t hash;
  const PoolView* pool;
  const gw_backend* backend;
  uint32_t service;
  uint32_t slot;
  Packet packet;
  bool open;            // no verdict yet
  uint8_t later_count;  // of its Later
};

// The hops after `backend` of a packet that carries the list.
using Later = std::array<const gw_backend*, GW_GUE_HOPS_MAX>;

void finish(Work& work, Frame& frame, Verdict verdict, Egress egress = Egress::none) {
  frame.verdict = verdict;
  frame.egress = egress;
  work.open = false;
}

void finish_not_vip(Work& work, Frame& frame, PortKind kind) {
  if (kind == PortKind::owned) {
    finish(work, frame, Verdict::to_kernel, Egress::kernel);
  } else {
    finish(work, frame, Verdict::not_vip);
  }
}

// No destination and not IP is the kernel's; no destination and a broken header is nobody's.
void step_parse(Work& work, Frame& frame, PortKind kind) {
  work.packet = parse(frame.data, frame.bytes);
  work.open = true;
  if (work.packet.has_destination) return;
  if (work.packet.problem == Verdict::not_vip) {
    finish_not_vip(work, frame, kind);
  } else {
    finish(work, frame, work.packet.problem);
  }
}

// A switch that does not know a station's port floods; the kernel drops such frames by itself.
bool is_for(const Frame& frame, const Mac& mac) {
  return reinterpret_cast<const EthernetHeader*>(frame.data)->destination == mac;
}

void step_service(Work& work, Frame& frame, const Ingress& ingress, const Image* image) {
  const Packet& packet = work.packet;
  if (!image) {
    // An owned port serves the kernel from the start; what is a VIP is not known yet.
    if (ingress.kind == PortKind::owned) return finish_not_vip(work, frame, ingress.kind);
    return finish(work, frame, Verdict::no_image);
  }
  const bool has_flow = packet.kind == PacketKind::flow || packet.kind == PacketKind::icmp_error;
  const ServiceIndex& index = image->service_index();
  work.service = has_flow ? index.find(packet.key.vip, packet.key.protocol, packet.key.vip_port)
                          : index.find_vip(packet.key.vip);
  if (work.service == ServiceIndex::kNotVip) return finish_not_vip(work, frame, ingress.kind);
  if (!is_for(frame, ingress.mac)) return finish(work, frame, Verdict::other_mac);
  if (packet.kind == PacketKind::other) return finish(work, frame, packet.problem);
  if (packet.kind == PacketKind::echo_request) return;
  if (work.service == ServiceIndex::kNoService) {
    return finish(work, frame,
                  packet.kind == PacketKind::flow ? Verdict::no_service : Verdict::icmp_unrelated);
  }
  work.pool = &image->pools()[image->services()[work.service].pool];
  if (work.pool->slots == 0) return finish(work, frame, Verdict::no_backend);
}

void step_echo(Work& work, Frame& frame, RateLimit& limit, uint64_t now_ns) {
  if (!limit.take(now_ns)) return finish(work, frame, Verdict::echo_limited);
  make_echo_reply(frame, work.packet);
  finish(work, frame, Verdict::echo_replied, Egress::back);
}

void step_slot(Work& work, const Image& image, const FlowTable& flows) {
  work.hash = flow_hash(work.packet.key, image.root().flow_seed);
  work.slot = flow_slot(work.hash, work.pool->slots);
  __builtin_prefetch(work.pool->slot_hops(work.slot));
  if (!flows.empty()) flows.prefetch(work.hash);
}

// What a packet needs besides its slot's owner; bits.
enum Need : unsigned { kNothing = 0, kChoice = 1, kList = 2 };

// A settled slot's packets need nothing else, and those are all of a quiet pool's, but for gue.
Need step_owner(Work& work, const FlowTable& flows) {
  const PoolView& pool = *work.pool;
  work.later_count = 0;
  if (carries_list(pool, work.packet)) {
    for (const uint16_t entry : pool.entries(work.slot))
      __builtin_prefetch(&pool.backend_of(entry));
    return kList;
  }
  const gw_backend* owner = pool.owner(work.slot);
  work.backend = owner;
  if (owner) __builtin_prefetch(owner->outer);
  if (is_settled(pool, owner, work.slot)) return kNothing;
  if (flows.empty()) flows.prefetch(work.hash);
  return kChoice;
}

// In order and one by one: what a packet learns, the next one of its flow finds.
void step_flow(Work& work, Frame& frame, Later& later, const Image& image, FlowTable& flows,
               uint16_t now) {
  const Choice choice =
      choose_backend(image, {*work.pool, work.slot, work.hash, work.packet}, flows, now);
  if (!choice.backend) return finish(work, frame, choice.problem);
  work.backend = choice.backend;
  work.later_count = static_cast<uint8_t>(choice.later_count);
  if (choice.later_count) later = choice.later;
  __builtin_prefetch(work.backend->outer);
}

bool may_fragment(const Frame& frame, const Packet& packet) {
  if (!packet.v4) return false;
  const auto& ip = *reinterpret_cast<const Ipv4Header*>(frame.data + sizeof(EthernetHeader));
  return (ip.fragment.host() & kIpv4DontFragment) == 0;
}

void answer_too_big(Work& work, Frame& frame, RateLimit& limit, uint64_t now_ns) {
  // Told less than 1280, an IPv6 sender stays at 1280 (RFC 8201 section 4): no use telling it.
  const bool useless = !work.packet.v4 && work.backend->inner_bytes_max < kIpv6MtuLeast;
  if (useless || work.packet.kind == PacketKind::icmp_error || may_fragment(frame, work.packet))
    return finish(work, frame, Verdict::too_big);
  if (!limit.take(now_ns)) return finish(work, frame, Verdict::too_big_unsaid);
  make_too_big(frame, work.packet, work.backend->inner_bytes_max);
  finish(work, frame, Verdict::too_big_replied, Egress::back);
}

void step_encapsulate(Work& work, Frame& frame, const Later& later, const Image& image) {
  const gw_backend& backend = *work.backend;
  const LaterHops hops(later.data(), work.later_count);
  if (frame.headroom + sizeof(EthernetHeader) < encap_bytes(backend, hops))
    return finish(work, frame, Verdict::no_headroom);
  if (!spend_hop(frame, work.packet.v4)) return finish(work, frame, Verdict::ttl_expired);
  encapsulate(frame, work.packet, backend, work.hash, hops);
  frame.port = backend.port;
  frame.ip_bytes = work.packet.ip_bytes;
  frame.service = image.services()[work.service].counter;
  frame.backend = backend.counter;
  finish(work, frame, Verdict::forwarded, Egress::backend);
}

}  // namespace

void Forwarder::forward(const Image* image, const Ingress& ingress, uint64_t now_ns,
                        std::span<Frame> frames) {
  assert(frames.size() <= kBurstMax);
  Work works[kBurstMax];
  Later later[kBurstMax];
  const auto later_of = [&](const Work& w) -> Later& { return later[&w - works]; };
  const auto each_open = [&](auto&& step) {
    for (size_t i = 0; i < frames.size(); ++i) {
      if (works[i].open) step(works[i], frames[i]);
    }
  };

  for (size_t i = 0; i < frames.size(); ++i) step_parse(works[i], frames[i], ingress.kind);
  each_open([&](Work& w, Frame& f) { step_service(w, f, ingress, image); });
  each_open([&](Work& w, Frame& f) {
    if (w.packet.kind == PacketKind::echo_request) step_echo(w, f, echo_limit, now_ns);
  });
  each_open([&](Work& w, Frame&) { step_slot(w, *image, flows); });
  unsigned needs = flows.empty() ? kNothing : kChoice;
  each_open([&](Work& w, Frame&) { needs |= step_owner(w, flows); });
  if (needs) {
    const uint16_t now = flow_second(now_ns);
    each_open([&](Work& w, Frame& f) {
      if ((needs & kChoice) || carries_list(*w.pool, w.packet))
        step_flow(w, f, later_of(w), *image, flows, now);
    });
  }
  each_open([&](Work& w, Frame& f) {
    if (w.packet.ip_bytes > w.backend->inner_bytes_max) answer_too_big(w, f, too_big_limit, now_ns);
  });
  each_open([&](Work& w, Frame& f) { step_encapsulate(w, f, later_of(w), *image); });
}

}  // namespace guideway
