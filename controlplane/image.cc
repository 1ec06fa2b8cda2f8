// SPDX-License-Identifier: Apache-2.0
#include "controlplane/image.h"

#define XXH_INLINE_ALL
#include <fcntl.h>
#include <sys/mman.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "bpf/gue.h"
#include "controlplane/outer_header.h"
#include "controlplane/pool_plan.h"
#include "dataplane/headers.h"
#include "dataplane/outer_sum.h"

namespace guideway {
namespace {

// No client sends less than this on being told so: Linux stops at 552 (net.ipv4.route.min_pmtu).
constexpr size_t kInnerBytesLeast = 576;
constexpr unsigned kTableHops = 2;  // owner, stand-in; of a pool without epochs
// Behind the outer header of `gue`: the longest list.
uint32_t gue_bytes_most(const Address& backend) {
  return gw_gue_bytes(backend.is_v4() ? 4 : 6, GW_GUE_HOPS_MAX);
}

// The last step for the bytes of a root or table: all else must be in place.
void seal_header(std::vector<uint8_t>& bytes, uint64_t magic, uint32_t layout) {
  auto& header = *reinterpret_cast<gw_image_header*>(bytes.data());
  header = {.magic = magic,
            .layout = layout,
            .reserved = 0,
            .bytes = bytes.size(),
            .checksum = XXH3_64bits(bytes.data() + sizeof header, bytes.size() - sizeof header)};
}

std::vector<MaglevBackend> table_backends(const Pool& pool) {
  std::vector<MaglevBackend> backends;
  for (const Address& address : table_addresses(pool)) {
    const auto backend = pool.backends.find(address);
    backends.push_back({address, backend == pool.backends.end() ? 0 : backend->second.weight});
  }
  return backends;
}

template <typename Header>
void put(uint8_t* at, const Header& header) {
  std::memcpy(at, &header, sizeof header);
}

// The root under construction: counts first, then offsets, then each array is filled.
class RootWriter {
 public:
  RootWriter(const Intent& intent, const TableMap& tables, const ImageNode& node)
      : intent_(intent), tables_(tables), node_(node) {}

  Result<std::vector<uint8_t>> write() {
    if (auto ok = count(); !ok) return tl::unexpected(ok.error());
    lay_out();
    write_pools();
    if (auto ok = write_services(); !ok) return tl::unexpected(ok.error());
    seal_header(bytes_, GW_MAGIC_ROOT, node_.layout);
    return std::move(bytes_);
  }

 private:
  const SealedTable* table_of(const std::string& pool) const {
    const auto it = tables_.find(pool);
    return it == tables_.end() ? nullptr : it->second.table.get();
  }

  Result<void> count() {
    root_.generation = node_.generation;
    root_.revision = intent_.revision;
    root_.flow_seed = intent_.flow_seed;
    root_.ports = static_cast<uint32_t>(node_.ports.size());
    if (intent_.services.size() > GW_SERVICES_MAX)
      return fail("services", "more than " + std::to_string(GW_SERVICES_MAX));
    if (intent_.pools.size() > GW_POOLS_MAX)
      return fail("pools", "more than " + std::to_string(GW_POOLS_MAX));
    if (node_.ports.size() > GW_PORTS_MAX)
      return fail("ports", "more than " + std::to_string(GW_PORTS_MAX));
    for (size_t i = 0; i < node_.ports.size(); ++i) {
      node_.ports[i].copy(root_.port[i].interface, sizeof root_.port[i].interface - 1);
    }
    root_.services = static_cast<uint32_t>(intent_.services.size());
    root_.pools = static_cast<uint32_t>(intent_.pools.size());
    size_t backends = 0;
    for (const auto& [name, pool] : intent_.pools) {
      const SealedTable* table = table_of(name);
      if (!table) continue;
      if (table->backends() != table_addresses(pool).size())
        return fail("pools." + name, "its table is that of another revision");
      backends += table->backends();
    }
    if (backends > GW_BACKENDS_MAX)
      return fail("backends", "more than " + std::to_string(GW_BACKENDS_MAX) + " in all pools");
    root_.backends = static_cast<uint32_t>(backends);
    return {};
  }

  void lay_out() {
    uint64_t end = sizeof(gw_root);
    const auto place = [&end](uint64_t bytes) {
      const uint64_t at = (end + 63) / 64 * 64;
      end = at + bytes;
      return at;
    };
    root_.services_offset = place(root_.services * sizeof(gw_service));
    root_.pools_offset = place(root_.pools * sizeof(gw_pool));
    root_.backends_offset = place(root_.backends * sizeof(gw_backend));
    bytes_.resize(end);
    put(bytes_.data(), root_);
  }

  void write_pools() {
    auto* pools = reinterpret_cast<gw_pool*>(bytes_.data() + root_.pools_offset);
    auto* backends = reinterpret_cast<gw_backend*>(bytes_.data() + root_.backends_offset);
    uint32_t pool_index = 0;
    uint32_t next_backend = 0;
    for (const auto& [name, pool] : intent_.pools) {
      pool_indices_[name] = pool_index;
      gw_pool& out = pools[pool_index++];
      const SealedTable* table = table_of(name);
      if (!table) continue;
      out.table_digest = table->digest();
      out.backend_first = next_backend;
      out.backends = table->backends();
      if (pool.forwarding == Forwarding::gue) out.flags = GW_POOL_GUE;
      for (const MaglevBackend& one : table_backends(pool))
        write_backend(backends[next_backend++], name, pool, one);
    }
  }

