// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * redirect: on a backend's interface. Takes tunnel packets of Guideway's nodes, IP in IP in any
 * crossing (RFC 2003, RFC 2473, RFC 4213), strips the outer header and passes the inner packet to
 * the local stack, as if it had come in on this interface without a tunnel.
 *
 *   judge: parse_outer > is it for this host > is the sender allowed > check_inner
 *   strip: move the Ethernet header over the outer IP header
 *
 * What is no tunnel packet, or one to somebody else's address, passes untouched. A tunnel packet
 * to this host that is not sound, or not from an allowed prefix, is dropped, never passed: a
 * kernel tunnel device must not accept what we refuse.
 *
 * The kernel checks what it would check without a tunnel: destination MAC, inner addresses, inner
 * checksum, and it trims Ethernet padding by the inner length.
 */
#include "bpf/program.h"

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

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV4_HEADER_MAX 60

// RFC 3168 section 5.
#define ECN_MASK 3
#define ECN_NOT_CAPABLE 0
#define ECN_CONGESTED 3

#define EXTENSION_HEADERS_MAX 8

// RFC 8200 sections 4.3 to 4.6: hop-by-hop, routing, fragment, destination options.
struct extension_header {
  __u8 next_header;
  __u8 extra_units;  // of 8 bytes, the first not counted; nothing in a fragment header
  __u8 rest[6];
};

struct outer {
  struct gw_address_key source;
  struct gw_address_key destination;
  __u32 header_bytes;
  __u32 payload_bytes;  // that follow the header, as the header says
  __u8 inner_protocol;  // IPPROTO_IPIP or IPPROTO_IPV6
  __u8 ecn;
  __u8 fragment;
  __u8 malformed;
};

GW_INLINE int is_tunnel(__u8 protocol) {
  return protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6;
}

GW_INLINE int is_extension(__u8 protocol) {
  return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING ||
         protocol == IPPROTO_FRAGMENT || protocol == IPPROTO_DSTOPTS;
}

GW_INLINE __u32 fold(__u32 sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16);
}

// The stack will not see this header again, so nobody else checks it. `bytes`: 20 to 60.
GW_INLINE int ipv4_checksum_holds(struct xdp_md* ctx, __u32 bytes) {
  __u16 header[IPV4_HEADER_MAX / 2] = {};
  if (bpf_xdp_load_bytes(ctx, ETH_HLEN, header, bytes)) return 0;
  __u32 sum = 0;
  for (int i = 0; i < IPV4_HEADER_MAX / 2; ++i) sum += header[i];
  return fold(sum) == 0xffff;
}

GW_INLINE int parse_outer_v4(struct xdp_md* ctx, struct iphdr* ip, struct outer* outer) {
  void* end = (void*)(long)ctx->data_end;
  if ((void*)(ip + 1) > end || ip->version != 4 || !is_tunnel(ip->protocol)) return 0;

  __u32 header_bytes = ip->ihl * 4;
  __u32 total_bytes = bpf_ntohs(ip->tot_len);
  outer->source = key_from_v4(ip->saddr);
  outer->destination = key_from_v4(ip->daddr);
  outer->header_bytes = header_bytes;
  outer->payload_bytes = total_bytes - header_bytes;
  outer->inner_protocol = ip->protocol;
  outer->ecn = ip->tos & ECN_MASK;
  outer->fragment = !!(ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET));
  outer->malformed = header_bytes < sizeof(*ip) || total_bytes < header_bytes ||
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
  int extended = 0;
  for (int i = 0; i < EXTENSION_HEADERS_MAX && is_extension(protocol); ++i) {
    struct extension_header* header = at;
    if ((void*)(header + 1) > end) return 0;
    if (protocol == IPPROTO_FRAGMENT) {
      outer->fragment = 1;
      at += sizeof(*header);
    } else {
      extended = 1;
      at += (header->extra_units + 1) * 8;
    }
    protocol = header->next_header;
  }
  if (!is_tunnel(protocol) && !is_extension(protocol)) return 0;

  outer->source = key_from_v6(&ip->saddr);
  outer->destination = key_from_v6(&ip->daddr);
  outer->header_bytes = sizeof(*ip);
  outer->payload_bytes = bpf_ntohs(ip->payload_len);
  outer->inner_protocol = protocol;
  outer->ecn = (ip->flow_lbl[0] >> 4) & ECN_MASK;
  outer->malformed = extended || sizeof(*ip) + outer->payload_bytes + ETH_HLEN > bpf_xdp_get_buff_len(ctx) ||
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

