// SPDX-License-Identifier: Apache-2.0
// The flow: a normalised 5-tuple, its hash, and the slot that the hash picks. Both daemons use this
// one definition: the worker for each packet, the control plane for `guideway explain`.
#pragma once

#define XXH_INLINE_ALL
#include <netinet/in.h>
#include <xxhash.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "dataplane/abi.h"
#include "dataplane/address.h"
#include "dataplane/byteorder.h"

namespace guideway {

// Always as the client sent it: `client` is the source, `vip` the destination. For an ICMP error
// about a reply, the embedded packet's addresses and ports change places first (see parse.h).
struct FlowKey {
  Address client;
  Address vip;
  be16 client_port;
  be16 vip_port;
  uint8_t protocol = 0;
  uint8_t zero[3] = {};

  // The rest of the key behind the addresses. `ports`: the four bytes of both, as they lie in the
  // packet; the client's come first. Written at once, since the hash reads it at once.
  void set_ports(uint32_t ports, uint8_t number) {
    const uint64_t rest = std::endian::native == std::endian::little
                              ? uint64_t{number} << 32 | ports
                              : uint64_t{ports} << 32 | uint64_t{number} << 24;
    std::memcpy(reinterpret_cast<uint8_t*>(this) + 32, &rest, sizeof rest);
  }

  bool operator==(const FlowKey&) const = default;
};
static_assert(sizeof(FlowKey) == 40, "hashed as bytes: no padding");
static_assert(offsetof(FlowKey, client_port) == 32 && offsetof(FlowKey, protocol) == 36);

// XXH3, 64 bits, over the 40 bytes of the key. `seed` is gw_root.flow_seed, the same on all nodes.
inline uint64_t flow_hash(const FlowKey& key, uint64_t seed) {
  return XXH3_64bits_withSeed(&key, sizeof key, seed);
}

// The slot, below `slots`: the upper half of the hash, scaled (no division; Lemire 2019).
inline uint32_t flow_slot(uint64_t hash, uint32_t slots) {
  return static_cast<uint32_t>(((hash >> 32) * slots) >> 32);
}

// Whether `share` (gw_backend.share) covers the slot: see abi.h.
inline bool share_covers(uint32_t share, uint32_t slot) {
  return ((slot * 0x9E3779B1u) >> 16) < share;
}

}  // namespace guideway
