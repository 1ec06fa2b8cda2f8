// SPDX-License-Identifier: Apache-2.0
#include "dataplane/forward.h"

#include <array>
#include <cassert>
#include <cstddef>
#include <new>
#include <type_traits>

#include "dataplane/choice.h"
#include "dataplane/encap.h"
#include "dataplane/headers.h"
#include "dataplane/icmp.h"
#include "dataplane/parse.h"

namespace guideway {
namespace {

// A packet that is on its way to a backend, between two steps. The steps each go over the whole
// burst, so that the cache misses of one step overlap: a step prefetches what the next one reads.
struct alignas(32) Work {
  Packet packet;
  uint32_t slot = 0;
  uint32_t service = 0;      // its counter
  uint32_t later_count = 0;  // of its Later
  Frame* frame = nullptr;
  const PoolView* pool = nullptr;
  const gw_backend* backend = nullptr;  // null after the choice: it has its verdict
  uint64_t hash = 0;
};
static_assert(sizeof(Work) == 96);

// The hops after `backend` of a packet that carries the list.
using Later = std::array<const gw_backend*, GW_GUE_HOPS_MAX>;

// Room for a burst, of which nothing is touched before it is needed.
template <typename T>
class Room {
 public:
  void* at(size_t i) { return bytes_ + i * sizeof(T); }
  T& operator[](size_t i) { return *std::launder(reinterpret_cast<T*>(at(i))); }

