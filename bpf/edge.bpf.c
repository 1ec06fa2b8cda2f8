// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * edge: on the node's NIC. Packets to a VIP go to the dataplane's AF_XDP socket on the queue they
 * came in on; all others to the kernel, untouched. While no socket is bound, VIP packets are
 * dropped, so that the kernel never answers for a VIP.
 *
 * Only untagged Ethernet is looked at. The destination is in the fixed header in either family,
 * so fragments, options, extension headers and ICMP errors to a VIP all go to the dataplane.
 *
 * DPDK's AF_XDP driver loads this object (devarg xdp_prog=): it attaches the first program and
 * wants a map called `xsks_map`. So there is one program here, and nothing is pinned.
 */
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

// xdp.frags: so that a shared NIC with jumbo frames can still carry the kernel's own traffic.
SEC("xdp.frags")
int guideway_edge(struct xdp_md* ctx) {
  struct gw_address_key destination;
  if (!destination_of(ctx, &destination) || !bpf_map_lookup_elem(&vips, &destination)) {
    count_in(&edge_counters, GW_EDGE_kernel);
    return XDP_PASS;
  }
  int action = bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_DROP);
  count_in(&edge_counters, action == XDP_REDIRECT ? GW_EDGE_steered : GW_EDGE_no_dataplane);
  return action;
}

char _license[] SEC("license") = "GPL";
