// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * redirect: on a backend's interface. Takes tunnel packets of Guideway's nodes, strips the outer
 * header and passes the inner packet to the local stack, as if it had come in on this interface
 * without a tunnel. Two kinds: IP in IP in any crossing (RFC 2003, RFC 2473, RFC 4213), which is
 * always delivered; and GUE with a list of hops (docs/design/gue.md), which gets a second chance:
 * a packet of a flow that has no socket here goes on to the next hop.
 *
 *   guideway_redir, XDP:
 *     judge: parse_outer > is it for this host > is the sender allowed > check_inner
 *            GUE: parse_gue > read_flow > is there a socket > send_on
 *     strip: move the Ethernet header over all outer headers
 *   guideway_onward, tc: sends on what judge readdressed, since XDP cannot resolve a neighbour
 *
 * What is no tunnel packet, or one to somebody else's address, passes untouched. A tunnel packet
 * to this host that is not sound, or not from an allowed prefix, is dropped, never passed: a
 * kernel tunnel device must not accept what we refuse.
 *
 * The kernel checks what it would check without a tunnel: destination MAC, inner addresses, inner
 * checksum, and it trims Ethernet padding by the inner length.
 */
#include <linux/pkt_cls.h>

#include "bpf/redirect_onward.h"

struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, GW_REDIRECT_ALLOWED_MAX);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct gw_prefix_key);
  __type(value, __u8);
} allowed SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, GW_REDIRECT_LOCAL_MAX);
  __type(key, struct gw_address_key);
  __type(value, __u8);
} local SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, GW_REDIRECT_COUNTERS_END);
  __type(key, __u32);
  __type(value, __u64);
} redir_counters SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct gw_secret);
} secret SEC(".maps");

// RFC 3168 section 5.
#define ECN_NOT_CAPABLE 0
#define ECN_CONGESTED 3

GW_INLINE int is_local(const struct gw_address_key* address) {
  return bpf_map_lookup_elem(&local, address) != 0;
}

GW_INLINE int is_allowed(const struct gw_address_key* source) {
  struct gw_prefix_key key = {.bits = 128};
  __builtin_memcpy(key.bytes, source->bytes, sizeof(key.bytes));
  return bpf_map_lookup_elem(&allowed, &key) != 0;
}

GW_INLINE const struct gw_secret* known_secret(void) {
  __u32 zero = 0;
  const struct gw_secret* value = bpf_map_lookup_elem(&secret, &zero);
  return value && (value->mac[0] & 1) ? value : 0;
}

GW_INLINE int check_inner(struct xdp_md* ctx, const struct outer* outer) {
  void* end = (void*)(long)ctx->data_end;
  void* inner = (void*)(long)ctx->data + ETH_HLEN + (outer->header_bytes & 0xff);
  __u32 bytes;

  if (outer->inner_protocol == IPPROTO_IPIP) {
    struct iphdr* ip = inner;
    if ((void*)(ip + 1) > end || ip->version != 4) return 0;
    __u32 header_bytes = ip->ihl * 4;
    bytes = bpf_ntohs(ip->tot_len);
    if (header_bytes < sizeof(*ip) || bytes < header_bytes) return 0;
  } else {
    struct ipv6hdr* ip = inner;
    if ((void*)(ip + 1) > end || ip->version != 6) return 0;
    bytes = sizeof(*ip) + bpf_ntohs(ip->payload_len);
  }
  // Bytes that belong to nobody would be no part of the sum that the outer checksum is made of.
  return outer->gue ? bytes == outer->payload_bytes : bytes <= outer->payload_bytes;
}

// RFC 6040 section 4.2: a mark that a router on the way put on the outer header reaches the inner.
GW_INLINE int mark_v4(struct iphdr* ip) {
  if ((ip->tos & ECN_MASK) == ECN_NOT_CAPABLE) return 0;
  // RFC 1624 equation 3, over the 16-bit word that `tos` is the low byte of.
  __u32 before = ip->tos;
  __u32 after = before | ECN_CONGESTED;
  __u32 sum = (__u16)~bpf_ntohs(ip->check) + (__u16)~before + after;
  ip->check = bpf_htons((__u16)~gw_gue_fold(sum));
  ip->tos = after;
  return 1;
}

