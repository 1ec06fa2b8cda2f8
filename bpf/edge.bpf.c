// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * edge: on the node's NIC. Packets to a VIP go to the dataplane's AF_XDP socket on the queue they
 * came in on; the replies to health probes go into the scoreboard (probe_reply.h) and no further;
 * all others go to the kernel, untouched. While no socket is bound, VIP packets are dropped, so
 * that the kernel never answers for a VIP.
 *
 *   destination_of > in vips?      steered, no_dataplane
 *                  > a reply?      probe_reply
 *                  > else          kernel
 *
 * On the TAP of a NIC that DPDK owns, the control plane attaches the same program (scoreboard.h);
 * it has no VIPs there.
 *
 * Only untagged Ethernet is looked at. The destination is in the fixed header in either family,
 * so fragments, options, extension headers and ICMP errors to a VIP all go to the dataplane.
 *
 * DPDK's AF_XDP driver loads this object (devarg xdp_prog=): it attaches the first program and
 * wants a map called `xsks_map`. So there is one program here, and nothing is pinned.
 */
#include "bpf/probe_reply.h"
#include "bpf/program.h"

struct {
  __uint(type, BPF_MAP_TYPE_XSKMAP);
  __uint(max_entries, GW_EDGE_QUEUES_MAX);
  __type(key, __u32);
  __type(value, __u32);
} xsks_map SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, GW_EDGE_VIPS_MAX);
  __type(key, struct gw_address_key);
  __type(value, __u8);
} vips SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, GW_EDGE_COUNTERS_END);
  __type(key, __u32);
  __type(value, __u64);
} edge_counters SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, GW_PROBE_TARGETS_MAX);
  __type(key, __u32);
  __type(value, struct gw_score);
} scoreboard SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct gw_probe_secret);
} probe_secret SEC(".maps");

// False if the frame holds no whole IP header, or one whose destination cannot be a VIP.
GW_INLINE int destination_of(struct xdp_md* ctx, struct gw_address_key* destination) {
  void* data = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  struct ethhdr* ethernet = data;
  if ((void*)(ethernet + 1) > end) return 0;

  if (ethernet->h_proto == bpf_htons(ETH_P_IP)) {
    struct iphdr* ip = (void*)(ethernet + 1);
    if ((void*)(ip + 1) > end) return 0;
    *destination = key_from_v4(ip->daddr);
    return 1;
  }
  if (ethernet->h_proto == bpf_htons(ETH_P_IPV6)) {
    struct ipv6hdr* ip = (void*)(ethernet + 1);
    if ((void*)(ip + 1) > end) return 0;
    *destination = key_from_v6(&ip->daddr);
    return !is_v4_key(destination);
  }
  return 0;
}

// Whether this is the reply to a probe that is under way; then it stands in the scoreboard.
GW_INLINE int take_probe_reply(struct xdp_md* ctx) {
  struct claim claim;
  if (!claim_of(ctx, &claim)) return 0;

  __u32 only = 0;
  struct gw_probe_secret* secret = bpf_map_lookup_elem(&probe_secret, &only);
  if (!secret || !(secret->key[0] | secret->key[1])) return 0;
  name_claim(secret, &claim);
  struct gw_score* score = bpf_map_lookup_elem(&scoreboard, &claim.name.target);
  if (!score || !is_proved(secret, score, &claim)) return 0;
  write_score(score, &claim);
  return 1;
}

// xdp.frags: so that a shared NIC with jumbo frames can still carry the kernel's own traffic.
SEC("xdp.frags")
int guideway_edge(struct xdp_md* ctx) {
  struct gw_address_key destination;
  if (!destination_of(ctx, &destination) || !bpf_map_lookup_elem(&vips, &destination)) {
    int taken = take_probe_reply(ctx);
    count_in(&edge_counters, taken ? GW_EDGE_probe_reply : GW_EDGE_kernel);
    return taken ? XDP_DROP : XDP_PASS;
  }
  int action = bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_DROP);
  count_in(&edge_counters, action == XDP_REDIRECT ? GW_EDGE_steered : GW_EDGE_no_dataplane);
  return action;
}

char _license[] SEC("license") = "GPL";
