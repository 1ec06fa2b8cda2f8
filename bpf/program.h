/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* program.h: what both BPF programs need. BPF C only. */
#ifndef GUIDEWAY_BPF_PROGRAM_H
#define GUIDEWAY_BPF_PROGRAM_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/layout.h"

#define GW_INLINE static __always_inline

// Not static: the verifier looks at such a function once, by itself, instead of once for each way
// that leads to it. It may assume nothing about its arguments; a pointer may be null.
#define GW_VERIFIED_ONCE __attribute__((noinline))

GW_INLINE void count_in(void* counters, __u32 index) {
  __u64* value = bpf_map_lookup_elem(counters, &index);
  if (value) ++*value;
}

GW_INLINE struct gw_address_key key_from_v4(__be32 address) {
  // Not an initialiser: that would become a .rodata map, which old loaders refuse.
  struct gw_address_key key;
  __builtin_memset(key.bytes, 0, 10);
  key.bytes[10] = key.bytes[11] = 0xff;
  __builtin_memcpy(&key.bytes[12], &address, 4);
  return key;
}

GW_INLINE struct gw_address_key key_from_v6(const struct in6_addr* address) {
  struct gw_address_key key;
  __builtin_memcpy(key.bytes, address, 16);
  return key;
}

// ::ffff:a.b.c.d in an IPv6 header is nobody's address (RFC 4291 section 2.5.5.2 gives it no place
// on the wire), but as a key it would pass for the IPv4 address.
GW_INLINE int is_v4_key(const struct gw_address_key* key) {
  __u16 zeros = 0;
  for (int i = 0; i < 10; ++i) zeros |= key->bytes[i];
  return !zeros && key->bytes[10] == 0xff && key->bytes[11] == 0xff;
}

#endif
