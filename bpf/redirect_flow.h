/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * redirect_flow.h: which flow an inner packet belongs to, and whether it is at home here, for
 * redirect.bpf.c. BPF C only.
 */
#ifndef GUIDEWAY_BPF_REDIRECT_FLOW_H
#define GUIDEWAY_BPF_REDIRECT_FLOW_H

#include <linux/tcp.h>

#include "bpf/redirect_outer.h"

// RFC 792 and RFC 4443: errors quote the packet that they are about, 8 bytes in.
#define ICMP_HEADER_BYTES 8
#define ICMP_UNREACHABLE 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_FIRST_INFORMATIONAL 128

// What is read of a TCP header that an ICMP error quotes (RFC 792), and of UDP's or ICMP's own.
#define PORTS_BYTES 8

// `protocol` of what has no ports to go by: fragments, and headers that are not understood.
#define NO_PORTS 255

struct flow {
  struct bpf_sock_tuple tuple;  // as the local socket is looked up: source is the client
  union {
    struct iphdr v4;
    struct ipv6hdr v6;
  } ip;
  union {
    struct tcphdr tcp;
    struct udphdr udp;
    struct {
      __u8 type;
    } icmp;
  } transport;
  __u32 transport_at;  // offset in the frame
  __u32 transport_bytes;
  __u8 is_v4;
  __u8 protocol;
  __u8 extended;  // there are IPv6 extension headers
};

GW_INLINE int read_ipv4(struct xdp_md* ctx, __u32 at, struct flow* flow) {
  if (bpf_xdp_load_bytes(ctx, at, &flow->ip.v4, sizeof(flow->ip.v4))) return 0;
  const struct iphdr* ip = &flow->ip.v4;
  __u32 header_bytes = ip->ihl * 4;
  if (ip->version != 4 || header_bytes < sizeof(*ip) || header_bytes > flow->transport_bytes)
    return 0;
  flow->transport_at = at + header_bytes;
  flow->transport_bytes -= header_bytes;
  int fragment = ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET);
  flow->protocol = fragment ? NO_PORTS : ip->protocol;
  flow->tuple.ipv4.saddr = ip->saddr;
  flow->tuple.ipv4.daddr = ip->daddr;
  return 1;
}

// Extension headers are walked over as the dataplane does; an atomic fragment (RFC 6946) is whole.
GW_INLINE int read_ipv6(struct xdp_md* ctx, __u32 at, struct flow* flow) {
  if (bpf_xdp_load_bytes(ctx, at, &flow->ip.v6, sizeof(flow->ip.v6))) return 0;
  const struct ipv6hdr* ip = &flow->ip.v6;
  if (ip->version != 6 || sizeof(*ip) > flow->transport_bytes) return 0;
  __builtin_memcpy(flow->tuple.ipv6.saddr, &ip->saddr, 16);
  __builtin_memcpy(flow->tuple.ipv6.daddr, &ip->daddr, 16);

  __u8 protocol = ip->nexthdr;
  __u32 skipped = sizeof(*ip);
  for (int i = 0; i < EXTENSION_HEADERS_MAX && is_extension(protocol); ++i) {
    struct extension_header header;
    if (skipped + sizeof(header) > flow->transport_bytes) return 0;
    if (bpf_xdp_load_bytes(ctx, at + skipped, &header, sizeof(header))) return 0;
    int is_fragment = protocol == IPPROTO_FRAGMENT;
    protocol = header.next_header;
    skipped += is_fragment ? sizeof(header) : (header.extra_units + 1) * 8;
    if (is_fragment && header.offset_more & bpf_htons(IPV6_FRAGMENT_OFFSET | IPV6_MORE_FRAGMENTS)) {
      protocol = NO_PORTS;
      break;
    }
  }
  if (skipped > flow->transport_bytes) return 0;
  flow->protocol = is_extension(protocol) ? NO_PORTS : protocol;
  flow->extended = skipped != sizeof(*ip);
  flow->transport_at = at + skipped;
  flow->transport_bytes -= skipped;
  return 1;
}