  void write_backend(gw_backend& out, const std::string& name, const Pool& pool,
                     const MaglevBackend& one) {
    const Address& address = one.address;
    std::memcpy(out.address, address.bytes.data(), sizeof out.address);
    const Release release = node_.release ? node_.release(name, address) : Release{};
    out.share = release.share;
    out.flags = release.holds ? GW_HOLDS : 0;
    out.weight = static_cast<uint16_t>(is_spare(pool, address) ? one.weight : 0);
    out.counter = node_.backend_counter(name, address);
    write_way(out, pool, address);
    if (node_.layout >= 4) set_sums(out);
  }

  void write_way(gw_backend& out, const Pool& pool, const Address& address) {
    const NextHopState& state = node_.next_hop(address);
    if (!next_hop_problem(pool.forwarding, address, state).empty()) return;
    const auto port = std::find(node_.ports.begin(), node_.ports.end(), state.hop->interface);
    if (port == node_.ports.end()) return;
    out.port = static_cast<uint16_t>(port - node_.ports.begin());
    out.outer_bytes = write_outer_header(out.outer, pool.forwarding, address, *state.hop);
    uint32_t tunnel_bytes = out.outer_bytes - uint32_t{sizeof(EthernetHeader)};
    if (pool.forwarding == Forwarding::gue) tunnel_bytes += gue_bytes_most(address);
    // A frame is at most 65535 bytes; the loopback's MTU is more.
    const uint32_t mtu = std::min<uint32_t>(state.hop->mtu, UINT16_MAX - GW_OUTER_MAX);
    out.inner_bytes_max = mtu > tunnel_bytes ? mtu - tunnel_bytes : 0;
  }

  // Of a gue pool, a backend that drains has slots until that is committed, but gets no more.
  static bool is_spare(const Pool& pool, const Address& address) {
    if (pool.forwarding != Forwarding::gue) return true;
    const auto backend = pool.backends.find(address);
    return backend != pool.backends.end() && backend->second.mode == BackendMode::enabled;
  }

  Result<void> write_services() {
    auto* services = reinterpret_cast<gw_service*>(bytes_.data() + root_.services_offset);
    for (const auto& [key, service] : intent_.services) {
      const auto pool = pool_indices_.find(service.pool);
      if (pool == pool_indices_.end())
        return fail("services." + key.text() + ".pool", "no pool " + service.pool);
      gw_service& out = *services++;
      std::memcpy(out.vip, key.vip.bytes.data(), sizeof out.vip);
      out.port = be16(key.port).raw();
      out.protocol = key.protocol;
      out.pool = pool->second;
      out.counter = node_.service_counter(key);
    }
    return {};
  }

