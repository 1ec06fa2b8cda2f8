/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * cookie.h: what a probe carries and its reply gives back, so that the reply can be trusted without
 * any state: who it was sent to (target), which attempt it was, and proof that nobody but a
 * receiver of the probe can know this. BPF C, C11 and C++20.
 *
 * The proof is SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012) under a
 * secret of the prober, drawn anew with each start. It covers the address and port that the probe
 * went to, so a reply from elsewhere does not count.
 *
 * TCP gives back 32 bits of sequence number and the source port. The sequence number is target and
 * attempt, encrypted as one block (a Feistel cipher of four rounds, Luby and Rackoff 1988, whose
 * round function is SipHash); the source port is 32768 + 15 bits of the proof. A forged packet is
 * taken for a reply of one of N targets with odds of N * (attempts that are awaited, see score.h) /
 * 2^47. ICMP and UDP give back the payload: a gw_probe_mark, 64 bits of proof.
 */
#ifndef GUIDEWAY_BPF_COOKIE_H
#define GUIDEWAY_BPF_COOKIE_H

#include <linux/types.h>

#ifdef __cplusplus
#define GW_COOKIE_INLINE inline
#else
#define GW_COOKIE_INLINE static __attribute__((always_inline)) inline
#endif

#define GW_PROBE_TARGETS_MAX 32768u /* 15 bits */
#define GW_PROBE_ATTEMPTS 131072u   /* attempts are counted modulo 2^17 */
#define GW_PROBE_PORT_FIRST 32768u

struct gw_probe_secret {
  __u64 key[2];
};

/* Where a probe goes: the address is 16 bytes (IPv4 mapped), the port in host byte order (0: icmp).
 */
struct gw_probe_peer {
  __u64 address[2];
  __u32 port;
  __u32 protocol; /* IPPROTO_TCP, IPPROTO_UDP; IPPROTO_ICMP for ICMP of either family */
};

struct gw_probe_name {
  __u32 target;  /* below GW_PROBE_TARGETS_MAX */
  __u32 attempt; /* below GW_PROBE_ATTEMPTS */
};

/* The payload of an ICMP echo request, as it is; UDP carries it as text (GW_PROBE_TEXT_BYTES). */
struct gw_probe_mark {
  __u32 target, attempt; /* network byte order */
  __u64 proof;           /* network byte order */
};

/* Each byte of the mark as two letters, 'a' + high nibble, 'a' + low nibble: fit for a DNS label.
 */
#define GW_PROBE_TEXT_BYTES 32u
#define GW_PROBE_ECHO_OFFSET 0u /* of the text in the UDP payload: "echo" */
#define GW_PROBE_DNS_OFFSET 13u /* "dns": behind the header (12) and the label's length (1) */

GW_COOKIE_INLINE __u64 gw_probe_big_endian(__u64 value) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  return __builtin_bswap64(value);
#else
  return value;
#endif
}

/* Of what a stranger may have written; whether the name is one at all. */
GW_COOKIE_INLINE int gw_probe_is_name(const struct gw_probe_name* name) {
  return name->target < GW_PROBE_TARGETS_MAX && name->attempt < GW_PROBE_ATTEMPTS;
}

#define GW_ROTATE(x, bits) (((x) << (bits)) | ((x) >> (64 - (bits))))

struct gw_siphash {
  __u64 v0, v1, v2, v3;
};

GW_COOKIE_INLINE void gw_sip_round(struct gw_siphash* s) {
  s->v0 += s->v1;
  s->v1 = GW_ROTATE(s->v1, 13) ^ s->v0;
  s->v0 = GW_ROTATE(s->v0, 32);
  s->v2 += s->v3;
  s->v3 = GW_ROTATE(s->v3, 16) ^ s->v2;
  s->v0 += s->v3;
  s->v3 = GW_ROTATE(s->v3, 21) ^ s->v0;
  s->v2 += s->v1;
  s->v1 = GW_ROTATE(s->v1, 17) ^ s->v2;
  s->v2 = GW_ROTATE(s->v2, 32);
}

GW_COOKIE_INLINE void gw_sip_word(struct gw_siphash* s, __u64 word) {
  s->v3 ^= word;
  gw_sip_round(s);
  gw_sip_round(s);
  s->v0 ^= word;
}

GW_COOKIE_INLINE void gw_sip_begin(struct gw_siphash* s, const struct gw_probe_secret* secret) {
  s->v0 = secret->key[0] ^ 0x736f6d6570736575ull;
  s->v1 = secret->key[1] ^ 0x646f72616e646f6dull;
  s->v2 = secret->key[0] ^ 0x6c7967656e657261ull;
  s->v3 = secret->key[1] ^ 0x7465646279746573ull;
}

