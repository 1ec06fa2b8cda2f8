/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * gue.h: what `gue` forwarding puts between the outer UDP header and the client's packet: a GUE
 * header (draft-ietf-intarea-gue-09, version 0) whose private data is the flow's list of later
 * hops. docs/design/gue.md has the picture and the reasons. Valid for BPF C, C11 and C++20.
 *
 * The outer destination is the hop that is being tried; the list holds only the later ones. Each
 * host that sends the packet on adds 1 to `next`, so that no list can make a packet circle.
 */
#ifndef GUIDEWAY_BPF_GUE_H
#define GUIDEWAY_BPF_GUE_H

#include <linux/types.h>

#ifdef __cplusplus
#define GW_GUE_ASSERT(condition) static_assert(condition)
#define GW_GUE_INLINE inline
#else
#define GW_GUE_ASSERT(condition) _Static_assert(condition, #condition)
#define GW_GUE_INLINE static inline __attribute__((always_inline, unused))
#endif

#define GW_GUE_PORT 6080      /* outer UDP destination port */
#define GW_GUE_LAYOUT 1       /* of the private data */
#define GW_GUE_HOPS_MAX 4     /* later hops */
#define GW_GUE_HLEN_MASK 0x1f /* of `hlen`; the bits above it are version and control, all 0 */

struct gw_gue {
  __u8 hlen;     /* 4-byte words after the first: 1 + those of the addresses */
  __u8 protocol; /* of the client's packet: 4 or 41 */
  __u8 flags[2]; /* 0 */
  __u8 layout;   /* GW_GUE_LAYOUT */
  __u8 next;     /* index of the hop to try if this one has no socket; 0 to count */
  __u8 count;    /* addresses that follow, 0 to GW_GUE_HOPS_MAX */
  __u8 family;   /* 4 or 6: of the outer header, and of all addresses */
  /* Then `count` addresses of 4 or 16 bytes, in network byte order; then the client's packet. */
};
GW_GUE_ASSERT(sizeof(struct gw_gue) == 8);
GW_GUE_ASSERT(__builtin_offsetof(struct gw_gue, layout) == 4);
GW_GUE_ASSERT(__builtin_offsetof(struct gw_gue, family) == 7);

#define GW_GUE_BYTES_MAX (8 + GW_GUE_HOPS_MAX * 16)
GW_GUE_ASSERT(GW_GUE_BYTES_MAX / 4 - 1 <= GW_GUE_HLEN_MASK);

/* Of the header with its addresses; `family` 4 or 6. */
GW_GUE_INLINE __u32 gw_gue_bytes(__u32 family, __u32 count) {
  return 8 + count * (family == 6 ? 16 : 4);
}

/* Host byte order. Every bit of the flow's hash takes part. */
GW_GUE_INLINE __u16 gw_gue_source_port(__u64 hash) {
  hash ^= hash >> 32;
  hash ^= hash >> 16;
  return (__u16)(0x8000 | (hash & 0x7fff));
}

/*
 * Outer UDP checksum without the payload's bytes (local checksum offload). Sums are of 16-bit
 * words as they lie in memory: a one's complement sum is the same in either byte order (RFC 1071
 * section 2).
 */
GW_GUE_INLINE __u32 gw_gue_fold(__u32 sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16);
}

/*
 * Sum of the client's whole packet, an IPv4 header without regard to options and TCP, UDP (its
 * checksum not 0) or ICMP, on the word of its own checksums. `addresses`: sum of both addresses,
 * folded. `protocol_word`, `bytes_word`: protocol and length of what follows the IP header, as
 * 16-bit words in network byte order.
 * The header adds up to nothing, and so does ICMP; TCP and UDP add up to the complement of their
 * pseudo header.
 */
GW_GUE_INLINE __u32 gw_gue_inner_sum_v4(int is_icmp, __u32 addresses, __u16 protocol_word,
                                        __u16 bytes_word) {
  return is_icmp ? 0 : 0xffff ^ gw_gue_fold(addresses + protocol_word + bytes_word);
}

/*
 * The same for an IPv6 header that TCP, UDP or ICMPv6 follows at once. `first8`: sum of the first
 * 8 bytes of the header. The addresses are in the header and, complemented, in the pseudo header:
 * they cancel out.
 */
GW_GUE_INLINE __u32 gw_gue_inner_sum_v6(__u32 first8, __u16 protocol_word, __u16 bytes_word) {
  return gw_gue_fold(first8 + (0xffff ^ gw_gue_fold((__u32)protocol_word + bytes_word)));
}

#endif