  const Intent& intent_;
  const TableMap& tables_;
  const ImageNode& node_;
  gw_root root_{};
  std::vector<uint8_t> bytes_;
  std::map<std::string, uint32_t> pool_indices_;
};

}  // namespace

Result<SealedBytes> SealedBytes::create(const char* name, std::span<const uint8_t> bytes) {
  SealedBytes out;
  out.fd_.reset(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!out.fd_) return fail("memfd", std::strerror(errno));
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = write(out.fd(), bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail("memfd", n < 0 ? std::strerror(errno) : "no room");
    done += static_cast<size_t>(n);
  }
  if (fcntl(out.fd(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
    return fail("memfd", std::strerror(errno));
  // Private: before Linux 6.7 a write-sealed memfd cannot be mapped shared, not even read-only.
  void* data = mmap(nullptr, bytes.size(), PROT_READ, MAP_PRIVATE, out.fd(), 0);
  if (data == MAP_FAILED) return fail("memfd", std::strerror(errno));
  out.data_ = static_cast<const uint8_t*>(data);
  out.size_ = bytes.size();
  return out;
}

SealedBytes::SealedBytes(SealedBytes&& other) noexcept
    : fd_(std::move(other.fd_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

SealedBytes::~SealedBytes() {
  if (data_) munmap(const_cast<uint8_t*>(data_), size_);
}

Result<std::shared_ptr<const SealedTable>> SealedTable::build(const Pool& pool) {
  HopTable made;
  if (pool.plan) {
    auto table = build_hop_table(pool.plan->history);
    if (!table)
      return fail("table", "a slot needs more than " + std::to_string(GW_HOPS_MAX) + " hops");
    made = std::move(*table);
  } else {
    made.slots = pool.table_slots;
    made.hops = kTableHops;
    made.owners = made.stand_ins = true;
    made.hop = maglev_table(table_backends(pool), pool.table_slots, kTableHops);
    for (const auto& [address, backend] : pool.backends) made.backends.push_back(address);
  }
  if (made.hop.empty()) return nullptr;
  const size_t hop_bytes = made.hop.size() * sizeof made.hop[0];
  std::vector<uint8_t> bytes(sizeof(gw_table) + hop_bytes);
  const uint32_t flags =
      (made.owners ? GW_TABLE_OWNERS : 0) | (made.stand_ins ? GW_TABLE_STAND_INS : 0);
  put(bytes.data(), gw_table{.header = {},
                             .slots = made.slots,
                             .hops = made.hops,
                             .backends = static_cast<uint32_t>(made.backends.size()),
                             .flags = flags,
                             .hops_offset = sizeof(gw_table),
                             .reserved2 = 0});
  std::memcpy(bytes.data() + sizeof(gw_table), made.hop.data(), hop_bytes);
  seal_header(bytes, GW_MAGIC_TABLE, GW_LAYOUT_TABLE);
  auto sealed = SealedBytes::create("guideway-table", bytes);
  if (!sealed) return tl::unexpected(sealed.error());
  return std::shared_ptr<const SealedTable>(new SealedTable(std::move(*sealed)));
}

SealedTable::SealedTable(SealedBytes bytes) : bytes_(std::move(bytes)), owned_(header().backends) {
  if (!has_owners()) return;
  for (uint32_t slot = 0; slot < slots(); ++slot) ++owned_[hops(slot)[0] & GW_HOP_INDEX];
}

std::span<const uint16_t> SealedTable::hops(uint32_t slot) const {
  const auto* hop = reinterpret_cast<const uint16_t*>(bytes().data() + header().hops_offset);
  return {hop + size_t{slot} * header().hops, header().hops};
}

// Whether both have the same table.
static bool is_same(const PoolTable& a, const PoolTable& b) {
  if (a.history || b.history) return a.history == b.history;
  return a.slots == b.slots && a.backends == b.backends;
}

Result<TableMap> build_tables(const Intent& intent, const TableMap& before) {
  TableMap tables;
  for (const auto& [name, pool] : intent.pools) {
    PoolTable entry{.backends = table_backends(pool),
                    .slots = pool.plan ? pool.plan->history.current.slots : pool.table_slots,
                    .history = {},
                    .table = nullptr};
    if (pool.plan) entry.history = pool.plan->history;
    const auto old = before.find(name);
    if (old != before.end() && is_same(entry, old->second)) {
      entry.table = old->second.table;
      tables.emplace(name, std::move(entry));
      continue;
    }
    auto table = SealedTable::build(pool);
    if (!table) {
      Error error = table.error();
      error.field = "pools." + name + ": " + error.field;
      return tl::unexpected(std::move(error));
    }
    entry.table = std::move(*table);
    tables.emplace(name, std::move(entry));
  }
  return tables;
}

Result<std::shared_ptr<const SealedImage>> SealedImage::build(const Intent& intent,
                                                              const TableMap& tables,
                                                              const ImageNode& node) {
  auto bytes = RootWriter(intent, tables, node).write();
  if (!bytes) return tl::unexpected(bytes.error());
  auto sealed = SealedBytes::create("guideway-root", *bytes);
  if (!sealed) return tl::unexpected(sealed.error());
  std::shared_ptr<SealedImage> image(new SealedImage(std::move(*sealed)));
  image->generation_ = node.generation;
  image->revision_ = intent.revision;
  std::set<uint64_t> digests;
  for (const auto& [name, pool] : intent.pools) {
    const auto it = tables.find(name);
    if (it == tables.end() || !it->second.table) continue;
    if (digests.insert(it->second.table->digest()).second)
      image->tables_.push_back(it->second.table);
  }
  return image;
}

std::string next_hop_problem(Forwarding forwarding, const Address& backend,
                             const NextHopState& state) {
  if (!state.hop) return state.reason;
  if (forwarding == Forwarding::l2) {
    if (state.hop->gateway)
      return backend.text() + " is behind gateway " + state.hop->gateway->text() +
             "; l2 forwarding reaches only backends on the same link";
    return {};
  }
  if (!state.hop->source)
    return "no source address for the tunnel to " + backend.text() + "; set [tunnel] source" +
           (backend.is_v4() ? "4" : "6");
  size_t outer = backend.is_v4() ? sizeof(Ipv4Header) : sizeof(Ipv6Header);
  if (forwarding == Forwarding::gue) outer += kUdpHeaderBytes + gue_bytes_most(backend);
  if (state.hop->mtu < kInnerBytesLeast + outer)
    return "MTU " + std::to_string(state.hop->mtu) + " of " + state.hop->interface +
           " leaves too little for packets in the tunnel to " + backend.text() + "; " +
           std::to_string(kInnerBytesLeast + outer) + " is the least";
  return {};
}

uint64_t digest_of(const TableMap& tables) {
  uint64_t digest = 1;
  for (const auto& [name, pool] : tables) {
    digest = XXH3_64bits_withSeed(name.data(), name.size(), digest);
    const uint64_t table = pool.table != nullptr ? pool.table->digest() : 0;
    digest = XXH3_64bits_withSeed(&table, sizeof table, digest);
  }
  return digest;
}

}  // namespace guideway
