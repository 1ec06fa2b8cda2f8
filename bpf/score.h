/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * score.h: the scoreboard, `edge`'s map `scoreboard`: what came back of the probes. An array that
 * user space maps and reads without a system call; indexed by target. BPF C, C11 and C++20.
 *
 * User space says in `awaited` which attempts of a target count: the newest, and how many before
 * it. `edge` takes a reply to no other. So a packet that happens to hold a right port (one SYN-ACK
 * of 32768 does, the kernel's own among them) still has to name a probe that is really under way.
 *
 * A reply is one word, written by one compare-and-exchange: there is no half of one to be read. It
 * stands at attempt modulo GW_SCORE_REPLIES; a newer attempt takes the place of an older, never the
 * other way, and of the replies to one attempt the first stays. User space clears the place
 * before it sends an attempt, so what it finds there of that attempt came after.
 */
#ifndef GUIDEWAY_BPF_SCORE_H
#define GUIDEWAY_BPF_SCORE_H

#include <linux/types.h>

#include "bpf/cookie.h"

#define GW_SCORE_REPLIES 8
#define GW_SCORE_AWAITED_MAX (GW_PROBE_ATTEMPTS / 2)

enum gw_reply_kind {
  GW_REPLY_none = 0,
  GW_REPLY_alive = 1,   /* SYN-ACK, echo reply, UDP reply */
  GW_REPLY_refused = 2, /* RST, port unreachable (RFC 1122 section 4.1.3.3, RFC 4443 section 3.1) */
};

struct gw_score {
  __u64 awaited; /* gw_awaited(); 0: nothing. Written by user space */
  __u64 spare[7];
  __u64 reply[GW_SCORE_REPLIES]; /* gw_reply_word(); 0: nothing. Written by `edge` */
};

/* `count`: how many attempts count, `attempt` the newest of them; 1 to GW_SCORE_AWAITED_MAX. */
GW_COOKIE_INLINE __u64 gw_awaited(__u32 attempt, __u32 count) {
  return ((__u64)(attempt & (GW_PROBE_ATTEMPTS - 1)) << 32) | count;
}

/* How many attempts before the newest; modulo GW_PROBE_ATTEMPTS. */
GW_COOKIE_INLINE __u32 gw_attempt_age(__u64 awaited, __u32 attempt) {
  return ((__u32)(awaited >> 32) - attempt) & (GW_PROBE_ATTEMPTS - 1);
}

GW_COOKIE_INLINE int gw_is_awaited(__u64 awaited, __u32 attempt) {
  return gw_attempt_age(awaited, attempt) < (__u32)awaited;
}

/* From the top: attempt (17 bits), kind (2), time of CLOCK_MONOTONIC in units of 64 ns (45). */
#define GW_REPLY_ATTEMPT_SHIFT 47
#define GW_REPLY_KIND_SHIFT 45
#define GW_REPLY_UNIT_SHIFT 6
#define GW_REPLY_TIME_MASK ((1ull << GW_REPLY_KIND_SHIFT) - 1)

/* `kind` is not none, so no word is 0. */
GW_COOKIE_INLINE __u64 gw_reply_word(__u32 attempt, __u32 kind, __u64 received_ns) {
  return ((__u64)attempt << GW_REPLY_ATTEMPT_SHIFT) | ((__u64)kind << GW_REPLY_KIND_SHIFT) |
         ((received_ns >> GW_REPLY_UNIT_SHIFT) & GW_REPLY_TIME_MASK);
}

GW_COOKIE_INLINE __u32 gw_reply_attempt(__u64 word) {
  return (__u32)(word >> GW_REPLY_ATTEMPT_SHIFT);
}

GW_COOKIE_INLINE __u32 gw_reply_kind_of(__u64 word) {
  return (__u32)(word >> GW_REPLY_KIND_SHIFT) & 3;
}

/* Rounded down to 64 ns. `now_ns`: within 13 days of it. */
GW_COOKIE_INLINE __u64 gw_reply_received_ns(__u64 word, __u64 now_ns) {
  __u64 now = now_ns >> GW_REPLY_UNIT_SHIFT;
  __u64 ago = (now - word) & GW_REPLY_TIME_MASK;
  /* bpf_ktime_get_ns() may be a little ahead of what another CPU reads. */
  if (ago > GW_REPLY_TIME_MASK / 2) ago -= GW_REPLY_TIME_MASK + 1;
  return (now - ago) << GW_REPLY_UNIT_SHIFT;
}

#endif
