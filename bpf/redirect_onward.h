/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * redirect_onward.h: the outer UDP checksum, and making a GUE packet ready for its next hop, for
 * redirect.bpf.c. BPF C only.
 */
#ifndef GUIDEWAY_BPF_REDIRECT_ONWARD_H
#define GUIDEWAY_BPF_REDIRECT_ONWARD_H

#include "bpf/redirect_flow.h"

struct gue_packet {
  struct outer outer;
  struct gue_head head;
  struct flow flow;  // of the inner packet, or of the one that an ICMP error quotes
};

// Both outer addresses, UDP's header and GUE's follow each other in the frame.
#define COVERED_BYTES_MAX (2 * 16 + 8 + GW_GUE_BYTES_MAX)
#define COVERED_BUFFER_BYTES 128
GW_BPF_ASSERT(COVERED_BYTES_MAX < COVERED_BUFFER_BYTES);

GW_INLINE __u32 sum_words(const void* bytes, int count) {
  const __u16* words = bytes;
  __u32 sum = 0;
  for (int i = 0; i < count; ++i) sum += words[i];
  return sum;
}

// Whether the headers alone tell what the inner packet adds up to (gue.h).
GW_INLINE int sum_is_known(const struct flow* inner) {
  if (inner->extended) return 0;
  return inner->protocol == IPPROTO_TCP || is_icmp(inner) ||
         (inner->protocol == IPPROTO_UDP && inner->transport.udp.check != 0);
}

// 0 means 'none', over IPv6 as well (RFC 6935). Of a packet whose sum is not known nothing is said.
GW_VERIFIED_ONCE int gw_udp_checksum_holds(struct xdp_md* ctx, const struct gue_packet* packet) {
  if (!packet) return 0;
  const struct outer* outer = &packet->outer;
  const struct flow* inner = &packet->flow;
  if (packet->head.udp.check == 0 || !sum_is_known(inner)) return 1;

  __u32 covered[COVERED_BUFFER_BYTES / 4] = {};
  __u32 addresses_at = ETH_HLEN + (outer->v4 ? 12 : 8);
  // 1 to 128 for the verifier, of which kernel 6.1's does not understand `!= 0`.
  __u32 bytes = ETH_HLEN + outer->header_bytes - addresses_at;
  bytes = ((bytes - 1) & (COVERED_BUFFER_BYTES - 1)) + 1;
  if (bpf_xdp_load_bytes(ctx, addresses_at, covered, bytes)) return 0;
  __s64 outer_sum = bpf_csum_diff(0, 0, covered, sizeof(covered), 0);
  if (outer_sum < 0) return 0;

  __u16 protocol = bpf_htons(inner->protocol);
  __u16 length = bpf_htons(inner->transport_bytes);
  __u32 inner_sum =
      inner->is_v4
          ? gw_gue_inner_sum_v4(is_icmp(inner), sum_words(&inner->ip.v4.saddr, 4), protocol, length)
          : gw_gue_inner_sum_v6(sum_words(&inner->ip.v6, 4), protocol, length);
  __u32 sum =
      gw_gue_fold((__u32)outer_sum) + inner_sum + bpf_htons(IPPROTO_UDP) + packet->head.udp.len;
  return gw_gue_fold(sum) == 0xffff;
}

// RFC 1624 equation 3; 0 is 'none', and stays it. `removed`, `added`: sums of what changed.
GW_INLINE __sum16 patched(__sum16 check, __u32 removed, __u32 added) {
  if (check == 0) return 0;
  __u16 removed_word = gw_gue_fold(removed);
  __u32 sum = (__u16)~check + (__u32)(__u16)~removed_word + gw_gue_fold(added);
  __u16 result = ~gw_gue_fold(sum);
  return result ? result : 0xffff;
}

struct onward {
  struct gw_address_key hop;
  __u8 next;  // the packet's, from now on
};

GW_INLINE void step_on(struct gue_head* head, const struct onward* onward, __u32 source_sum,
                       __u32 hop_sum) {
  // The destination becomes the source, which leaves the sum as it is.
  __u32 before = sum_words(&head->gue.layout, 1);
  head->gue.next = onward->next;
  __u32 after = sum_words(&head->gue.layout, 1);
  head->udp.check = patched(head->udp.check, source_sum + before, hop_sum + after);
}

GW_INLINE enum gw_redirect_counter readdress_v4(void* at, void* end, const struct onward* onward) {
  struct iphdr* ip = at;
  struct gue_head* head = (void*)(ip + 1);
  if ((void*)(head + 1) > end) return GW_REDIRECT_malformed;
  if (ip->ttl <= 1) return GW_REDIRECT_hop_limit;
  step_on(head, onward, sum_words(&ip->saddr, 2), sum_words(&onward->hop.bytes[12], 2));
  ip->saddr = ip->daddr;
  __builtin_memcpy(&ip->daddr, &onward->hop.bytes[12], 4);
  --ip->ttl;
  ip->check = 0;
  ip->check = ~gw_gue_fold(sum_words(ip, sizeof(*ip) / 2));
  return GW_REDIRECT_delivered;
}

GW_INLINE enum gw_redirect_counter readdress_v6(void* at, void* end, const struct onward* onward) {
  struct ipv6hdr* ip = at;
  struct gue_head* head = (void*)(ip + 1);
  if ((void*)(head + 1) > end) return GW_REDIRECT_malformed;
  if (ip->hop_limit <= 1) return GW_REDIRECT_hop_limit;
  step_on(head, onward, sum_words(&ip->saddr, 8), sum_words(onward->hop.bytes, 8));
  ip->saddr = ip->daddr;
  __builtin_memcpy(&ip->daddr, onward->hop.bytes, 16);
  --ip->hop_limit;
  return GW_REDIRECT_delivered;
}

#endif