GW_INLINE int is_icmp(const struct flow* flow) {
  return flow->protocol == (flow->is_v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

/*
 * Reads the IP packet at offset `at` of the frame, of the family that flow->is_v4 says, of which
 * `bytes` bytes are there; `quoted`: in an ICMP error. 0: it is too short for what it says it is.
 */
GW_VERIFIED_ONCE int gw_read_flow(struct xdp_md* ctx, struct flow* flow, __u32 at, __u32 bytes,
                                  __u32 quoted) {
  if (!flow) return 0;
  flow->transport_bytes = bytes;
  if (!(flow->is_v4 ? read_ipv4(ctx, at, flow) : read_ipv6(ctx, at, flow))) return 0;

  int is_tcp = flow->protocol == IPPROTO_TCP;
  if (!is_tcp && flow->protocol != IPPROTO_UDP && !is_icmp(flow)) return 1;
  if (is_tcp && !quoted) {
    if (flow->transport_bytes < sizeof(struct tcphdr)) return 0;
    if (bpf_xdp_load_bytes(ctx, flow->transport_at, &flow->transport, sizeof(struct tcphdr)))
      return 0;
  } else {
    if (flow->transport_bytes < PORTS_BYTES) return 0;
    if (bpf_xdp_load_bytes(ctx, flow->transport_at, &flow->transport, PORTS_BYTES)) return 0;
  }
  if (flow->is_v4) {
    flow->tuple.ipv4.sport = flow->transport.udp.source;
    flow->tuple.ipv4.dport = flow->transport.udp.dest;
  } else {
    flow->tuple.ipv6.sport = flow->transport.udp.source;
    flow->tuple.ipv6.dport = flow->transport.udp.dest;
  }
  return 1;
}

// An error quotes what this side sent: what its socket is looked up by is the other way round.
GW_INLINE void turn_round(struct flow* flow) {
  struct bpf_sock_tuple* tuple = &flow->tuple;
  if (flow->is_v4) {
    __be32 address = tuple->ipv4.saddr;
    __be16 port = tuple->ipv4.sport;
    tuple->ipv4.saddr = tuple->ipv4.daddr;
    tuple->ipv4.sport = tuple->ipv4.dport;
    tuple->ipv4.daddr = address;
    tuple->ipv4.dport = port;
    return;
  }
  __be16 port = tuple->ipv6.sport;
  tuple->ipv6.sport = tuple->ipv6.dport;
  tuple->ipv6.dport = port;
  for (int i = 0; i < 4; ++i) {
    __be32 word = tuple->ipv6.saddr[i];
    tuple->ipv6.saddr[i] = tuple->ipv6.daddr[i];
    tuple->ipv6.daddr[i] = word;
  }
}

GW_INLINE int is_icmp_error(const struct flow* flow) {
  if (!is_icmp(flow)) return 0;
  __u8 type = flow->transport.icmp.type;
  if (!flow->is_v4) return type < ICMPV6_FIRST_INFORMATIONAL;
  return type == ICMP_UNREACHABLE || type == ICMP_SOURCE_QUENCH || type == ICMP_TIME_EXCEEDED ||
         type == ICMP_PARAMETER_PROBLEM;
}

GW_INLINE __u32 tuple_bytes(const struct flow* flow) {
  return flow->is_v4 ? sizeof(flow->tuple.ipv4) : sizeof(flow->tuple.ipv6);
}

// Not at home here, or not to be told.
#define UNDECIDED GW_REDIRECT_COUNTERS_END

// `quoted`: the TCP header is that of an ICMP error's, of which only the ports were read.
GW_VERIFIED_ONCE int gw_tcp_is_local(struct xdp_md* ctx, struct flow* flow, __u32 quoted) {
  if (!flow) return UNDECIDED;
  const struct tcphdr* tcp = &flow->transport.tcp;
  if (!quoted && tcp->syn && !tcp->ack && !tcp->rst) return GW_REDIRECT_local_new;

  struct bpf_sock* sock =
      bpf_skc_lookup_tcp(ctx, &flow->tuple, tuple_bytes(flow), BPF_F_CURRENT_NETNS, 0);
  if (!sock) return UNDECIDED;
  int end = UNDECIDED;
  if (sock->state != BPF_TCP_LISTEN)
    end = GW_REDIRECT_local_socket;
  else if (!quoted && tcp->ack && !tcp->syn && !tcp->rst &&
           bpf_tcp_check_syncookie(sock, &flow->ip, sizeof(flow->ip), &flow->transport.tcp,
                                   sizeof(flow->transport.tcp)) == 0)
    end = GW_REDIRECT_local_cookie;
  bpf_sk_release(sock);
  return end;
}

// Only a connected socket says that a datagram is at home.
GW_VERIFIED_ONCE int gw_udp_is_local(struct xdp_md* ctx, struct flow* flow) {
  if (!flow) return UNDECIDED;
  struct bpf_sock* sock =
      bpf_sk_lookup_udp(ctx, &flow->tuple, tuple_bytes(flow), BPF_F_CURRENT_NETNS, 0);
  if (!sock) return UNDECIDED;
  int connected = sock->state == BPF_TCP_ESTABLISHED;
  bpf_sk_release(sock);
  return connected ? GW_REDIRECT_local_socket : UNDECIDED;
}

#endif