GW_INLINE int mark_v6(struct ipv6hdr* ip) {
  if (((ip->flow_lbl[0] >> 4) & ECN_MASK) == ECN_NOT_CAPABLE) return 0;
  ip->flow_lbl[0] |= ECN_CONGESTED << 4;
  return 1;
}

GW_INLINE int carry_mark(struct xdp_md* ctx, const struct outer* outer) {
  if (outer->ecn != ECN_CONGESTED) return 1;
  void* end = (void*)(long)ctx->data_end;
  void* inner = (void*)(long)ctx->data + ETH_HLEN + (outer->header_bytes & 0xff);
  if (outer->inner_protocol == IPPROTO_IPIP)
    return inner + sizeof(struct iphdr) <= end && mark_v4(inner);
  return inner + sizeof(struct ipv6hdr) <= end && mark_v6(inner);
}

// Finds the next hop that is not this host itself. False: there is none left.
GW_INLINE int next_hop(struct xdp_md* ctx, int v4, const struct gw_gue* gue,
                       struct onward* onward) {
  __u32 hops_at =
      ETH_HLEN + (v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) + sizeof(struct gue_head);
  onward->next = gue->next;
  for (int i = 0; i < GW_GUE_HOPS_MAX && onward->next < gue->count; ++i) {
    __u32 index = onward->next++;
    if (v4) {
      __be32 address;
      if (bpf_xdp_load_bytes(ctx, hops_at + index * 4, &address, sizeof(address))) return 0;
      onward->hop = key_from_v4(address);
    } else if (bpf_xdp_load_bytes(ctx, hops_at + index * 16, onward->hop.bytes, 16)) {
      return 0;
    }
    if (!is_local(&onward->hop)) return 1;
  }
  return 0;
}

GW_VERIFIED_ONCE int gw_send_on(struct xdp_md* ctx, const struct gue_packet* packet) {
  if (!packet) return GW_REDIRECT_malformed;
  int v4 = packet->outer.v4;
  struct onward onward = {};
  if (!next_hop(ctx, v4, &packet->head.gue, &onward)) return GW_REDIRECT_local_last;
  // Who may send to us is who we may send to: nobody can use this host to reach others.
  if ((!v4 && is_v4_key(&onward.hop)) || !is_allowed(&onward.hop)) return GW_REDIRECT_next_hop;
  const struct gw_secret* mark = known_secret();
  if (!mark) return GW_REDIRECT_failed;

  struct ethhdr* ethernet = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  if ((void*)(ethernet + 1) > end) return GW_REDIRECT_malformed;
  enum gw_redirect_counter readdressed =
      v4 ? readdress_v4(ethernet + 1, end, &onward) : readdress_v6(ethernet + 1, end, &onward);
  if (readdressed != GW_REDIRECT_delivered) return readdressed;
  __builtin_memcpy(ethernet->h_source, mark->mac, ETH_ALEN);
  return GW_REDIRECT_forwarded_1 + onward.next - 1;
}

// Where a sound GUE packet goes.
GW_INLINE int second_chance(struct xdp_md* ctx, struct gue_packet* packet) {
  struct flow* flow = &packet->flow;
  int quoted = is_icmp_error(flow);
  if (quoted) {
    __u32 at = flow->transport_at + ICMP_HEADER_BYTES;
    __u32 bytes = flow->transport_bytes - ICMP_HEADER_BYTES;
    if (!gw_read_flow(ctx, flow, at, bytes, quoted)) return GW_REDIRECT_malformed;
    turn_round(flow);
  }
  int end = UNDECIDED;
  if (flow->protocol == IPPROTO_TCP)
    end = gw_tcp_is_local(ctx, flow, quoted);
  else if (packet->head.gue.next == 0)
    end = GW_REDIRECT_local_first;
  else if (flow->protocol == IPPROTO_UDP)
    end = gw_udp_is_local(ctx, flow);
  return end == UNDECIDED ? gw_send_on(ctx, packet) : end;
}

