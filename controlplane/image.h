// SPDX-License-Identifier: Apache-2.0
// The forwarding image as bytes (dataplane/abi.h): a SealedTable per pool, a pure function of
// intent, and a SealedImage (the root) that adds what is this node's: next hops, outer sources,
// counters, the generation. Both are immutable, in sealed memfds.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "controlplane/intent.h"
#include "controlplane/maglev.h"
#include "controlplane/next_hops.h"
#include "controlplane/pool_state.h"
#include "controlplane/result.h"
#include "controlplane/unique_fd.h"
#include "dataplane/abi.h"

namespace guideway {

// A memfd that nobody can change any more, and a read-only mapping of it.
class SealedBytes {
 public:
  static Result<SealedBytes> create(const char* name, std::span<const uint8_t> bytes);
  SealedBytes(SealedBytes&& other) noexcept;
  SealedBytes& operator=(SealedBytes&&) = delete;
  ~SealedBytes();

  int fd() const { return fd_.get(); }
  std::span<const uint8_t> bytes() const { return {data_, size_}; }

 private:
  SealedBytes() = default;
  UniqueFd fd_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// hop[slots][hops] of one pool (dataplane/abi.h): owner and stand-in, and for `gue` the hops of all
// its epochs.
class SealedTable {
 public:
  // Nothing in the pointer if no backend of the pool (in no epoch) has weight: such a pool has no
  // table.
  static Result<std::shared_ptr<const SealedTable>> build(const Pool& pool);

  int fd() const { return bytes_.fd(); }
  uint64_t digest() const { return header().header.checksum; }
  std::span<const uint8_t> bytes() const { return bytes_.bytes(); }
  uint32_t slots() const { return header().slots; }
  uint32_t backends() const { return header().backends; }
  // The hops of a slot below slots(): pool-local indices (the order of table_addresses()) with
  // their roles, or GW_NO_HOP.
  std::span<const uint16_t> hops(uint32_t slot) const;
  // How many slots a pool-local index below backends() owns.
  uint32_t slots_of(uint32_t backend) const { return owned_[backend]; }
  bool has_owners() const { return (header().flags & GW_TABLE_OWNERS) != 0; }
  bool has_stand_ins() const { return (header().flags & GW_TABLE_STAND_INS) != 0; }

 private:
  explicit SealedTable(SealedBytes bytes);
  const gw_table& header() const {
    return *reinterpret_cast<const gw_table*>(bytes_.bytes().data());
  }

  SealedBytes bytes_;
  std::vector<uint32_t> owned_;
};

// By pool name. `table` is null for a pool without weight.
struct PoolTable {
  std::vector<MaglevBackend> backends;  // by pool-local index, with the weight of now
  uint32_t slots = 0;
  std::optional<PoolHistory> history;  // what a gue pool's table was made from
  std::shared_ptr<const SealedTable> table;
};
using TableMap = std::map<std::string, PoolTable>;

// Of all of them: equal intents have equal ones.
uint64_t digest_of(const TableMap& tables);

// The tables of the intent's pools. Those of pools whose members, weights and slots are as in
// `before` are shared with it, not built again.
Result<TableMap> build_tables(const Intent& intent, const TableMap& before);

// The node's part of an image.
struct ImageNode {
  uint64_t generation = 0;
  std::vector<std::string> ports;  // interface names by egress port index, as HELLO says
  uint32_t layout = GW_LAYOUT;     // of the root: what the dataplane takes
  std::function<const NextHopState&(const Address&)> next_hop;
  std::function<Release(const std::string& pool, const Address&)> release;  // absent: all are up
  std::function<uint32_t(const ServiceKey&)> service_counter;
  std::function<uint32_t(const std::string& pool, const Address&)> backend_counter;
};

class SealedImage {
 public:
  // `tables` are those of `intent`. Fails if a service names no pool, a limit of abi.h is passed,
  // or memory ends. A backend without a usable next hop gets outer_bytes 0. A pool without table
  // lists no backend.
  static Result<std::shared_ptr<const SealedImage>> build(const Intent& intent,
                                                          const TableMap& tables,
                                                          const ImageNode& node);

  int fd() const { return bytes_.fd(); }
  std::span<const uint8_t> bytes() const { return bytes_.bytes(); }
  uint64_t generation() const { return generation_; }
  uint64_t revision() const { return revision_; }
  // The tables it needs, each digest once.
  const std::vector<std::shared_ptr<const SealedTable>>& tables() const { return tables_; }

 private:
  explicit SealedImage(SealedBytes bytes) : bytes_(std::move(bytes)) {}
  SealedBytes bytes_;
  uint64_t generation_ = 0;
  uint64_t revision_ = 0;
  std::vector<std::shared_ptr<const SealedTable>> tables_;
};

// Why packets of such a pool cannot go this way; empty: they can. The reason of `state` itself if
// it has no next hop; else what only the forwarding method rules out (l2: a gateway in between;
// ipip: no source address for the tunnel, or an MTU that leaves too little for the packet inside).
// What explain and status show, and build() goes by.
std::string next_hop_problem(Forwarding forwarding, const Address& backend,
                             const NextHopState& state);

}  // namespace guideway