 private:
  static_assert(std::is_trivially_destructible_v<T>);
  alignas(T) std::byte bytes_[sizeof(T) * kBurstMax];
};

// What all packets of a burst have in common.
struct Burst {
  const Image* image;
  const Ingress& ingress;
  uint64_t now_ns;
};

void finish(Frame& frame, Verdict verdict, Egress egress = Egress::none) {
  frame.verdict = verdict;
  frame.egress = egress;
}

void finish_not_vip(Frame& frame, PortKind kind) {
  if (kind == PortKind::owned) {
    finish(frame, Verdict::to_kernel, Egress::kernel);
  } else {
    finish(frame, Verdict::not_vip);
  }
}

// No destination and not IP is the kernel's; no destination and a broken header is nobody's.
void finish_without_destination(Frame& frame, const Packet& packet, PortKind kind) {
  if (packet.problem == Verdict::not_vip) return finish_not_vip(frame, kind);
  finish(frame, packet.problem);
}

// A switch that does not know a station's port floods; the kernel drops such frames by itself.
bool is_for(const Frame& frame, const Mac& mac) {
  return same_mac(reinterpret_cast<const EthernetHeader*>(frame.data)->destination, mac);
}

void step_echo(const Packet& packet, Frame& frame, RateLimit& limit, uint64_t now_ns) {
  if (!limit.take(now_ns)) return finish(frame, Verdict::echo_limited);
  make_echo_reply(frame, packet);
  finish(frame, Verdict::echo_replied, Egress::back);
}

// Whether the packet goes on to a backend of work.pool; if not, it has its verdict.
bool step_service(Work& work, Frame& frame, const Burst& burst, RateLimit& echo_limit) {
  const Packet& packet = work.packet;
  const PortKind kind = burst.ingress.kind;
  if (!packet.has_destination) return finish_without_destination(frame, packet, kind), false;
  if (!burst.image) {
    // An owned port serves the kernel from the start; what is a VIP is not known yet.
    if (kind == PortKind::owned) return finish_not_vip(frame, kind), false;
    return finish(frame, Verdict::no_image), false;
  }
  const bool has_flow = packet.kind == PacketKind::flow || packet.kind == PacketKind::icmp_error;
  const ServiceIndex& index = burst.image->service_index();
  const uint32_t found = has_flow
                             ? index.find(packet.key.vip, packet.key.protocol, packet.key.vip_port)
                             : index.find_vip(packet.key.vip);
  if (found == ServiceIndex::kNotVip) return finish_not_vip(frame, kind), false;
  if (!is_for(frame, burst.ingress.mac)) return finish(frame, Verdict::other_mac), false;
  if (packet.kind == PacketKind::other) return finish(frame, packet.problem), false;
  if (packet.kind == PacketKind::echo_request)
    return step_echo(packet, frame, echo_limit, burst.now_ns), false;
  if (found == ServiceIndex::kNoService) {
    const bool is_flow = packet.kind == PacketKind::flow;
    return finish(frame, is_flow ? Verdict::no_service : Verdict::icmp_unrelated), false;
  }
  const gw_service& service = burst.image->services()[found];
  work.service = service.counter;
  work.pool = &burst.image->pools()[service.pool];
  if (work.pool->slots == 0) return finish(frame, Verdict::no_backend), false;
  return true;
}

void step_slot(Work& work, uint64_t seed, const FlowTable& flows) {
  work.hash = flow_hash(work.packet.key, seed);
  work.slot = flow_slot(work.hash, work.pool->slots);
  __builtin_prefetch(work.pool->slot_hops(work.slot));
  if (!flows.empty()) flows.prefetch(work.hash);
}

// What a packet needs besides its slot's owner; bits.
enum Need : unsigned { kNothing = 0, kChoice = 1, kList = 2 };

// What choose_backend() says where all entries of the slot take its new flows, and no flow is
// known: the entries as they stand. False: not so, ask it.
bool take_whole_list(Work& work, Later& later) {
  const PoolView& pool = *work.pool;
  if (!pool.has_owners) return false;
  const uint16_t* entries = pool.slot_hops(work.slot);
  const gw_backend& owner = pool.backend_of(entries[0]);
  if (!takes_new(owner, work.slot)) return false;
  uint32_t count = 1;
  for (; count < pool.hops && entries[count] != GW_NO_HOP; ++count) {
    const gw_backend& backend = pool.backend_of(entries[count]);
    if (!takes_new(backend, work.slot)) return false;
    later[count - 1] = &backend;
  }
  work.backend = &owner;
  work.later_count = count - 1;
  __builtin_prefetch(owner.outer);
  return true;
}

// The packets of a settled slot, or of one with a whole list, need nothing else, and those are all
// of a quiet pool's.
Need step_owner(Work& work, Later& later, const FlowTable& flows) {
  const PoolView& pool = *work.pool;
  if (carries_list(pool, work.packet))
    return flows.empty() && take_whole_list(work, later) ? kNothing : kList;
  const gw_backend* owner = pool.owner(work.slot);
  work.backend = owner;
  if (owner) __builtin_prefetch(owner->outer);
  if (is_settled(pool, owner, work.slot)) return kNothing;
  if (flows.empty()) flows.prefetch(work.hash);
  pool.spares->prefetch(work.slot);
  return kChoice;
}

// In order and one by one: what a packet learns, the next one of its flow finds.
void step_flow(Work& work, Later& later, const Image& image, FlowTable& flows, uint16_t now) {
  const Choice choice =
      choose_backend(image, {*work.pool, work.slot, work.hash, work.packet}, flows, now);
  work.backend = choice.backend;
  if (!choice.backend) return finish(*work.frame, choice.problem);
  work.later_count = choice.later_count;
  if (choice.later_count) later = choice.later;
  __builtin_prefetch(work.backend->outer);
}

bool may_fragment(const Frame& frame, const Packet& packet) {
  if (!packet.v4) return false;
  const auto& ip = *reinterpret_cast<const Ipv4Header*>(frame.data + sizeof(EthernetHeader));
  return (ip.fragment.host() & kIpv4DontFragment) == 0;
}

void answer_too_big(const Work& work, RateLimit& limit, uint64_t now_ns) {
  Frame& frame = *work.frame;
  // Told less than 1280, an IPv6 sender stays at 1280 (RFC 8201 section 4): no use telling it.
  const bool useless = !work.packet.v4 && work.backend->inner_bytes_max < kIpv6MtuLeast;
  if (useless || work.packet.kind == PacketKind::icmp_error || may_fragment(frame, work.packet))
    return finish(frame, Verdict::too_big);
  if (!limit.take(now_ns)) return finish(frame, Verdict::too_big_unsaid);
  make_too_big(frame, work.packet, work.backend->inner_bytes_max);
  finish(frame, Verdict::too_big_replied, Egress::back);
}

void step_encapsulate(const Work& work, const Later& later) {
  Frame& frame = *work.frame;
  const gw_backend& backend = *work.backend;
  const LaterHops hops(later.data(), work.later_count);
  if (frame.headroom < kEncapHeadroom &&
      frame.headroom + sizeof(EthernetHeader) < encap_bytes(backend, hops))
    return finish(frame, Verdict::no_headroom);
  if (!spend_hop(frame, work.packet.v4)) return finish(frame, Verdict::ttl_expired);
  encapsulate(frame, work.packet, backend, work.hash, hops);
  frame.port = backend.port;
  frame.ip_bytes = work.packet.ip_bytes;
  frame.service = work.service;
  frame.backend = backend.counter;
  finish(frame, Verdict::forwarded, Egress::backend);
}

}  // namespace

void Forwarder::forward(const Image* image, const Ingress& ingress, uint64_t now_ns,
                        std::span<Frame> frames) {
  assert(frames.size() <= kBurstMax);
  const Burst burst{image, ingress, now_ns};
  Room<Work> works;
  Room<Later> later;
  size_t open = 0;
  for (Frame& frame : frames) {
    Work& work =
        *new (works.at(open)) Work{.packet = parse(frame.data, frame.bytes, frame.header_checked)};
    if (!step_service(work, frame, burst, echo_limit)) continue;
    work.frame = &frame;
    step_slot(work, image->root().flow_seed, flows);
    ++open;
  }

  unsigned needs = flows.empty() ? kNothing : kChoice;
  for (size_t i = 0; i < open; ++i) needs |= step_owner(works[i], later[i], flows);
  if (needs) {
    const uint16_t now = flow_second(now_ns);
    for (size_t i = 0; i < open; ++i) {
      if ((needs & kChoice) || carries_list(*works[i].pool, works[i].packet))
        step_flow(works[i], later[i], *image, flows, now);
    }
  }
  for (size_t i = 0; i < open; ++i) {
    const Work& work = works[i];
    if (!work.backend) continue;
    if (work.packet.ip_bytes > work.backend->inner_bytes_max) {
      answer_too_big(work, too_big_limit, now_ns);
    } else {
      step_encapsulate(work, later[i]);
    }
  }
}

}  // namespace guideway