GW_INLINE int is_allowed(const struct gw_address_key* source) {
  struct gw_prefix_key key = {.bits = 128};
  __builtin_memcpy(key.bytes, source->bytes, sizeof(key.bytes));
  return bpf_map_lookup_elem(&allowed, &key) != 0;
}

// RFC 6040 section 4.2: a mark that a router on the way put on the outer header reaches the inner.
GW_INLINE enum gw_redirect_counter mark_v4(struct iphdr* ip) {
  if ((ip->tos & ECN_MASK) == ECN_NOT_CAPABLE) return GW_REDIRECT_congestion;
  // RFC 1624 equation 3, over the 16-bit word that `tos` is the low byte of.
  __u32 before = ip->tos;
  __u32 after = before | ECN_CONGESTED;
  __u32 sum = (__u16)~bpf_ntohs(ip->check) + (__u16)~before + after;
  ip->check = bpf_htons((__u16)~fold(sum));
  ip->tos = after;
  return GW_REDIRECT_delivered;
}

GW_INLINE enum gw_redirect_counter mark_v6(struct ipv6hdr* ip) {
  if (((ip->flow_lbl[0] >> 4) & ECN_MASK) == ECN_NOT_CAPABLE) return GW_REDIRECT_congestion;
  ip->flow_lbl[0] |= ECN_CONGESTED << 4;
  return GW_REDIRECT_delivered;
}

GW_INLINE enum gw_redirect_counter check_inner(struct xdp_md* ctx, const struct outer* outer) {
  void* end = (void*)(long)ctx->data_end;
  void* inner = (void*)(long)ctx->data + ETH_HLEN + (outer->header_bytes & 0x3f);
  int congested = outer->ecn == ECN_CONGESTED;

  if (outer->inner_protocol == IPPROTO_IPIP) {
    struct iphdr* ip = inner;
    if ((void*)(ip + 1) > end || ip->version != 4) return GW_REDIRECT_malformed;
    __u32 header_bytes = ip->ihl * 4;
    __u32 total_bytes = bpf_ntohs(ip->tot_len);
    if (header_bytes < sizeof(*ip) || total_bytes < header_bytes ||
        total_bytes > outer->payload_bytes)
      return GW_REDIRECT_malformed;
    return congested ? mark_v4(ip) : GW_REDIRECT_delivered;
  }

  struct ipv6hdr* ip = inner;
  if ((void*)(ip + 1) > end || ip->version != 6) return GW_REDIRECT_malformed;
  if (sizeof(*ip) + bpf_ntohs(ip->payload_len) > outer->payload_bytes) return GW_REDIRECT_malformed;
  return congested ? mark_v6(ip) : GW_REDIRECT_delivered;
}

GW_INLINE enum gw_redirect_counter judge(struct xdp_md* ctx, struct outer* outer) {
  if (!parse_outer(ctx, outer)) return GW_REDIRECT_other;
  if (!bpf_map_lookup_elem(&local, &outer->destination)) return GW_REDIRECT_not_local;
  if (!is_allowed(&outer->source)) return GW_REDIRECT_refused_source;
  if (outer->fragment) return GW_REDIRECT_fragment;
  if (outer->malformed) return GW_REDIRECT_malformed;
  return check_inner(ctx, outer);
}

GW_INLINE int strip(struct xdp_md* ctx, const struct outer* outer) {
  struct ethhdr* ethernet = (void*)(long)ctx->data;
  if ((void*)(ethernet + 1) > (void*)(long)ctx->data_end) return 0;
  struct ethhdr kept = *ethernet;
  kept.h_proto =
      outer->inner_protocol == IPPROTO_IPIP ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);

  if (bpf_xdp_adjust_head(ctx, outer->header_bytes & 0x3f)) return 0;
  ethernet = (void*)(long)ctx->data;
  if ((void*)(ethernet + 1) > (void*)(long)ctx->data_end) return 0;
  *ethernet = kept;
  return 1;
}

// xdp.frags: a backend behind a tunnel is well served by jumbo frames.
SEC("xdp.frags")
int guideway_redir(struct xdp_md* ctx) {
  struct outer outer = {};
  enum gw_redirect_counter end = judge(ctx, &outer);
  if (end == GW_REDIRECT_delivered && !strip(ctx, &outer)) end = GW_REDIRECT_failed;
  count_in(&redir_counters, end);

  int passes =
      end == GW_REDIRECT_other || end == GW_REDIRECT_not_local || end == GW_REDIRECT_delivered;
  return passes ? XDP_PASS : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
