/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * probe_reply.h: is a packet the reply to a health probe? BPF C only; part of edge.
 *
 *   claim_of:   what the packet says it answers, from its headers alone: cheap, and for nearly all
 *               other traffic the end (protocol, flags, ports from GW_PROBE_PORT_FIRST, 'aaaa')
 *   name_claim: which probe that is. A TCP reply only holds it encrypted
 *   is_proved:  is that probe awaited (score.h), and is the proof right (cookie.h)?
 *
 * What counts as a reply:
 *   TCP   SYN-ACK: alive. RST-ACK: refused.
 *   ICMP  echo reply whose payload begins with the mark: alive.
 *   UDP   the mark's text at the beginning, or where a DNS question has it: alive. The rcode does
 * not matter: a server that says REFUSED is there. ICMP  port unreachable, from whomever, around
 * our SYN or our UDP probe: refused. Not protocol unreachable, not 'administratively prohibited':
 * those speak of the way.
 *
 * No checksum is looked at: on a virtual interface it is mostly not filled in, and the proof covers
 * what matters. A packet whose IP header promises more than the frame has is no reply.
 */
#ifndef GUIDEWAY_BPF_PROBE_REPLY_H
#define GUIDEWAY_BPF_PROBE_REPLY_H

#include <linux/tcp.h>
#include <linux/udp.h>

#include "bpf/program.h"

#define GW_IPV4_FRAGMENT 0x3fff /* more fragments, offset */

/* Not the kernel's icmp.h: it wants the C library's headers. */
struct icmp_header {
  __u8 type, code;
  __be16 checksum;
  __be32 rest;
};
#define GW_ICMP_ECHO_REPLY 0 /* RFC 792 */
#define GW_ICMP_UNREACHABLE 3
#define GW_ICMP_PORT_UNREACHABLE 3
#define GW_ICMPV6_ECHO_REPLY 129 /* RFC 4443 */
#define GW_ICMPV6_UNREACHABLE 1
#define GW_ICMPV6_PORT_UNREACHABLE 4

#define GW_TCP_FIN 0x01
#define GW_TCP_SYN 0x02
#define GW_TCP_RST 0x04
#define GW_TCP_ACK 0x10
#define GW_TCP_FLAGS_AT 13

struct claim {
  struct gw_probe_peer peer;
  struct gw_probe_name name; /* marked: as the packet says; else by name_claim() */
  __u64 proof;               /* marked */
  __u32 sequence;            /* not marked: of the SYN */
  __u16 port;                /* the probe's source port; not icmp */
  __u8 marked;
  __u8 kind; /* gw_reply_kind */
};

/* What follows an IP header. */
struct inside {
  __u8* at;
  __u32 protocol;
};

/* Whether `length` bytes from `at` on are in the frame. */
GW_INLINE int holds(void* at, void* end, __be16 length) {
  __u64 bytes = bpf_ntohs(length);
  /* The verifier of Linux 6.1 takes a swapped number for one without bounds, the compiler does not.
   */
  asm volatile("%0 &= 0xffff" : "+r"(bytes));
  return at + bytes <= end;
}

/* 0: not IPv4, or a fragment. */
GW_INLINE int inside_v4(struct iphdr* ip, void* end, struct inside* inside) {
  if ((void*)(ip + 1) > end || ip->version != 4 || ip->ihl < 5) return 0;
  if (ip->frag_off & bpf_htons(GW_IPV4_FRAGMENT)) return 0;
  __u8* at = (__u8*)ip + ip->ihl * 4;
  /* One pointer for all that follows: the verifier knows of no other what was checked. */
  asm volatile("" : "+r"(at));
  inside->at = at;
  inside->protocol = ip->protocol;
  return 1;
}

GW_INLINE int inside_v6(struct ipv6hdr* ip, void* end, struct inside* inside) {
  if ((void*)(ip + 1) > end || ip->version != 6) return 0;
  inside->at = (__u8*)(ip + 1);
  inside->protocol = ip->nexthdr;
  return 1;
}

GW_INLINE void set_peer(struct claim* claim, const struct gw_address_key* address) {
  __builtin_memcpy(claim->peer.address, address->bytes, sizeof(claim->peer.address));
}

