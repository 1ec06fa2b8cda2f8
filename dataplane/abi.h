/* SPDX-License-Identifier: Apache-2.0 */
/*
 * abi.h: all that the two daemons share: the forwarding image, the message that carries it, and
 * the counters that come back. Valid as C11 and as C++20. There is no second copy of any of it.
 *
 * A forwarding image is one ROOT and one TABLE per pool, each immutable bytes in a sealed memfd:
 *
 *   root:  gw_root | gw_service[services] | gw_pool[pools] | gw_backend[backends]
 *   table: gw_table | uint16_t hop[slots][hops]
 *
 * Integers are in host byte order (both daemons run on one machine); addresses, ports and
 * everything in `outer` are in network byte order. Offsets count bytes from the start of the
 * root or table; indices count elements. No pointers, so the bytes can be mapped, dumped, diffed
 * and fuzzed. An address is 16 bytes; IPv4 is mapped (::ffff:a.b.c.d, RFC 4291 section 2.5.5.2).
 *
 * Roots, tables and counters each have the number of the layout in which they last changed.
 * Verdicts are appended, never renumbered.
 *
 *   3  the first that is released
 *   4  root: gw_backend.outer_sum, address_sum (in 3 reserved, 0)
 *
 * What a later one promises, so that either daemon may be upgraded first and the node goes on
 * meanwhile:
 *
 * - A newer daemon also knows the layout before its own: its dataplane reads it, its control plane
 *   writes it to a dataplane that takes nothing newer.
 * - gw_message stays as it is up to and with `layout_newest`, also the meaning of `generation`.
 *   HELLO has the size that `layout_oldest` gives it.
 * - gw_counters keeps the places of all it has; a new field takes a reserved one. `heartbeat` stays
 *   first in gw_worker_counters, and the first worker's stays at `workers_offset`.
 *
 * Daemons that have no layout in common leave each other alone: the dataplane forwards by the image
 * that it has, and the control plane holds what is announced while that dataplane is there.
 */
