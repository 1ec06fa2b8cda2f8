/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* redirect_outer.h: the outer header of a tunnel packet, for redirect.bpf.c. BPF C only. */
#ifndef GUIDEWAY_BPF_REDIRECT_OUTER_H
#define GUIDEWAY_BPF_REDIRECT_OUTER_H

#include <linux/udp.h>

#include "bpf/gue.h"
#include "bpf/program.h"

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV4_HEADER_MAX 60

#define ECN_MASK 3  // RFC 3168 section 5

#define EXTENSION_HEADERS_MAX 8

// RFC 8200 sections 4.3 to 4.6: hop-by-hop, routing, fragment, destination options.
struct extension_header {
  __u8 next_header;
  __u8 extra_units;    // of 8 bytes, the first not counted; nothing in a fragment header
  __be16 offset_more;  // of a fragment header
  __u8 rest[4];
};
#define IPV6_FRAGMENT_OFFSET 0xfff8
#define IPV6_MORE_FRAGMENTS 1

struct outer {
  struct gw_address_key source;
  struct gw_address_key destination;
  __u32 header_bytes;   // all that stands between Ethernet's header and the inner packet
  __u32 payload_bytes;  // that follow, as the header says
  __u8 inner_protocol;  // IPPROTO_IPIP or IPPROTO_IPV6; of GUE known after parse_gue()
  __u8 ecn;
  __u8 v4;
  __u8 gue;
  __u8 fragment;
  __u8 malformed;
};

GW_INLINE int is_ip_in_ip(__u8 protocol) {
  return protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6;
}

GW_INLINE int is_extension(__u8 protocol) {
  return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
         protocol == IPPROTO_FRAGMENT || protocol == IPPROTO_DSTOPTS;
}

GW_INLINE int is_gue(__u8 protocol, void* transport, void* end) {
  struct udphdr* udp = transport;
  return protocol == IPPROTO_UDP && (void*)(udp + 1) <= end && udp->dest == bpf_htons(GW_GUE_PORT);
}

// The stack will not see this header again, so nobody else checks it. `bytes`: 20 to 60.
GW_INLINE int ipv4_checksum_holds(struct xdp_md* ctx, __u32 bytes) {
  __u16 header[IPV4_HEADER_MAX / 2] = {};
  if (bpf_xdp_load_bytes(ctx, ETH_HLEN, header, bytes)) return 0;
  __u32 sum = 0;
  for (int i = 0; i < IPV4_HEADER_MAX / 2; ++i) sum += header[i];
  return gw_gue_fold(sum) == 0xffff;
}

GW_INLINE int parse_outer_v4(struct xdp_md* ctx, struct iphdr* ip, struct outer* outer) {
  void* end = (void*)(long)ctx->data_end;
  if ((void*)(ip + 1) > end || ip->version != 4) return 0;

  __u32 header_bytes = ip->ihl * 4;
  if (!is_ip_in_ip(ip->protocol)) {
    // What follows the header of a later fragment is no UDP header.
    if (ip->frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET)) return 0;
    if (!is_gue(ip->protocol, (void*)ip + (header_bytes & 0x3c), end)) return 0;
    outer->gue = 1;
  }
  __u32 total_bytes = bpf_ntohs(ip->tot_len);
  outer->v4 = 1;
  outer->source = key_from_v4(ip->saddr);
  outer->destination = key_from_v4(ip->daddr);
  outer->header_bytes = header_bytes;
  outer->payload_bytes = total_bytes - header_bytes;
  outer->inner_protocol = ip->protocol;
  outer->ecn = ip->tos & ECN_MASK;
  outer->fragment = !!(ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET));
  // A packet that may be sent on must not carry a source route or the like.
  int options = outer->gue && header_bytes != sizeof(*ip);
  outer->malformed = options || header_bytes < sizeof(*ip) || total_bytes < header_bytes ||
                     total_bytes + ETH_HLEN > bpf_xdp_get_buff_len(ctx) ||
                     !ipv4_checksum_holds(ctx, header_bytes);
  return 1;
}