/* `near`: the end that the probe came from. */
GW_INLINE int claim_ports(struct claim* claim, __u32 protocol, __be16 near, __be16 far) {
  claim->peer.protocol = protocol;
  claim->peer.port = bpf_ntohs(far);
  claim->port = bpf_ntohs(near);
  return claim->port >= GW_PROBE_PORT_FIRST;
}

GW_INLINE int claim_text(const __u8* text, void* end, struct claim* claim) {
  if ((void*)(text + GW_PROBE_TEXT_BYTES) > end) return 0;
  claim->marked = 1;
  return gw_probe_read_text(text, &claim->name, &claim->proof);
}

GW_INLINE int claim_payload(const __u8* payload, void* end, struct claim* claim) {
  return claim_text(payload + GW_PROBE_ECHO_OFFSET, end, claim) ||
         claim_text(payload + GW_PROBE_DNS_OFFSET, end, claim);
}

GW_INLINE int claim_tcp(void* at, void* end, struct claim* claim) {
  struct tcphdr* tcp = at;
  if ((void*)(tcp + 1) > end) return 0;
  __u8 flags = ((__u8*)at)[GW_TCP_FLAGS_AT] & (GW_TCP_FIN | GW_TCP_SYN | GW_TCP_RST | GW_TCP_ACK);
  claim->kind = GW_REPLY_alive;
  if (flags == (GW_TCP_RST | GW_TCP_ACK)) {
    claim->kind = GW_REPLY_refused;
  } else if (flags != (GW_TCP_SYN | GW_TCP_ACK)) {
    return 0;
  }
  claim->sequence = bpf_ntohl(tcp->ack_seq) - 1;
  return claim_ports(claim, IPPROTO_TCP, tcp->dest, tcp->source);
}

GW_INLINE int claim_udp(void* at, void* end, struct claim* claim) {
  struct udphdr* udp = at;
  if ((void*)(udp + 1) > end) return 0;
  claim->kind = GW_REPLY_alive;
  return claim_ports(claim, IPPROTO_UDP, udp->dest, udp->source) &&
         claim_payload((__u8*)(udp + 1), end, claim);
}

GW_INLINE int claim_echo(const __u8* payload, void* end, struct claim* claim) {
  if ((void*)(payload + sizeof(struct gw_probe_mark)) > end) return 0;
  claim->kind = GW_REPLY_alive;
  claim->marked = 1;
  claim->peer.protocol = IPPROTO_ICMP;
  return gw_probe_read_mark(payload, &claim->name, &claim->proof);
}

/* Our own packet, sent back: eight bytes of it, or more. */
GW_INLINE int claim_bounced(const struct inside* sent, void* end, struct claim* claim) {
  struct udphdr* udp = (void*)sent->at;
  if ((void*)(udp + 1) > end) return 0;
  claim->kind = GW_REPLY_refused;
  if (sent->protocol != IPPROTO_TCP && sent->protocol != IPPROTO_UDP) return 0;
  if (!claim_ports(claim, sent->protocol, udp->source, udp->dest)) return 0;
  if (sent->protocol == IPPROTO_UDP) return claim_payload((__u8*)(udp + 1), end, claim);
  __be32 sequence;
  __builtin_memcpy(&sequence, sent->at + 4, sizeof(sequence));
  claim->sequence = bpf_ntohl(sequence);
  return 1;
}

GW_INLINE int claim_v4(struct iphdr* ip, void* end, struct claim* claim) {
  struct inside inside;
  if (!inside_v4(ip, end, &inside) || !holds(ip, end, ip->tot_len)) return 0;
  struct gw_address_key peer = key_from_v4(ip->saddr);
  set_peer(claim, &peer);
  if (inside.protocol == IPPROTO_TCP) return claim_tcp(inside.at, end, claim);
  if (inside.protocol == IPPROTO_UDP) return claim_udp(inside.at, end, claim);

  struct icmp_header* icmp = (void*)inside.at;
  if (inside.protocol != IPPROTO_ICMP || (void*)(icmp + 1) > end) return 0;
  if (icmp->type == GW_ICMP_ECHO_REPLY && icmp->code == 0)
    return claim_echo((void*)(icmp + 1), end, claim);
  if (icmp->type != GW_ICMP_UNREACHABLE || icmp->code != GW_ICMP_PORT_UNREACHABLE) return 0;
  struct iphdr* sent = (void*)(icmp + 1);
  if (!inside_v4(sent, end, &inside)) return 0;
  peer = key_from_v4(sent->daddr);
  set_peer(claim, &peer);
  return claim_bounced(&inside, end, claim);
}

