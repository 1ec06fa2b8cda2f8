/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * layout.h: what the BPF programs and their loaders share: names, keys, values and counters. Valid
 * for BPF C, C11 and C++20. There is no second copy of any of it.
 *
 * An address is 16 bytes in network byte order; IPv4 is mapped (::ffff:a.b.c.d, RFC 4291 section
 * 2.5.5.2), so one map holds both families. Counters are per-CPU arrays of __u64, indexed by the
 * enums below; appended, never renumbered.
 */
#ifndef GUIDEWAY_BPF_LAYOUT_H
#define GUIDEWAY_BPF_LAYOUT_H

#include <linux/types.h>

#include "bpf/cookie.h"
#include "bpf/score.h"

#ifdef __cplusplus
#define GW_BPF_ASSERT(condition) static_assert(condition)
#else
#define GW_BPF_ASSERT(condition) _Static_assert(condition, #condition)
#endif

/*
 * A program is recognised as ours by its name; the kernel keeps 15 bytes of it.
 * edge's map `xsks_map` is named by DPDK's AF_XDP driver, which fills it.
 */
#define GW_EDGE_PROGRAM "guideway_edge"
#define GW_REDIRECT_PROGRAM "guideway_redir"
#define GW_ONWARD_PROGRAM "guideway_onward" /* redirect's second half, in tc */

#define GW_EDGE_QUEUES_MAX 64      /* xsks_map: the highest NIC queue that DPDK may bind, plus 1 */
#define GW_EDGE_VIPS_MAX 8192      /* vips */
#define GW_REDIRECT_LOCAL_MAX 4096 /* local */
#define GW_REDIRECT_ALLOWED_MAX 4096 /* allowed; twice what a loader sets, see redirect.h */

/* Key of `vips` (edge) and of `local` (redirect); the value is a __u8 without meaning. */
struct gw_address_key {
  __u8 bytes[16];
};
GW_BPF_ASSERT(sizeof(struct gw_address_key) == 16);

/* Key of `allowed` (redirect), an LPM trie; the value is a __u8 without meaning. */
struct gw_prefix_key {
  __u32 bits; /* 0 to 128, host byte order; an IPv4 prefix counts 96 more */
  __u8 bytes[16];
};
GW_BPF_ASSERT(sizeof(struct gw_prefix_key) == 20);
GW_BPF_ASSERT(__builtin_offsetof(struct gw_prefix_key, bytes) == 4);

/*
 * `scoreboard` (edge): an array of GW_PROBE_TARGETS_MAX gw_score, which user space maps.
 * `probe_secret` (edge): an array of one gw_probe_secret; while it is all zero nothing is taken for
 * a reply.
 */
GW_BPF_ASSERT(sizeof(struct gw_score) == 128);
GW_BPF_ASSERT(__builtin_offsetof(struct gw_score, reply) == 64);
GW_BPF_ASSERT(sizeof(struct gw_probe_secret) == 16);
GW_BPF_ASSERT(sizeof(struct gw_probe_mark) == 16);

/*
 * Value of `secret` (redirect; one entry): the Ethernet source address by which guideway_onward
 * knows a packet that guideway_redir made. Random, with the group bit set, so that it is nobody's
 * address (IEEE 802.3 section 3.2.3); the last two bytes are 0. All 0: none was set yet, and
 * nothing is sent on.
 */
struct gw_secret {
  __u8 mac[6];
  __u8 zero[2];
};
GW_BPF_ASSERT(sizeof(struct gw_secret) == 8);

/*                name        meaning */
#define GW_EDGE_COUNTERS(X)                                                    \
  X(kernel, "not for a VIP, passed to the kernel")                             \
  X(steered, "for a VIP, handed to the dataplane")                             \
  X(no_dataplane, "for a VIP, dropped: no dataplane socket on this NIC queue") \
  X(probe_reply, "the reply to a health probe, taken")

#define GW_REDIRECT_COUNTERS(X)                                                          \
  X(other, "not a tunnel packet, passed to the kernel")                                  \
  X(not_local, "a tunnel packet to an address that is not this host's, passed")          \
  X(delivered, "IP in IP, the inner packet given to the local stack")                    \
  X(refused_source, "dropped: the outer source is in no allowed prefix")                 \
  X(fragment, "dropped: a fragment of a tunnel packet")                                  \
  X(malformed, "dropped: a header of the tunnel packet contradicts itself")              \
  X(congestion, "dropped: marked as congested, but the inner packet cannot carry that")  \
  X(failed, "dropped: the kernel gave no room to move the headers, or no secret is set") \
  X(local_socket, "GUE, to the local stack: it has a socket of the flow")                \
  X(local_cookie, "GUE, to the local stack: an ACK with a SYN cookie of its own")        \
  X(local_new, "GUE, to the local stack: the SYN of a new flow")                         \
  X(local_first, "GUE, to the local stack: not TCP, and this is the first hop")          \
  X(local_last, "GUE, to the local stack: no socket, but this is the last hop")          \
  X(forwarded_1, "GUE, no socket: sent on to the first later hop")                       \
  X(forwarded_2, "GUE, no socket: sent on to the second later hop")                      \
  X(forwarded_3, "GUE, no socket: sent on to the third later hop")                       \
  X(forwarded_4, "GUE, no socket: sent on to the fourth later hop")                      \
  X(gue_version, "dropped: GUE of another version, a control message, or with flags")    \
  X(gue_layout, "dropped: GUE without a hop list, or with one of another layout")        \
  X(hop_list, "dropped: GUE with a hop list that contradicts itself")                    \
  X(next_hop, "dropped: the hop to send it on to is in no allowed prefix")               \
  X(hop_limit, "dropped: the TTL or hop limit did not last to the next hop")             \
  X(checksum, "dropped: the outer UDP checksum does not hold")

enum gw_edge_counter {
#define GW_X(name, meaning) GW_EDGE_##name,
  GW_EDGE_COUNTERS(GW_X)
#undef GW_X
      GW_EDGE_COUNTERS_END
};

enum gw_redirect_counter {
#define GW_X(name, meaning) GW_REDIRECT_##name,
  GW_REDIRECT_COUNTERS(GW_X)
#undef GW_X
      GW_REDIRECT_COUNTERS_END
};

#endif
