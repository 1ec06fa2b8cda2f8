// SPDX-License-Identifier: Apache-2.0
#include "dataplane/validate.h"

#define XXH_INLINE_ALL
#include <netinet/in.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <string>

#include "bpf/gue.h"
#include "dataplane/address.h"
#include "dataplane/headers.h"
#include "dataplane/outer_sum.h"

namespace guideway {
namespace {

std::string number(uint64_t value) {
  return std::to_string(value);
}

template <size_t N>
bool all_zero(const uint8_t (&bytes)[N]) {
  return std::all_of(bytes, bytes + N, [](uint8_t b) { return b == 0; });
}

struct Layouts {
  uint32_t oldest, newest;
};

Result<void> validate_header(std::span<const uint8_t> bytes, uint64_t magic, Layouts layouts,
                             size_t least) {
  if (bytes.size() < least) return fail("size", "truncated: " + number(bytes.size()) + " bytes");
  const auto& header = *reinterpret_cast<const gw_image_header*>(bytes.data());
  if (header.magic != magic) return fail("magic", "not a forwarding image");
  if (header.layout < layouts.oldest || header.layout > layouts.newest)
    return fail("layout",
                "is " + number(header.layout) + ", this dataplane reads " + number(layouts.oldest) +
                    (layouts.newest > layouts.oldest ? " to " + number(layouts.newest) : ""));
  if (header.reserved != 0) return fail("reserved", "not zero");
  if (header.bytes != bytes.size())
    return fail("bytes", "says " + number(header.bytes) + ", there are " + number(bytes.size()));
  const uint64_t checksum = XXH3_64bits(bytes.data() + sizeof header, bytes.size() - sizeof header);
  if (header.checksum != checksum) return fail("checksum", "does not match the content");
  return {};
}

// An array of `count` elements within [first, bytes). `count` fits 32 bits: no overflow.
bool array_fits(uint64_t offset, uint64_t count, uint64_t element, uint64_t first, uint64_t bytes) {
  return offset >= first && offset % 8 == 0 && offset <= bytes && count * element <= bytes - offset;
}

// None reaches into another: a root of an older layout is written to (older_layout.h).
bool overlap(const gw_root& root) {
  struct Array {
    uint64_t begin, end;
  };
  const auto array = [](uint64_t offset, uint64_t bytes) { return Array{offset, offset + bytes}; };
  const Array arrays[] = {
      array(root.services_offset, root.services * sizeof(gw_service)),
      array(root.pools_offset, root.pools * sizeof(gw_pool)),
      array(root.backends_offset, root.backends * sizeof(gw_backend)),
  };
  const auto meet = [](const Array& a, const Array& b) {
    return a.begin < b.end && b.begin < a.end;
  };
  return meet(arrays[0], arrays[1]) || meet(arrays[0], arrays[2]) || meet(arrays[1], arrays[2]);
}

Result<void> validate_service(const gw_service* services, uint32_t i, const gw_root& root) {
  const gw_service& s = services[i];
  const std::string field = "services[" + number(i) + "]";
  if (s.protocol != IPPROTO_TCP && s.protocol != IPPROTO_UDP)
    return fail(field + ".protocol", "is " + number(s.protocol));
  if (s.pool >= root.pools) return fail(field + ".pool", "out of range: " + number(s.pool));
  if (s.counter >= GW_SERVICES_MAX)
    return fail(field + ".counter", "out of range: " + number(s.counter));
  if (s.reserved != 0 || s.reserved2 != 0) return fail(field + ".reserved", "not zero");
  if (i == 0) return {};
  const gw_service& before = services[i - 1];
  int order = std::memcmp(before.vip, s.vip, sizeof s.vip);
  if (order == 0) order = int{before.protocol} - int{s.protocol};
  if (order == 0) order = std::memcmp(&before.port, &s.port, sizeof s.port);
  if (order >= 0) return fail(field, "not in ascending order");
  return {};
}

Result<void> validate_pool(const gw_pool& pool, uint32_t i, const gw_root& root) {
  const std::string field = "pools[" + number(i) + "]";
  if (pool.backends > GW_POOL_BACKENDS_MAX || pool.backend_first > root.backends ||
      pool.backends > root.backends - pool.backend_first)
    return fail(field + ".backends",
                "out of range: " + number(pool.backend_first) + " + " + number(pool.backends));
  if ((pool.flags & ~GW_POOL_GUE) != 0)
    return fail(field + ".flags", "unknown: " + number(pool.flags));
  if (pool.reserved != 0 || pool.reserved2 != 0) return fail(field + ".reserved", "not zero");
  return {};
}

Result<void> validate_backend(const gw_backend& b, uint32_t i, const gw_root& root) {
  const std::string field = "backends[" + number(i) + "]";
  if (b.share > GW_SHARE_ALL) return fail(field + ".share", "out of range: " + number(b.share));
  if (b.counter >= GW_BACKENDS_MAX)
    return fail(field + ".counter", "out of range: " + number(b.counter));
  if ((b.flags & ~GW_HOLDS) != 0) return fail(field + ".flags", "unknown: " + number(b.flags));
  if (!all_zero(b.reserved)) return fail(field + ".reserved", "not zero");
  if (b.outer_bytes == 0) return {};
  static constexpr uint8_t kOuterBytes[] = {14, 34, 54, 42, 62};
  if (std::find(std::begin(kOuterBytes), std::end(kOuterBytes), b.outer_bytes) ==
      std::end(kOuterBytes))
    return fail(field + ".outer_bytes", "is " + number(b.outer_bytes));
  if (b.port >= root.ports) return fail(field + ".port", "out of range: " + number(b.port));
  // Frames have at most 65535 bytes, the outer header included.
  if (b.inner_bytes_max > UINT16_MAX - GW_OUTER_MAX)
    return fail(field + ".inner_bytes_max", "out of range: " + number(b.inner_bytes_max));
  return {};
}

bool is_v4(const gw_backend& b) {
  return Address::from_v6(b.address).is_v4();
}

// Null: the template is as the packet path needs it, which patches a few fields of it. `b` has a
// next hop.
const char* gue_template_problem(const gw_backend& b) {
  const auto& ethernet = *reinterpret_cast<const EthernetHeader*>(b.outer);
  const uint8_t* ip = b.outer + sizeof ethernet;
  UdpHeader udp;
  if (is_v4(b)) {
    const auto& outer = *reinterpret_cast<const Ipv4Header*>(ip);
    if (ethernet.type.host() != kEthernetIpv4) return "the ethertype is not that of IPv4";
    if (outer.version_ihl != 0x45) return "is not an IPv4 header without options";
    if (outer.protocol != kProtocolUdp) return "the protocol is not UDP";
    if (outer.tos != 0 || outer.total_bytes != be16{} || outer.checksum != be16{})
      return "a field that is patched is not zero";
    if (Address::from_v4(outer.destination.data()) != Address::from_v6(b.address))
      return "is to another address than the backend's";
    std::memcpy(&udp, ip + sizeof outer, sizeof udp);
  } else {
    const auto& outer = *reinterpret_cast<const Ipv6Header*>(ip);
    if (ethernet.type.host() != kEthernetIpv6) return "the ethertype is not that of IPv6";
    if (outer.version_class_flow.host() >> 28 != 6) return "is not an IPv6 header";
    if (outer.next_header != kProtocolUdp) return "the protocol is not UDP";
    if (outer.payload_bytes != be16{}) return "a field that is patched is not zero";
    if (Address::from_v6(outer.destination.data()) != Address::from_v6(b.address))
      return "is to another address than the backend's";
    std::memcpy(&udp, ip + sizeof outer, sizeof udp);
  }
  if (udp.destination.host() != GW_GUE_PORT) return "the UDP port is not that of GUE";
  if (udp.source != be16{} || udp.bytes != be16{} || udp.checksum != be16{})
    return "a field that is patched is not zero";
  return nullptr;
}

// One of a pool's backends. `v4`: the family of the pool's first one.
Result<void> validate_forwarding(const gw_backend& b, uint32_t i, bool gue, bool v4) {
  const std::string field = "backends[" + number(i) + "]";
  const bool has_udp = b.outer_bytes == 42 || b.outer_bytes == 62;
  if (!gue) {
    if (!has_udp) return {};
    return fail(field + ".outer_bytes", "is " + number(b.outer_bytes) + ", its pool is not gue");
  }
  if (is_v4(b) != v4) return fail(field + ".address", "is not of the family of its pool's others");
  if (b.outer_bytes == 0) return {};
  if (b.outer_bytes != (v4 ? 42 : 62))
    return fail(field + ".outer_bytes",
                "is " + number(b.outer_bytes) + ", its pool is gue over " + (v4 ? "IPv4" : "IPv6"));
  if (b.outer_bytes + gw_gue_bytes(v4 ? 4 : 6, GW_GUE_HOPS_MAX) + b.inner_bytes_max > UINT16_MAX)
    return fail(field + ".inner_bytes_max", "out of range: " + number(b.inner_bytes_max));
  if (const char* problem = gue_template_problem(b)) return fail(field + ".outer", problem);
  return {};
}

Result<void> validate_pool_backends(const gw_pool& pool, const gw_backend* backends) {
  const bool gue = (pool.flags & GW_POOL_GUE) != 0;
  const bool v4 = pool.backends != 0 && is_v4(backends[pool.backend_first]);
  for (uint32_t i = pool.backend_first; i < pool.backend_first + pool.backends; ++i) {
    if (auto ok = validate_forwarding(backends[i], i, gue, v4); !ok) return ok;
  }
  return {};
}

// After all else: what is wrong with the address or the template itself is said first.
Result<void> validate_sums(const gw_backend& b, uint32_t i, uint32_t layout) {
  const std::string field = "backends[" + number(i) + "]";
  if (b.outer_sum != (layout >= 4 ? outer_sum(b) : 0))
    return fail(field + ".outer_sum", "is " + number(b.outer_sum));
  if (b.address_sum != (layout >= 4 ? address_sum(b) : 0))
    return fail(field + ".address_sum", "is " + number(b.address_sum));
  return {};
}

// Null: the slot's list is as abi.h has it.
const char* slot_problem(std::span<const uint16_t> hops, const gw_table& table, size_t& at) {
  bool ended = false;
  for (at = 0; at < hops.size(); ++at) {
    if (hops[at] == GW_NO_HOP) {
      if (at == 0 && (table.flags & GW_TABLE_OWNERS)) return "there is no owner";
      ended = true;
      continue;
    }
    if (ended) return "after the end of the list";
    const auto index = static_cast<uint16_t>(hops[at] & GW_HOP_INDEX);
    if (index >= table.backends) return "the index is out of range";
    for (size_t i = 0; i < at; ++i) {
      if ((hops[i] & GW_HOP_INDEX) == index) return "the index stands twice";
    }
  }
  return nullptr;
}

}  // namespace

Result<uint64_t> validate_table(std::span<const uint8_t> bytes) {
  if (auto ok = validate_header(bytes, GW_MAGIC_TABLE, {GW_LAYOUT_TABLE, GW_LAYOUT_TABLE},
                                sizeof(gw_table));
      !ok)
    return tl::unexpected(ok.error());
  const auto& table = *reinterpret_cast<const gw_table*>(bytes.data());
  if (table.slots == 0 || table.slots > GW_TABLE_SLOTS_MAX)
    return fail("slots", "out of range: " + number(table.slots));
  if (table.hops == 0 || table.hops > GW_HOPS_MAX)
    return fail("hops", "out of range: " + number(table.hops));
  if (table.backends == 0 || table.backends > GW_POOL_BACKENDS_MAX)
    return fail("backends", "out of range: " + number(table.backends));
  if ((table.flags & ~(GW_TABLE_OWNERS | GW_TABLE_STAND_INS)) != 0)
    return fail("flags", "unknown: " + number(table.flags));
  if (table.reserved2 != 0) return fail("reserved", "not zero");
  const uint64_t entries = uint64_t{table.slots} * table.hops;
  if (!array_fits(table.hops_offset, entries, sizeof(uint16_t), sizeof table, bytes.size()))
    return fail("hops_offset", "the hops do not lie within the table");

  const auto* hop = reinterpret_cast<const uint16_t*>(bytes.data() + table.hops_offset);
  for (uint32_t slot = 0; slot < table.slots; ++slot, hop += table.hops) {
    size_t at = 0;
    if (const char* problem = slot_problem({hop, table.hops}, table, at)) {
      return fail("slot " + number(slot) + ", hop " + number(at),
                  std::string(problem) + ": " + number(hop[at]));
    }
  }
  return table.header.checksum;
}

Result<void> validate_root(std::span<const uint8_t> bytes) {
  if (auto ok =
          validate_header(bytes, GW_MAGIC_ROOT, {GW_LAYOUT_OLDEST, GW_LAYOUT}, sizeof(gw_root));
      !ok)
    return ok;
  const auto& root = *reinterpret_cast<const gw_root*>(bytes.data());
  if (root.generation == 0) return fail("generation", "is 0");
  if (root.services > GW_SERVICES_MAX)
    return fail("services", "out of range: " + number(root.services));
  if (root.pools > GW_POOLS_MAX) return fail("pools", "out of range: " + number(root.pools));
  if (root.backends > GW_BACKENDS_MAX)
    return fail("backends", "out of range: " + number(root.backends));
  if (root.ports > GW_PORTS_MAX) return fail("ports", "out of range: " + number(root.ports));
  if (!all_zero(root.reserved)) return fail("reserved", "not zero");
  for (uint32_t i = 0; i < GW_PORTS_MAX; ++i) {
    if (root.port[i].interface[sizeof root.port[i].interface - 1] != 0)
      return fail("port[" + number(i) + "]", "is not terminated");
  }
  const auto fits = [&](uint64_t offset, uint64_t count, uint64_t element) {
    return array_fits(offset, count, element, sizeof root, bytes.size());
  };
  if (!fits(root.services_offset, root.services, sizeof(gw_service)))
    return fail("services_offset", "the services do not lie within the root");
  if (!fits(root.pools_offset, root.pools, sizeof(gw_pool)))
    return fail("pools_offset", "the pools do not lie within the root");
  if (!fits(root.backends_offset, root.backends, sizeof(gw_backend)))
    return fail("backends_offset", "the backends do not lie within the root");
  if (overlap(root)) return fail("offsets", "services, pools and backends overlap");

  const auto* services = reinterpret_cast<const gw_service*>(bytes.data() + root.services_offset);
  for (uint32_t i = 0; i < root.services; ++i) {
    if (auto ok = validate_service(services, i, root); !ok) return ok;
  }
  const auto* pools = reinterpret_cast<const gw_pool*>(bytes.data() + root.pools_offset);
  for (uint32_t i = 0; i < root.pools; ++i) {
    if (auto ok = validate_pool(pools[i], i, root); !ok) return ok;
  }
  const auto* backends = reinterpret_cast<const gw_backend*>(bytes.data() + root.backends_offset);
  for (uint32_t i = 0; i < root.backends; ++i) {
    if (auto ok = validate_backend(backends[i], i, root); !ok) return ok;
  }
  for (uint32_t i = 0; i < root.pools; ++i) {
    if (auto ok = validate_pool_backends(pools[i], backends); !ok) return ok;
  }
  for (uint32_t i = 0; i < root.backends; ++i) {
    if (auto ok = validate_sums(backends[i], i, root.header.layout); !ok) return ok;
  }
  return {};
}

}  // namespace guideway
