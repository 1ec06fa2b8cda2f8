// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * responder: answers for every address of 10.1.0.0/16 as a backend behind an IPv4 tunnel would,
 * with an open port: a SYN in IP in IP draws a SYN-ACK without a tunnel, anything else in it
 * nothing. All other packets pass. For measuring what probing many backends costs
 * (scripts/failures).
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define NET bpf_htonl(0x0a010000)
#define NET_MASK bpf_htonl(0xffff0000)

struct tunnelled {
  struct ethhdr ethernet;
  struct iphdr outer;
  struct iphdr inner;
  struct tcphdr tcp;
} __attribute__((packed));

struct plain {
  struct ethhdr ethernet;
  struct iphdr ip;
  struct tcphdr tcp;
} __attribute__((packed));

static __always_inline __u16 folded(__u64 sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16);
}

SEC("xdp")
int responder(struct xdp_md* ctx) {
  struct tunnelled* in = (void*)(long)ctx->data;
  if ((void*)(in + 1) > (void*)(long)ctx->data_end) return XDP_PASS;
  if (in->ethernet.h_proto != bpf_htons(ETH_P_IP) || in->outer.ihl != 5 ||
      in->outer.protocol != IPPROTO_IPIP || (in->outer.daddr & NET_MASK) != NET) {
    return XDP_PASS;
  }
  if (in->inner.ihl != 5 || in->inner.protocol != IPPROTO_TCP || !in->tcp.syn || in->tcp.ack) {
    return XDP_DROP;
  }
  struct ethhdr ethernet = in->ethernet;
  if (bpf_xdp_adjust_head(ctx, sizeof(struct iphdr))) return XDP_DROP;
  struct plain* out = (void*)(long)ctx->data;
  if ((void*)(out + 1) > (void*)(long)ctx->data_end) return XDP_DROP;
  __builtin_memcpy(out->ethernet.h_dest, ethernet.h_source, ETH_ALEN);
  __builtin_memcpy(out->ethernet.h_source, ethernet.h_dest, ETH_ALEN);
  out->ethernet.h_proto = ethernet.h_proto;
  // Swapping addresses and ports changes no checksum.
  __be32 address = out->ip.saddr;
  out->ip.saddr = out->ip.daddr;
  out->ip.daddr = address;
  __be16 port = out->tcp.source;
  out->tcp.source = out->tcp.dest;
  out->tcp.dest = port;
  // RFC 1624: HC' = ~(~HC + ~m + m').
  __be32 old_ack = out->tcp.ack_seq;
  __be32 new_ack = bpf_htonl(bpf_ntohl(out->tcp.seq) + 1);
  __u64 sum = (__u16)~out->tcp.check;
  sum += (__u64)(__u16) ~(old_ack & 0xffff) + (__u16) ~(old_ack >> 16);
  sum += (__u64)(new_ack & 0xffff) + (new_ack >> 16);
  sum += bpf_htons(0x0010);  // the ACK bit, which was clear
  out->tcp.ack_seq = new_ack;
  out->tcp.ack = 1;
  out->tcp.check = ~folded(sum);
  return XDP_TX;
}

char _license[] SEC("license") = "GPL";
