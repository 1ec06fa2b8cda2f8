// SPDX-License-Identifier: Apache-2.0
// Writes forwarding images for tests, straight from abi.h, apart from the control plane's builder.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "controlplane/unique_fd.h"
#include "dataplane/abi.h"
#include "dataplane/byteorder.h"
#include "dataplane/image.h"
#include "dataplane/older_layout.h"
#include "tests/support/packets.h"

namespace guideway::test {

template <typename T>
T& head_of(Bytes& bytes) {
  return *reinterpret_cast<T*>(bytes.data());
}

inline void seal(Bytes& bytes) {
  auto& header = head_of<gw_image_header>(bytes);
  header.bytes = bytes.size();
  header.checksum = XXH3_64bits(bytes.data() + sizeof header, bytes.size() - sizeof header);
}

inline Bytes table_bytes(uint32_t slots, uint32_t hops, uint32_t backends,
                         const std::function<uint16_t(uint32_t slot, uint32_t hop)>& fill,
                         uint32_t flags = GW_TABLE_OWNERS | GW_TABLE_STAND_INS) {
  Bytes bytes(sizeof(gw_table) + size_t{slots} * hops * 2);
  auto& table = head_of<gw_table>(bytes);
  table.header.magic = GW_MAGIC_TABLE;
  table.header.layout = GW_LAYOUT_TABLE;
  table.slots = slots;
  table.hops = hops;
  table.backends = backends;
  table.flags = flags;
  table.hops_offset = sizeof(gw_table);
  auto* hop = reinterpret_cast<uint16_t*>(bytes.data() + sizeof(gw_table));
  for (uint32_t s = 0; s < slots; ++s) {
    for (uint32_t h = 0; h < hops; ++h) hop[s * hops + h] = fill(s, h);
  }
  seal(bytes);
  return bytes;
}

inline uint64_t digest_of(const Bytes& bytes) {
  return reinterpret_cast<const gw_image_header*>(bytes.data())->checksum;
}

// Owner slot mod backends, stand-in the next one.
inline Bytes round_robin_table(uint32_t slots, uint32_t backends) {
  return table_bytes(slots, 2, backends, [=](uint32_t slot, uint32_t hop) {
    if (hop == 1 && backends == 1) return uint16_t{GW_NO_HOP};
    return static_cast<uint16_t>((slot + hop) % backends);
  });
}

struct RootSpec {
  uint64_t generation = 1;
  uint64_t revision = 1;
  uint64_t flow_seed = 42;
  uint32_t ports = 1;
  uint32_t layout = GW_LAYOUT;  // 3: without the sums
  std::vector<gw_service> services;
  std::vector<gw_pool> pools;
  std::vector<gw_backend> backends;
};

inline gw_service service(const char* vip, uint8_t protocol, uint16_t port, uint32_t pool,
                          uint32_t counter = 0) {
  gw_service s{};
  std::memcpy(s.vip, address(vip).bytes.data(), 16);
  s.protocol = protocol;
  s.port = be16(port).raw();
  s.pool = pool;
  s.counter = counter;
  return s;
}

// One's complement, in the byte order of memory; of nothing 0.
inline uint16_t ones_sum(const Bytes& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); i += 2) {
    uint16_t word;
    std::memcpy(&word, bytes.data() + i, 2);
    sum += word;
    if (sum > 0xffff) sum -= 0xffff;
  }
  return static_cast<uint16_t>(sum);
}

// What abi.h asks for, of a template whose patched fields are 0 but gue's protocol.
inline void add_sums(gw_backend& b) {
  const uint8_t* ip = b.outer + 14;
  Bytes fixed;
  if (b.outer_bytes == 34 || b.outer_bytes == 42) {
    fixed.assign(ip, ip + 20);
    fixed[1] = fixed[2] = fixed[3] = fixed[9] = fixed[10] = fixed[11] = 0;
  } else if (b.outer_bytes == 62) {
    fixed.assign(ip + 8, ip + 40);
    for (const unsigned word : {17, 6080}) {
      fixed.push_back(static_cast<uint8_t>(word >> 8));
      fixed.push_back(static_cast<uint8_t>(word));
    }
  }
  b.outer_sum = ones_sum(fixed);
  b.address_sum = ones_sum(Bytes(b.address, b.address + 16));
}