#ifndef GUIDEWAY_DATAPLANE_ABI_H
#define GUIDEWAY_DATAPLANE_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define GW_STATIC_ASSERT static_assert
#else
#define GW_STATIC_ASSERT _Static_assert
#endif
#define GW_AT(type, field, at) \
  GW_STATIC_ASSERT(offsetof(struct type, field) == (at), #type "." #field " moved")
#define GW_SIZE(type, bytes) GW_STATIC_ASSERT(sizeof(struct type) == (bytes), #type " changed size")

/* ---------------------------------------------------------------- limits */

#define GW_LAYOUT 4u                         /* of the roots that this header describes */
#define GW_LAYOUT_OLDEST 3u                  /* the oldest roots that are read and written */
#define GW_LAYOUT_TABLE 3u                   /* of tables */
#define GW_LAYOUT_COUNTERS 3u                /* of counters */
#define GW_MAGIC_ROOT 0x544f4f5257474757ull  /* "WGGWROOT" as stored on a little-endian machine */
#define GW_MAGIC_TABLE 0x4c42415457474757ull /* "WGGWTABL" */
#define GW_MAGIC_COUNTERS 0x544e554f43474757ull
#define GW_MAGIC_MESSAGE 0x47455353u

#define GW_SERVICES_MAX 8192u
#define GW_POOLS_MAX 4096u
#define GW_BACKENDS_MAX 32768u       /* over all pools of a node */
#define GW_POOL_BACKENDS_MAX 10000u  /* in one pool; pool-local indices are 16 bits */
#define GW_TABLE_SLOTS_MAX 16777213u /* the largest prime below 2^24 */
#define GW_HOPS_MAX 4u               /* owner, two incoming or earlier owners, stand-in */
#define GW_WORKERS_MAX 64u
#define GW_PORTS_MAX 16u
#define GW_OUTER_MAX 64u /* bytes of a ready-made outer header; of gue, without the GUE header */
#define GW_VERDICTS_MAX 64u

#define GW_NO_HOP 0xffffu
#define GW_SHARE_ALL 65536u /* every slot of the backend is released to it */

/* An entry of a slot's list: a pool-local index and its roles, or GW_NO_HOP. */
#define GW_HOP_INDEX 0x3fffu
#define GW_HOP_INCOMING 0x8000u /* owner or stand-in of the epoch that comes */
#define GW_HOP_EARLIER 0x4000u  /* owner or stand-in of an epoch before */

/* ---------------------------------------------------------------- forwarding image */

struct gw_port_info {
  char interface[16]; /* the kernel's interface whose routes and neighbours lead here (for a
                         pci or vdev port: its TAP); NUL-terminated */
};
GW_SIZE(gw_port_info, 16);

struct gw_image_header {
  uint64_t magic;
  uint32_t layout;   /* GW_LAYOUT_OLDEST to GW_LAYOUT; GW_LAYOUT_TABLE */
  uint32_t reserved; /* 0 */
  uint64_t bytes;    /* of the whole root or table, this header included */
  uint64_t checksum; /* XXH3_64bits (seed 0) over all bytes after this header */
};
GW_SIZE(gw_image_header, 32);

/* A table is named by its digest, which is its header's checksum. It depends on intent alone. */
struct gw_table {
  struct gw_image_header header;
  uint32_t slots;       /* M: a prime, at most GW_TABLE_SLOTS_MAX */
  uint32_t hops;        /* entries per slot, 1 to GW_HOPS_MAX */
  uint32_t backends;    /* each index of a hop is below this */
  uint32_t flags;       /* GW_TABLE_OWNERS, GW_TABLE_STAND_INS */
  uint64_t hops_offset; /* of uint16_t hop[slots][hops]: owner | earlier owners, the most recent
                           first | incoming owner | stand-ins of the earlier epochs, of the incoming
                           one | stand-in (docs/design/hops.md). No index stands twice in a slot;
                           once GW_NO_HOP, the rest of the slot is GW_NO_HOP too. Roles are set on
                           every entry but owner and stand-in; on the stand-in only if it also is an
                           incoming or earlier hop. So a slot changes, or has changed, if any entry
                           has a role */
  uint64_t reserved2;   /* 0 */
};
GW_SIZE(gw_table, 64);
#define GW_TABLE_OWNERS                                                     \
  1u /* entry 0 of each slot is its owner; else nobody has weight: the pool \
        takes no new flow, and a slot may be empty */
#define GW_TABLE_STAND_INS 2u /* the last entry of each slot (before GW_NO_HOP) is its stand-in */
GW_AT(gw_table, hops_offset, 48);

struct gw_service {
  uint8_t vip[16];
  uint16_t port;      /* network byte order; 0: all ports */
  uint8_t protocol;   /* IPPROTO_TCP or IPPROTO_UDP */
  uint8_t reserved;   /* 0 */
  uint32_t pool;      /* index */
  uint32_t counter;   /* index of its counters, below GW_SERVICES_MAX */
  uint32_t reserved2; /* 0 */
};
GW_SIZE(gw_service, 32);
GW_AT(gw_service, counter, 24);

struct gw_pool {
  uint64_t table_digest;  /* 0: no backend, no table */
  uint32_t backend_first; /* index of its first backend; pool-local index 0 */
  uint32_t backends;      /* equals the table's `backends` */
  uint32_t flags;         /* GW_POOL_GUE */
  uint32_t reserved;      /* 0 */
  uint64_t reserved2;     /* 0 */
};
GW_SIZE(gw_pool, 32);
#define GW_POOL_GUE 1u /* packets carry the slot's list: forwarding `gue` */

/*
 * Which backend takes a flow of a slot. `share` covers a slot if
 * (slot * 0x9E3779B1u) >> 16 < share, as 32-bit arithmetic. Health, drain and slow start are
 * nothing but `share` and GW_HOLDS:
 *
 *                 share          GW_HOLDS
 *   up            GW_SHARE_ALL   yes
 *   slow start    in between     yes
 *   draining      0              yes   (l2 and ipip; gue: it has no slots, by the table)
 *   down          0              no    (gue: yes, for down_linger)
 *
 * `takes`: the share covers the slot and there is a next hop (`outer_bytes` not 0). `holds`:
 * GW_HOLDS and a next hop. Owner and stand-in alone may get new flows, or, if neither takes, the
 * slot's spare (spare.h). The slot's leader is the first of these three that takes. An entry that
 * is owner or stand-in for another epoch only never leads new flows.
 *
 * l2, ipip, and UDP over gue: the flow goes to one backend.
 * - The slot is settled if its owner takes and holds, and no entry has a role: all its flows are
 *   the owner's, but those found in the worker's flow table.
 * - The flows of other slots are learned there. One that is not found, and not a new one (TCP
 *   without SYN), goes to the first of: the most recent earlier owner, the owner, any other entry,
 *   that holds; if none does, to the leader. A new one goes to the leader.
 * - A flow that is found, in a slot of either kind, stays where it is, unless that backend neither
 *   holds nor takes the slot's new flows, has no next hop, or left the pool.
 *
 * gue, all but UDP: the packet carries a list (bpf/gue.h), and no flow is learned but those led by
 * a spare.
 * - The list: a backend found in the flow table, as above; the leader; then the entries of the slot
 *   in the table's order, first those that take, then those that hold. Each once, five at most:
 *   the first is the outer destination.
 * - A new flow needs a leader; any other packet needs a list that is not empty.
 */
#define GW_HOLDS 1u /* gw_backend.flags: it may still have connections */

struct gw_backend {
  uint8_t address[16];
  uint32_t share;   /* slots released to it for new flows, in 1/65536 */
  uint32_t counter; /* index of its counters, below GW_BACKENDS_MAX. It stays the same in all
                       images, so it is the flow table's name for the backend; the last
                       index is shared by those for which there was none, and names nobody */
  uint32_t inner_bytes_max; /* the largest IP packet that fits the way to it, outer header off */
  uint16_t port;            /* egress port index */
  uint8_t outer_bytes; /* of `outer` that replace the packet's Ethernet header; 0: next hop unknown.
                          14: Ethernet alone (l2); 34: + IPv4; 54: + IPv6 (ipip); 42: + IPv4 and
                          UDP; 62: + IPv6 and UDP (gue) */
  uint8_t flags;       /* GW_HOLDS */
  uint16_t weight;     /* for spares: 0 is none */
  /* Parts of checksums that the worker need not add up: one's complement sums, folded, in the byte
   * order of memory (RFC 1071); made by outer_sum.h. */
  uint16_t outer_sum; /* 34, 42: of the IPv4 header without TOS, length, protocol, checksum. 62: of
                         both addresses, the next header (17) and the destination port. Else 0 */
  uint16_t address_sum; /* of `address` */
  uint8_t reserved[26]; /* 0 */
  uint8_t outer[64];    /* template: Ethernet (ethertype of the outer packet; with l2 it is patched
                           to the inner family), then the outer IP header with total length,
                           TOS or traffic class, and checksum 0. The worker patches: length, TOS,
                           checksum (IPv4), next header (4 or 41, by the inner family; not with
                           gue). With gue the UDP header follows (destination port 6080, else 0:
                           the worker patches source port, length, checksum), and the worker writes
                           the GUE header behind it (bpf/gue.h). All addresses of a gue pool are of
                           one family */
};
GW_SIZE(gw_backend, 128);
GW_AT(gw_backend, outer_bytes, 30);
GW_AT(gw_backend, weight, 32);
GW_AT(gw_backend, outer_sum, 34);
GW_AT(gw_backend, address_sum, 36);
GW_AT(gw_backend, outer, 64);

/*
 * Services are sorted strictly ascending by (vip, protocol, port) as bytes, so none stands twice.
 * A service with a port wins over the one with all ports.
 */
struct gw_root {
  struct gw_image_header header;
  uint64_t generation; /* of this image on this node; only grows */
  uint64_t revision;   /* of the intent it was made from */
  uint64_t flow_seed;  /* of the flow hash, the same on all nodes */
  uint32_t services, pools, backends;
  uint32_t ports; /* how many egress ports the image assumes; each gw_backend.port is below */
  uint64_t services_offset, pools_offset, backends_offset; /* 64-byte aligned */
  uint8_t reserved[32];                                    /* 0 */
  struct gw_port_info port[16]; /* of gw_backend.port: the dataplane's must be the same */
};
GW_SIZE(gw_root, 128 + 256);
GW_AT(gw_root, services, 56);
GW_AT(gw_root, services_offset, 72);

/* ---------------------------------------------------------------- message
 *
 * `RUN/dataplane.sock` is SOCK_SEQPACKET; the dataplane listens, one control plane at a time (a
 * new connection replaces the old). Every datagram is one gw_message, with at most one
 * descriptor (SCM_RIGHTS):
 *
 * - HELLO, from the dataplane, once after accept; descriptor: the counters, read-only.
 * - TABLE, to the dataplane: digest; descriptor: the table. Sent before the root that needs it.
 * - ROOT, to the dataplane: generation; descriptor: the root.
 * - ACK, from the dataplane, for each ROOT: generation, status, and text when refused. When it is
 *   ADOPTED every worker has left the image before.
 *
 * The dataplane keeps exactly the tables of the root it runs and those sent since.
 */
enum gw_message_type { GW_HELLO = 1, GW_TABLE = 2, GW_ROOT = 3, GW_ACK = 4 };
enum gw_ack_status { GW_ADOPTED = 0, GW_REFUSED = 1 };

struct gw_message {
  uint32_t magic;                        /* GW_MAGIC_MESSAGE */
  uint32_t type;                         /* gw_message_type */
  uint64_t generation;                   /* HELLO: running, 0 none; ROOT, ACK: that of the root */
  uint64_t digest;                       /* TABLE */
  uint32_t status;                       /* ACK: gw_ack_status */
  uint32_t layout_oldest, layout_newest; /* HELLO: of roots that are accepted */
  uint32_t pid;                          /* HELLO */
  uint32_t workers;                      /* HELLO */
  uint32_t ports;                        /* HELLO */
  uint64_t revision;                     /* HELLO: running */
  struct gw_port_info port[16];          /* HELLO */
  char text[192];                        /* ACK: why refused; NUL-terminated */
};
GW_SIZE(gw_message, 56 + 256 + 192);
GW_AT(gw_message, generation, 8);
GW_AT(gw_message, layout_oldest, 28);
GW_AT(gw_message, layout_newest, 32);

/* ---------------------------------------------------------------- counters
 *
 * `RUN/counters`, sparse, of fixed size, written by the dataplane alone: each value has one writer
 * (its worker) and only grows. A restarted dataplane goes on from the values it finds, with
 * epoch + 1, so totals never run backwards. Layout, each part at its offset:
 *
 *   gw_counters | gw_worker_counters[workers_max]
 *   | gw_traffic service[workers_max][services_max] | gw_traffic backend[workers_max][backends_max]
 */
struct gw_traffic {
  uint64_t packets;
  uint64_t bytes; /* of the IP packets as received, without Ethernet and outer headers */
};

struct gw_counters {
  uint64_t magic;      /* GW_MAGIC_COUNTERS */
  uint32_t layout;     /* GW_LAYOUT_COUNTERS */
  uint32_t pid;        /* of the dataplane that writes, or wrote last */
  uint64_t bytes;      /* of the whole region */
  uint64_t epoch;      /* counts starts of the dataplane */
  uint64_t generation; /* adopted by all workers */
  uint64_t revision;
  uint32_t workers; /* running now */
  uint32_t workers_max, services_max, backends_max;
  uint64_t workers_offset, services_offset, backends_offset;
  uint64_t reserved[5];
};
GW_SIZE(gw_counters, 128);
GW_AT(gw_counters, layout, 8);
GW_AT(gw_counters, pid, 12);
GW_AT(gw_counters, epoch, 24);
GW_AT(gw_counters, workers, 48);
GW_AT(gw_counters, workers_offset, 64);

/* received == sum of verdict[] whenever no packet is in flight; what was in flight when a
 * dataplane died is counted as `lost_in_restart` by the next one. */
struct gw_worker_counters {
  uint64_t heartbeat;     /* grows every few milliseconds while the worker lives */
  uint64_t received;      /* from NIC and TAP */
  uint64_t flows;         /* entries of its flow table in use: a gauge, 0 after a restart */
  uint64_t flows_max;     /* the size of its flow table, in entries */
  uint64_t flows_refused; /* flows that were not learned: their set was full of established ones */
  uint64_t reserved[3];
  uint64_t verdict[64]; /* index: verdict.h */
};
GW_SIZE(gw_worker_counters, 64 + 512);
GW_AT(gw_worker_counters, heartbeat, 0);

#endif