GW_INLINE int claim_v6(struct ipv6hdr* ip, void* end, struct claim* claim) {
  struct inside inside;
  if (!inside_v6(ip, end, &inside) || !holds(ip + 1, end, ip->payload_len)) return 0;
  struct gw_address_key peer = key_from_v6(&ip->saddr);
  set_peer(claim, &peer);
  if (inside.protocol == IPPROTO_TCP) return claim_tcp(inside.at, end, claim) && !is_v4_key(&peer);
  if (inside.protocol == IPPROTO_UDP) return claim_udp(inside.at, end, claim) && !is_v4_key(&peer);

  struct icmp_header* icmp = (void*)inside.at;
  if (inside.protocol != IPPROTO_ICMPV6 || (void*)(icmp + 1) > end) return 0;
  if (icmp->type == GW_ICMPV6_ECHO_REPLY && icmp->code == 0)
    return claim_echo((void*)(icmp + 1), end, claim) && !is_v4_key(&peer);
  if (icmp->type != GW_ICMPV6_UNREACHABLE || icmp->code != GW_ICMPV6_PORT_UNREACHABLE) return 0;
  struct ipv6hdr* sent = (void*)(icmp + 1);
  if (!inside_v6(sent, end, &inside)) return 0;
  peer = key_from_v6(&sent->daddr);
  set_peer(claim, &peer);
  return claim_bounced(&inside, end, claim) && !is_v4_key(&peer);
}

GW_INLINE int claim_of(struct xdp_md* ctx, struct claim* claim) {
  void* data = (void*)(long)ctx->data;
  void* end = (void*)(long)ctx->data_end;
  struct ethhdr* ethernet = data;
  if ((void*)(ethernet + 1) > end) return 0;
  __builtin_memset(claim, 0, sizeof(*claim));
  if (ethernet->h_proto == bpf_htons(ETH_P_IP)) return claim_v4((void*)(ethernet + 1), end, claim);
  if (ethernet->h_proto == bpf_htons(ETH_P_IPV6))
    return claim_v6((void*)(ethernet + 1), end, claim);
  return 0;
}

GW_INLINE void name_claim(const struct gw_probe_secret* secret, struct claim* claim) {
  if (!claim->marked) gw_probe_open(secret, claim->sequence, &claim->name);
}

/* The scoreboard first: it ends nearly every forgery before the hash. */
GW_INLINE int is_proved(const struct gw_probe_secret* secret, struct gw_score* score,
                        const struct claim* claim) {
  __u64 awaited = *(volatile __u64*)&score->awaited;
  if (!gw_is_awaited(awaited, claim->name.attempt)) return 0;
  __u64 proof = gw_probe_proof(secret, &claim->peer, &claim->name);
  if (claim->marked && claim->proof != proof) return 0;
  return claim->peer.protocol == IPPROTO_ICMP || claim->port == gw_probe_port(proof);
}

/* Twice: another CPU may have put the reply to another attempt there at the same moment. */
GW_INLINE void write_score(struct gw_score* score, const struct claim* claim) {
  __u64* place = &score->reply[claim->name.attempt & (GW_SCORE_REPLIES - 1)];
  __u64 word = gw_reply_word(claim->name.attempt, claim->kind, bpf_ktime_get_ns());
  __u64 awaited = *(volatile __u64*)&score->awaited;
  __u32 age = gw_attempt_age(awaited, claim->name.attempt);
  for (int i = 0; i < 2; ++i) {
    __u64 before = *(volatile __u64*)place;
    if (before && gw_attempt_age(awaited, gw_reply_attempt(before)) <= age) return;
    if (__sync_val_compare_and_swap(place, before, word) == before) return;
  }
}

#endif