// outer_bytes: 14 (l2), 34 or 54 (ipip over IPv4 or IPv6), 42 or 62 (gue), 0: no next hop.
inline gw_backend backend(uint8_t outer_bytes, uint8_t number, uint32_t inner_bytes_max = 1480) {
  gw_backend b{};
  b.share = GW_SHARE_ALL;
  b.flags = GW_HOLDS;
  b.weight = 1;
  b.counter = number;
  b.inner_bytes_max = inner_bytes_max;
  b.outer_bytes = outer_bytes;
  const bool gue = outer_bytes == 42 || outer_bytes == 62;
  const Bytes macs = {0x02, 0, 0, 0, 1, number, 0x02, 0, 0, 0, 0, 0x11};
  std::memcpy(b.outer, macs.data(), macs.size());
  uint8_t* ip = b.outer + 14;
  uint8_t* udp = nullptr;
  if (outer_bytes == 34 || outer_bytes == 42) {
    const Bytes header = {0x45, 0, 0,  0, 0, 0,  0x40, 0, 64, 0,
                          0,    0, 10, 0, 0, 11, 10,   0, 1,  number};
    std::memcpy(ip, header.data(), header.size());
    b.outer[12] = 0x08;
    b.address[10] = b.address[11] = 0xff;
    std::memcpy(b.address + 12, ip + 16, 4);
    if (gue) ip[9] = 17;
    udp = ip + 20;
  } else if (outer_bytes == 54 || outer_bytes == 62) {
    ip[0] = 0x60;
    ip[7] = 64;
    ip[8] = ip[24] = 0xfd;
    ip[23] = 11;
    ip[39] = number;
    b.outer[12] = 0x86;
    b.outer[13] = 0xdd;
    std::memcpy(b.address, ip + 24, 16);
    if (gue) ip[6] = 17;
    udp = ip + 40;
  }
  if (gue) {
    udp[2] = 6080 >> 8;
    udp[3] = 6080 & 0xff;
  }
  add_sums(b);
  return b;
}

// As the control plane says it: see the table in abi.h.
inline void set_down(gw_backend& b) {
  b.share = 0;
  b.flags = 0;
}
inline void set_draining(gw_backend& b) {
  b.share = 0;
  b.flags = GW_HOLDS;
}
inline void set_up(gw_backend& b, uint32_t share = GW_SHARE_ALL) {
  b.share = share;
  b.flags = GW_HOLDS;
}

inline Bytes root_bytes(RootSpec spec) {
  for (gw_backend& b : spec.backends) {
    if (spec.layout >= 4) {
      add_sums(b);
    } else {
      b.outer_sum = b.address_sum = 0;
    }
  }
  const auto place = [](Bytes& bytes, const void* data, size_t size) {
    bytes.resize((bytes.size() + 63) / 64 * 64);
    const size_t at = bytes.size();
    bytes.resize(at + size);
    if (size) std::memcpy(bytes.data() + at, data, size);
    return at;
  };
  Bytes bytes(sizeof(gw_root));
  const size_t services =
      place(bytes, spec.services.data(), spec.services.size() * sizeof(gw_service));
  const size_t pools = place(bytes, spec.pools.data(), spec.pools.size() * sizeof(gw_pool));
  const size_t backends =
      place(bytes, spec.backends.data(), spec.backends.size() * sizeof(gw_backend));
  auto& root = head_of<gw_root>(bytes);
  root.header.magic = GW_MAGIC_ROOT;
  root.header.layout = spec.layout;
  root.generation = spec.generation;
  root.revision = spec.revision;
  root.flow_seed = spec.flow_seed;
  root.services = static_cast<uint32_t>(spec.services.size());
  root.pools = static_cast<uint32_t>(spec.pools.size());
  root.backends = static_cast<uint32_t>(spec.backends.size());
  root.ports = spec.ports;
  std::strcpy(root.port[0].interface, "eth1");
  root.services_offset = services;
  root.pools_offset = pools;
  root.backends_offset = backends;
  seal(bytes);
  return bytes;
}

inline UniqueFd memfd_of(const Bytes& bytes, bool sealed = true) {
  UniqueFd fd(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) return {};
  if (sealed)
    fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  return fd;
}

// Of `gue` if its backends are.
inline gw_pool pool_of(uint64_t digest, uint32_t backend_first, uint32_t backends,
                       uint8_t outer_bytes = 34) {
  gw_pool p{};
  p.table_digest = digest;
  p.backend_first = backend_first;
  p.backends = backends;
  p.flags = outer_bytes == 42 || outer_bytes == 62 ? GW_POOL_GUE : 0;
  return p;
}

// One pool of three backends behind both VIPs, TCP and UDP port 443, and all UDP ports of the first
// VIP; tables of 7 slots.
inline RootSpec three_backends(uint8_t outer_bytes, uint64_t digest) {
  RootSpec spec;
  spec.services = {service("203.0.113.10", 6, 443, 0, 1), service("203.0.113.10", 17, 0, 0, 2),
                   service("2001:db8:203::10", 6, 443, 0, 3),
                   service("2001:db8:203::10", 17, 443, 0, 4)};
  std::sort(spec.services.begin(), spec.services.end(), [](const auto& a, const auto& b) {
    return std::memcmp(a.vip, b.vip, 16) < 0 ||
           (std::memcmp(a.vip, b.vip, 16) == 0 && a.protocol < b.protocol);
  });
  spec.pools = {pool_of(digest, 0, 3, outer_bytes)};
  for (uint8_t i = 1; i <= 3; ++i) spec.backends.push_back(backend(outer_bytes, i));
  return spec;
}

inline std::unique_ptr<Image> image_of(const RootSpec& spec, const std::vector<Bytes>& tables) {
  std::vector<std::shared_ptr<const Table>> shared;
  for (const Bytes& bytes : tables) {
    shared.push_back(bytes.empty()
                         ? nullptr
                         : std::make_shared<const Table>(
                               Table{digest_of(bytes), std::move(*Mapping::from_bytes(bytes))}));
  }
  auto root = in_current_layout(std::move(*Mapping::from_bytes(root_bytes(spec))));
  return std::make_unique<Image>(std::move(*root), std::move(shared));
}

}  // namespace guideway::test