GW_INLINE int parse_outer_v6(struct xdp_md* ctx, struct ipv6hdr* ip, struct outer* outer) {
  void* end = (void*)(long)ctx->data_end;
  if ((void*)(ip + 1) > end || ip->version != 6) return 0;

  // Guideway sends no extension headers, but a kernel tunnel device behind us would take a tunnel
  // packet that hides behind some: those are found, too, and dropped.
  __u8 protocol = ip->nexthdr;
  void* at = ip + 1;
  int extended = 0, later_fragment = 0;
  for (int i = 0; i < EXTENSION_HEADERS_MAX && is_extension(protocol); ++i) {
    struct extension_header* header = at;
    if ((void*)(header + 1) > end) return 0;
    if (protocol == IPPROTO_FRAGMENT) {
      outer->fragment = 1;
      later_fragment |= !!(header->offset_more & bpf_htons(IPV6_FRAGMENT_OFFSET));
      at += sizeof(*header);
    } else {
      extended = 1;
      at += (header->extra_units + 1) * 8;
    }
    protocol = header->next_header;
  }
  if (!is_ip_in_ip(protocol) && !is_extension(protocol)) {
    if (later_fragment || !is_gue(protocol, at, end)) return 0;
    outer->gue = 1;
  }

  outer->source = key_from_v6(&ip->saddr);
  outer->destination = key_from_v6(&ip->daddr);
  outer->header_bytes = sizeof(*ip);
  outer->payload_bytes = bpf_ntohs(ip->payload_len);
  outer->inner_protocol = protocol;
  outer->ecn = (ip->flow_lbl[0] >> 4) & ECN_MASK;
  outer->malformed = extended ||
                     sizeof(*ip) + outer->payload_bytes + ETH_HLEN > bpf_xdp_get_buff_len(ctx) ||
                     is_v4_key(&outer->source) || is_v4_key(&outer->destination);
  return 1;
}

// False: no tunnel packet, or too short to tell.
GW_INLINE int parse_outer(struct xdp_md* ctx, struct outer* outer) {
  struct ethhdr* ethernet = (void*)(long)ctx->data;
  if ((void*)(ethernet + 1) > (void*)(long)ctx->data_end) return 0;
  if (ethernet->h_proto == bpf_htons(ETH_P_IP))
    return parse_outer_v4(ctx, (void*)(ethernet + 1), outer);
  if (ethernet->h_proto == bpf_htons(ETH_P_IPV6))
    return parse_outer_v6(ctx, (void*)(ethernet + 1), outer);
  return 0;
}

/*
 * Reads UDP's and GUE's header (both to `head`) and adds them to outer->header_bytes. The frame
 * holds what `outer` says, and its IP header is 20 or 40 bytes. Returns `delivered`, or why not.
 */
struct gue_head {
  struct udphdr udp;
  struct gw_gue gue;
};

GW_INLINE enum gw_redirect_counter parse_gue(struct xdp_md* ctx, struct outer* outer,
                                             struct gue_head* head) {
  struct gue_head* at = (void*)(long)ctx->data + ETH_HLEN + (outer->header_bytes & 0x3f);
  if ((void*)(at + 1) > (void*)(long)ctx->data_end) return GW_REDIRECT_malformed;
  *head = *at;
  const struct gw_gue* gue = &head->gue;
  if (outer->payload_bytes < sizeof(*head) || bpf_ntohs(head->udp.len) != outer->payload_bytes)
    return GW_REDIRECT_malformed;

  if (gue->hlen & ~GW_GUE_HLEN_MASK || gue->flags[0] | gue->flags[1])
    return GW_REDIRECT_gue_version;
  if (gue->hlen == 0 || gue->layout != GW_GUE_LAYOUT) return GW_REDIRECT_gue_layout;
  __u32 bytes = gw_gue_bytes(gue->family, gue->count);
  if (gue->family != (outer->v4 ? 4 : 6) || gue->count > GW_GUE_HOPS_MAX ||
      gue->next > gue->count || gue->hlen * 4 + 4 != bytes)
    return GW_REDIRECT_hop_list;
  if (!is_ip_in_ip(gue->protocol)) return GW_REDIRECT_malformed;

  __u32 added = sizeof(struct udphdr) + bytes;
  if (added > outer->payload_bytes) return GW_REDIRECT_malformed;
  outer->inner_protocol = gue->protocol;
  outer->header_bytes += added;
  outer->payload_bytes -= added;
  return GW_REDIRECT_delivered;
}

#endif