/* `words`: how many 64-bit words the message had. */
GW_COOKIE_INLINE __u64 gw_sip_end(struct gw_siphash* s, __u64 words) {
  gw_sip_word(s, (words * 8) << 56);
  s->v2 ^= 0xff;
  gw_sip_round(s);
  gw_sip_round(s);
  gw_sip_round(s);
  gw_sip_round(s);
  return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

GW_COOKIE_INLINE __u64 gw_probe_proof(const struct gw_probe_secret* secret,
                                      const struct gw_probe_peer* peer,
                                      const struct gw_probe_name* name) {
  struct gw_siphash s;
  gw_sip_begin(&s, secret);
  gw_sip_word(&s, ((__u64)name->target << 32) | name->attempt);
  gw_sip_word(&s, ((__u64)peer->protocol << 32) | peer->port);
  gw_sip_word(&s, peer->address[0]);
  gw_sip_word(&s, peer->address[1]);
  return gw_sip_end(&s, 4);
}

GW_COOKIE_INLINE void gw_probe_write_mark(struct gw_probe_mark* mark,
                                          const struct gw_probe_name* name, __u64 proof) {
  __u64 both = gw_probe_big_endian(((__u64)name->target << 32) | name->attempt);
  __builtin_memcpy(mark, &both, 8);
  mark->proof = gw_probe_big_endian(proof);
}

/* `bytes`: of any alignment, as many as a mark has. 0: it names nothing. */
GW_COOKIE_INLINE int gw_probe_read_mark(const void* bytes, struct gw_probe_name* name,
                                        __u64* proof) {
  __u64 words[2];
  __builtin_memcpy(words, bytes, sizeof(words));
  words[0] = gw_probe_big_endian(words[0]);
  name->target = (__u32)(words[0] >> 32);
  name->attempt = (__u32)words[0];
  *proof = gw_probe_big_endian(words[1]);
  return gw_probe_is_name(name);
}

/* `text`: GW_PROBE_TEXT_BYTES, without a zero at the end. */
GW_COOKIE_INLINE void gw_probe_write_text(__u8* text, const struct gw_probe_name* name,
                                          __u64 proof) {
  __u64 words[2] = {((__u64)name->target << 32) | name->attempt, proof};
  for (__u32 i = 0; i < GW_PROBE_TEXT_BYTES; ++i)
    text[i] = (__u8)('a' + ((words[i / 16] >> (60 - i % 16 * 4)) & 15));
}

/* 16 letters. `bad` becomes other than 0 if one of them is none of ours. */
GW_COOKIE_INLINE __u64 gw_probe_letters(const __u8* text, __u64* bad) {
  __u64 word = 0;
  for (__u32 i = 0; i < 16; ++i) {
    __u64 nibble = (__u64)text[i] - 'a';
    *bad |= nibble >> 4;
    word = (word << 4) | (nibble & 15);
  }
  return word;
}

/* 0: it is no such text, or names nothing. */
GW_COOKIE_INLINE int gw_probe_read_text(const __u8* text, struct gw_probe_name* name,
                                        __u64* proof) {
  /* No target is above 16 bits: four bytes tell most other traffic. */
  if (text[0] != 'a' || text[1] != 'a' || text[2] != 'a' || text[3] != 'a') return 0;
  __u64 bad = 0;
  __u64 both = gw_probe_letters(text, &bad);
  name->target = (__u32)(both >> 32);
  name->attempt = (__u32)both;
  *proof = gw_probe_letters(text + 16, &bad);
  return !bad && gw_probe_is_name(name);
}

/* The source port of a tcp or udp probe, host byte order. */
GW_COOKIE_INLINE __u16 gw_probe_port(__u64 proof) {
  return (__u16)(GW_PROBE_PORT_FIRST | (proof & 0x7fff));
}

GW_COOKIE_INLINE __u32 gw_probe_round(const struct gw_probe_secret* secret, __u32 round,
                                      __u32 half) {
  struct gw_siphash s;
  gw_sip_begin(&s, secret);
  gw_sip_word(&s, ((__u64)(round + 1) << 48) | half);
  return (__u32)gw_sip_end(&s, 1) & 0xffff;
}

/* The sequence number of a tcp probe, host byte order. */
GW_COOKIE_INLINE __u32 gw_probe_sequence(const struct gw_probe_secret* secret,
                                         const struct gw_probe_name* name) {
  __u32 block = (name->target << 17) | (name->attempt & (GW_PROBE_ATTEMPTS - 1));
  __u32 left = block >> 16, right = block & 0xffff;
  for (__u32 round = 0; round < 4; ++round) {
    __u32 next = left ^ gw_probe_round(secret, round, right);
    left = right;
    right = next;
  }
  return (left << 16) | right;
}

/* Its inverse: any number names something; the port proves it. */
GW_COOKIE_INLINE void gw_probe_open(const struct gw_probe_secret* secret, __u32 sequence,
                                    struct gw_probe_name* name) {
  __u32 left = sequence >> 16, right = sequence & 0xffff;
  for (__u32 round = 4; round > 0; --round) {
    __u32 before = right ^ gw_probe_round(secret, round - 1, left);
    right = left;
    left = before;
  }
  __u32 block = (left << 16) | right;
  name->target = block >> 17;
  name->attempt = block & (GW_PROBE_ATTEMPTS - 1);
}

#endif