// outer->header_bytes and the like cover all headers afterwards.
GW_INLINE int judge_gue(struct xdp_md* ctx, struct outer* outer) {
  struct gue_packet packet = {};
  enum gw_redirect_counter end = parse_gue(ctx, outer, &packet.head);
  if (end != GW_REDIRECT_delivered) return end;
  if (!check_inner(ctx, outer)) return GW_REDIRECT_malformed;

  packet.outer = *outer;
  packet.flow.is_v4 = outer->inner_protocol == IPPROTO_IPIP;
  if (!gw_read_flow(ctx, &packet.flow, ETH_HLEN + outer->header_bytes, outer->payload_bytes, 0))
    return GW_REDIRECT_malformed;
  if (!gw_udp_checksum_holds(ctx, &packet)) return GW_REDIRECT_checksum;
  return second_chance(ctx, &packet);
}

GW_INLINE int judge(struct xdp_md* ctx, struct outer* outer) {
  if (!parse_outer(ctx, outer)) return GW_REDIRECT_other;
  if (!is_local(&outer->destination)) return GW_REDIRECT_not_local;
  if (!is_allowed(&outer->source)) return GW_REDIRECT_refused_source;
  if (outer->fragment) return GW_REDIRECT_fragment;
  if (outer->malformed) return GW_REDIRECT_malformed;
  if (outer->gue) return judge_gue(ctx, outer);
  return check_inner(ctx, outer) ? GW_REDIRECT_delivered : GW_REDIRECT_malformed;
}

GW_INLINE int strip(struct xdp_md* ctx, const struct outer* outer) {
  struct ethhdr* ethernet = (void*)(long)ctx->data;
  if ((void*)(ethernet + 1) > (void*)(long)ctx->data_end) return 0;
  struct ethhdr kept = *ethernet;
  kept.h_proto =
      outer->inner_protocol == IPPROTO_IPIP ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);

  if (bpf_xdp_adjust_head(ctx, outer->header_bytes & 0xff)) return 0;
  ethernet = (void*)(long)ctx->data;
  if ((void*)(ethernet + 1) > (void*)(long)ctx->data_end) return 0;
  *ethernet = kept;
  return 1;
}

GW_INLINE int is_decapsulated(int end) {
  return end == GW_REDIRECT_delivered ||
         (end >= GW_REDIRECT_local_socket && end <= GW_REDIRECT_local_last);
}

GW_INLINE int is_left_alone(int end) {
  return end == GW_REDIRECT_other || end == GW_REDIRECT_not_local ||
         (end >= GW_REDIRECT_forwarded_1 && end <= GW_REDIRECT_forwarded_4);
}

// xdp.frags: a backend behind a tunnel is well served by jumbo frames.
SEC("xdp.frags")
int guideway_redir(struct xdp_md* ctx) {
  struct outer outer = {};
  int end = judge(ctx, &outer);
  int decapsulated = is_decapsulated(end);
  if (decapsulated && !carry_mark(ctx, &outer)) {
    end = GW_REDIRECT_congestion;
    decapsulated = 0;
  } else if (decapsulated && !strip(ctx, &outer)) {
    end = GW_REDIRECT_failed;
    decapsulated = 0;
  }
  count_in(&redir_counters, end);
  return decapsulated || is_left_alone(end) ? XDP_PASS : XDP_DROP;
}

// Out by the interface that it came in by: there is no route to be found for another one on a host
// that does not forward (bpf_fib_lookup refuses).
SEC("tc")
int guideway_onward(struct __sk_buff* skb) {
  struct ethhdr* ethernet = (void*)(long)skb->data;
  if ((void*)(ethernet + 1) > (void*)(long)skb->data_end) return TC_ACT_UNSPEC;
  if (!(ethernet->h_source[0] & 1)) return TC_ACT_UNSPEC;
  const struct gw_secret* mark = known_secret();
  if (!mark) return TC_ACT_UNSPEC;
  __u8 different = 0;
  for (int i = 0; i < ETH_ALEN; ++i) different |= ethernet->h_source[i] ^ mark->mac[i];
  if (different) return TC_ACT_UNSPEC;
  // Flooded by a switch: somebody else has it as well.
  if (skb->pkt_type != 0) return TC_ACT_SHOT;
  return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
}

char _license[] SEC("license") = "GPL";
