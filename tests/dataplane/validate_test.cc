// SPDX-License-Identifier: Apache-2.0
#include "dataplane/validate.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/images.h"

namespace guideway {
namespace {

using namespace test;

Bytes good_table() {
  return round_robin_table(7, 3);
}
Bytes good_root() {
  return root_bytes(three_backends(34, 1234));
}

std::string problem(const Result<void>& r) {
  return r ? "accepted" : r.error().text();
}
std::string problem(const Result<uint64_t>& r) {
  return r ? "accepted" : r.error().text();
}

template <typename Head>
struct Damage {
  std::string message;
  std::function<void(Bytes&)> apply;
  bool reseal = true;
};

gw_table& table(Bytes& b) {
  return head_of<gw_table>(b);
}
gw_root& root(Bytes& b) {
  return head_of<gw_root>(b);
}
template <typename T>
T* array(Bytes& b, uint64_t offset) {
  return reinterpret_cast<T*>(b.data() + offset);
}
gw_service* services(Bytes& b) {
  return array<gw_service>(b, root(b).services_offset);
}
gw_pool* pools(Bytes& b) {
  return array<gw_pool>(b, root(b).pools_offset);
}
gw_backend* backends(Bytes& b) {
  return array<gw_backend>(b, root(b).backends_offset);
}
uint16_t* hops(Bytes& b) {
  return array<uint16_t>(b, table(b).hops_offset);
}

const Damage<gw_table> kTableDamages[] = {
    {"size: truncated: 63 bytes", [](Bytes& b) { b.resize(63); }, false},
    {"magic: not a forwarding image", [](Bytes& b) { ++table(b).header.magic; }},
    {"layout: is 2, this dataplane reads 3", [](Bytes& b) { table(b).header.layout = 2; }},
    {"reserved: not zero", [](Bytes& b) { table(b).header.reserved = 1; }},
    {"bytes: says 92, there are 90", [](Bytes& b) { b.resize(90); }, false},
    {"checksum: does not match the content", [](Bytes& b) { ++hops(b)[1]; }, false},
    {"slots: out of range: 0", [](Bytes& b) { table(b).slots = 0; }},
    {"slots: out of range: 16777214", [](Bytes& b) { table(b).slots = GW_TABLE_SLOTS_MAX + 1; }},
    {"hops: out of range: 0", [](Bytes& b) { table(b).hops = 0; }},
    {"hops: out of range: 5", [](Bytes& b) { table(b).hops = 5; }},
    {"backends: out of range: 0", [](Bytes& b) { table(b).backends = 0; }},
    {"backends: out of range: 10001", [](Bytes& b) { table(b).backends = 10001; }},
    {"flags: unknown: 5", [](Bytes& b) { table(b).flags = 5; }},
    {"reserved: not zero", [](Bytes& b) { table(b).reserved2 = 1; }},
    {"hops_offset: the hops do not lie within the table",
     [](Bytes& b) { table(b).hops_offset = 72; }},
    {"hops_offset: the hops do not lie within the table",
     [](Bytes& b) { table(b).hops_offset = ~uint64_t{7}; }},
    {"hops_offset: the hops do not lie within the table", [](Bytes& b) { table(b).slots = 8; }},
    {"slot 0, hop 0: the index is out of range: 3", [](Bytes& b) { hops(b)[0] = 3; }},
    {"slot 2, hop 0: there is no owner: 65535", [](Bytes& b) { hops(b)[4] = GW_NO_HOP; }},
    {"slot 2, hop 1: after the end of the list: 0",
     [](Bytes& b) { table(b).flags = 0, hops(b)[4] = GW_NO_HOP; }},
    {"slot 6, hop 1: the index is out of range: 9", [](Bytes& b) { hops(b)[13] = 9; }},
    {"slot 6, hop 1: the index is out of range: 49161", [](Bytes& b) { hops(b)[13] = 0xc009; }},
    {"slot 6, hop 1: the index is out of range: 65534", [](Bytes& b) { hops(b)[13] = 0xfffe; }},
    {"slot 1, hop 1: the index stands twice: 1", [](Bytes& b) { hops(b)[3] = 1; }},
    {"slot 1, hop 1: the index stands twice: 32769",
     [](Bytes& b) { hops(b)[3] = 1 | GW_HOP_INCOMING; }},
};

const Damage<gw_root> kRootDamages[] = {
    {"size: truncated: 383 bytes", [](Bytes& b) { b.resize(383); }, false},
    {"magic: not a forwarding image", [](Bytes& b) { root(b).header.magic = GW_MAGIC_TABLE; }},
    {"layout: is 2, this dataplane reads 3 to 4", [](Bytes& b) { root(b).header.layout = 2; }},
    {"layout: is 5, this dataplane reads 3 to 4", [](Bytes& b) { root(b).header.layout = 5; }},
    {"checksum: does not match the content", [](Bytes& b) { ++root(b).revision; }, false},
    {"generation: is 0", [](Bytes& b) { root(b).generation = 0; }},
    {"services: out of range: 8193", [](Bytes& b) { root(b).services = 8193; }},
    {"pools: out of range: 4097", [](Bytes& b) { root(b).pools = 4097; }},
    {"backends: out of range: 32769", [](Bytes& b) { root(b).backends = 32769; }},
    {"ports: out of range: 17", [](Bytes& b) { root(b).ports = 17; }},
    {"reserved: not zero", [](Bytes& b) { root(b).reserved[31] = 1; }},
    {"services_offset: the services do not lie within the root",
     [](Bytes& b) { root(b).services_offset = 8; }},
    {"services_offset: the services do not lie within the root",
     [](Bytes& b) { root(b).services_offset += 1; }},
    {"pools_offset: the pools do not lie within the root",
     [](Bytes& b) { root(b).pools_offset = b.size(); }},
    {"backends_offset: the backends do not lie within the root",
     [](Bytes& b) { root(b).backends = 4; }},
    {"offsets: services, pools and backends overlap",
     [](Bytes& b) { root(b).pools_offset = root(b).backends_offset + 32; }},
    {"offsets: services, pools and backends overlap",
     [](Bytes& b) { root(b).services_offset = root(b).pools_offset; }},
    {"services[0].protocol: is 1", [](Bytes& b) { services(b)[0].protocol = 1; }},
    {"services[1].pool: out of range: 1", [](Bytes& b) { services(b)[1].pool = 1; }},
    {"services[1].counter: out of range: 8192", [](Bytes& b) { services(b)[1].counter = 8192; }},
    {"services[3].reserved: not zero", [](Bytes& b) { services(b)[3].reserved2 = 1; }},
    {"services[1]: not in ascending order", [](Bytes& b) { services(b)[1] = services(b)[0]; }},
    {"services[1]: not in ascending order",
     [](Bytes& b) { std::swap(services(b)[0], services(b)[1]); }},
    {"pools[0].backends: out of range: 0 + 4", [](Bytes& b) { pools(b)[0].backends = 4; }},
    {"pools[0].backends: out of range: 4294967295 + 3",
     [](Bytes& b) { pools(b)[0].backend_first = UINT32_MAX; }},
    {"pools[0].flags: unknown: 2", [](Bytes& b) { pools(b)[0].flags = 2; }},
    {"pools[0].reserved: not zero", [](Bytes& b) { pools(b)[0].reserved = 1; }},
    {"pools[0].reserved: not zero", [](Bytes& b) { pools(b)[0].reserved2 = 1; }},
    {"backends[0].outer_bytes: is 34, its pool is gue over IPv4",
     [](Bytes& b) { pools(b)[0].flags = GW_POOL_GUE; }},
    {"backends[2].outer_bytes: is 42, its pool is not gue",
     [](Bytes& b) { backends(b)[2] = backend(42, 3); }},
    {"backends[0].share: out of range: 65537", [](Bytes& b) { backends(b)[0].share = 65537; }},
    {"backends[2].counter: out of range: 32768", [](Bytes& b) { backends(b)[2].counter = 32768; }},
    {"backends[1].outer_bytes: is 35", [](Bytes& b) { backends(b)[1].outer_bytes = 35; }},
    {"backends[1].port: out of range: 1", [](Bytes& b) { backends(b)[1].port = 1; }},
    {"backends[1].inner_bytes_max: out of range: 65472",
     [](Bytes& b) { backends(b)[1].inner_bytes_max = 65472; }},
    {"port[15]: is not terminated", [](Bytes& b) { root(b).port[15].interface[15] = 'x'; }},
    {"backends[1].reserved: not zero", [](Bytes& b) { backends(b)[1].reserved[25] = 1; }},
    {"backends[2].outer_sum: is 9", [](Bytes& b) { backends(b)[2].outer_sum = 9; }},
    {"backends[2].address_sum: is 9", [](Bytes& b) { backends(b)[2].address_sum = 9; }},
    {"backends[0].outer_sum: is " + std::to_string(backend(34, 1).outer_sum),
     [](Bytes& b) { backends(b)[0].outer[14 + 8] = 63; }},
    {"backends[2].flags: unknown: 3", [](Bytes& b) { backends(b)[2].flags = 3; }},
};

// Of a root of a gue pool, by the bytes of its outer headers.
gw_backend& second(Bytes& b) {
  return backends(b)[1];
}
uint8_t* outer(Bytes& b, size_t at) {
  return second(b).outer + at;
}

const Damage<gw_root> kGue4Damages[] = {
    {"backends[1].outer_bytes: is 34, its pool is gue over IPv4",
     [](Bytes& b) { second(b).outer_bytes = 34; }},
    {"backends[1].outer_bytes: is 14, its pool is gue over IPv4",
     [](Bytes& b) { second(b).outer_bytes = 14; }},
    {"backends[1].outer_bytes: is 62, its pool is gue over IPv4",
     [](Bytes& b) { second(b).outer_bytes = 62; }},
    {"backends[1].outer_bytes: is 43", [](Bytes& b) { second(b).outer_bytes = 43; }},
    {"backends[1].address: is not of the family of its pool's others",
     [](Bytes& b) { second(b) = backend(62, 2); }},
    {"backends[1].address: is not of the family of its pool's others",
     [](Bytes& b) { second(b) = backend(62, 2), second(b).outer_bytes = 0; }},
    {"backends[0].outer_bytes: is 42, its pool is not gue",
     [](Bytes& b) { pools(b)[0].flags = 0; }},
    {"backends[1].inner_bytes_max: out of range: 65470",
     [](Bytes& b) { second(b).inner_bytes_max = 65535 - 42 - 8 - 16 + 1; }},
    {"backends[1].outer: the ethertype is not that of IPv4",
     [](Bytes& b) { *outer(b, 12) = 0x86; }},
    {"backends[1].outer: is not an IPv4 header without options",
     [](Bytes& b) { *outer(b, 14) = 0x46; }},
    {"backends[1].outer: is not an IPv4 header without options",
     [](Bytes& b) { *outer(b, 14) = 0x65; }},
    {"backends[1].outer: the protocol is not UDP", [](Bytes& b) { *outer(b, 14 + 9) = 4; }},
    {"backends[1].outer: a field that is patched is not zero",
     [](Bytes& b) { *outer(b, 14 + 1) = 1; }},
    {"backends[1].outer: a field that is patched is not zero",
     [](Bytes& b) { *outer(b, 14 + 3) = 1; }},
    {"backends[1].outer: a field that is patched is not zero",
     [](Bytes& b) { *outer(b, 14 + 10) = 1; }},
    {"backends[1].outer: is to another address than the backend's",
     [](Bytes& b) { *outer(b, 14 + 19) = 99; }},
    {"backends[1].outer: the UDP port is not that of GUE", [](Bytes& b) { *outer(b, 34 + 3) = 1; }},
    {"backends[1].outer: a field that is patched is not zero",
     [](Bytes& b) { *outer(b, 34 + 1) = 1; }},
    {"backends[1].outer: a field that is patched is not zero",
     [](Bytes& b) { *outer(b, 34 + 5) = 1; }},
    {"backends[1].outer: a field that is patched is not zero",
     [](Bytes& b) { *outer(b, 34 + 6) = 1; }},
};

const Damage<gw_root> kGue6Damages[] = {
    {"backends[1].outer_bytes: is 54, its pool is gue over IPv6",
     [](Bytes& b) { second(b).outer_bytes = 54; }},
    {"backends[1].outer_bytes: is 42, its pool is gue over IPv6",
     [](Bytes& b) { second(b).outer_bytes = 42; }},
    {"backends[1].address: is not of the family of its pool's others",
     [](Bytes& b) { second(b) = backend(42, 2); }},
    {"backends[1].inner_bytes_max: out of range: 65402",
     [](Bytes& b) { second(b).inner_bytes_max = 65535 - 62 - 8 - 64 + 1; }},
    {"backends[1].outer: the ethertype is not that of IPv6",
     [](Bytes& b) { *outer(b, 12) = 0x08; }},
    {"backends[1].outer: is not an IPv6 header", [](Bytes& b) { *outer(b, 14) = 0x40; }},
    {"backends[1].outer: the protocol is not UDP", [](Bytes& b) { *outer(b, 14 + 6) = 41; }},
    {"backends[1].outer: a field that is patched is not zero",
     [](Bytes& b) { *outer(b, 14 + 5) = 1; }},
    {"backends[1].outer: is to another address than the backend's",
     [](Bytes& b) { *outer(b, 14 + 39) = 99; }},
    {"backends[1].outer: the UDP port is not that of GUE", [](Bytes& b) { *outer(b, 54 + 2) = 1; }},
    {"backends[1].outer: a field that is patched is not zero", [](Bytes& b) { *outer(b, 54) = 1; }},
    {"backends[1].outer: a field that is patched is not zero",
     [](Bytes& b) { *outer(b, 54 + 4) = 1; }},
    {"backends[1].outer: a field that is patched is not zero",
     [](Bytes& b) { *outer(b, 54 + 7) = 1; }},
};

TEST(Validate, EachDamageOfAGuePoolIsNamed) {
  const auto check = [](uint8_t outer_bytes, auto& damages) {
    for (const auto& damage : damages) {
      Bytes bytes = root_bytes(three_backends(outer_bytes, 1234));
      ASSERT_EQ(problem(validate_root(bytes)), "accepted");
      damage.apply(bytes);
      seal(bytes);
      EXPECT_EQ(problem(validate_root(bytes)), damage.message);
    }
  };
  check(42, kGue4Damages);
  check(62, kGue6Damages);
}

TEST(Validate, TheLongestPacketOfAGuePoolPasses) {
  for (const auto& [outer_bytes, most] : {std::pair{42, 65535 - 42 - 24}, {62, 65535 - 62 - 72}}) {
    RootSpec spec = three_backends(static_cast<uint8_t>(outer_bytes), 1234);
    for (gw_backend& b : spec.backends) b.inner_bytes_max = static_cast<uint32_t>(most);
    EXPECT_EQ(problem(validate_root(root_bytes(spec))), "accepted");
  }
}

TEST(Validate, RolesAndEmptySlotsPass) {
  const uint16_t lists[][4] = {
      {2, 0 | GW_HOP_EARLIER, 1 | GW_HOP_INCOMING, GW_NO_HOP},
      {GW_NO_HOP, GW_NO_HOP, GW_NO_HOP, GW_NO_HOP},
      {1 | GW_HOP_EARLIER, 3, 2, 0 | GW_HOP_EARLIER | GW_HOP_INCOMING},
  };
  const auto fill = [&](uint32_t slot, uint32_t hop) { return lists[slot % 3][hop]; };
  EXPECT_EQ(problem(validate_table(table_bytes(7, 4, 4, fill, 0))), "accepted");
  EXPECT_EQ(problem(validate_table(table_bytes(7, 4, 4, fill))),
            "slot 1, hop 0: there is no owner: 65535");
}

TEST(Validate, GoodOnesPass) {
  EXPECT_EQ(problem(validate_table(good_table())), "accepted");
  EXPECT_EQ(*validate_table(good_table()), digest_of(good_table()));
  EXPECT_EQ(problem(validate_root(good_root())), "accepted");
  EXPECT_EQ(problem(validate_root(root_bytes({}))), "accepted");
}

TEST(Validate, EachDamageOfATableIsNamed) {
  for (const auto& damage : kTableDamages) {
    Bytes bytes = good_table();
    damage.apply(bytes);
    if (damage.reseal) seal(bytes);
    EXPECT_EQ(problem(validate_table(bytes)), damage.message);
  }
}

TEST(Validate, EachDamageOfARootIsNamed) {
  for (const auto& damage : kRootDamages) {
    Bytes bytes = good_root();
    damage.apply(bytes);
    if (damage.reseal) seal(bytes);
    EXPECT_EQ(problem(validate_root(bytes)), damage.message);
  }
}

// As the control plane before this one writes them: what is a sum now was reserved.
TEST(Validate, TheLayoutBeforePassesAndHasNoSums) {
  for (const uint8_t outer_bytes : {14, 34, 54, 42, 62}) {
    RootSpec spec = three_backends(outer_bytes, 1234);
    spec.layout = 3;
    Bytes bytes = root_bytes(spec);
    EXPECT_EQ(problem(validate_root(bytes)), "accepted");
    const auto now = in_current_layout(std::move(*Mapping::from_bytes(bytes)));
    ASSERT_TRUE(now);
    spec.layout = GW_LAYOUT;
    EXPECT_EQ(Bytes(now->data(), now->data() + now->size()), root_bytes(spec));
    backends(bytes)[1].address_sum = 7;
    seal(bytes);
    EXPECT_EQ(problem(validate_root(bytes)), "backends[1].address_sum: is 7");
  }
}

TEST(Validate, EveryTruncationIsRefused) {
  const Bytes table = good_table();
  const Bytes root = good_root();
  for (size_t n = 0; n < table.size(); ++n)
    EXPECT_FALSE(validate_table(std::span(table).first(n))) << n;
  for (size_t n = 0; n < root.size(); ++n)
    EXPECT_FALSE(validate_root(std::span(root).first(n))) << n;
}

// Whatever random damage passes must still be safe to follow: the sanitizers watch.
TEST(Validate, RandomDamageIsRefusedOrHarmless) {
  std::mt19937 random(3);
  for (int i = 0; i < 20000; ++i) {
    Bytes bytes = i % 2 ? good_root() : root_bytes(three_backends(42, 1234));
    for (int flips = 0; flips < 3; ++flips)
      bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
    seal(bytes);
    if (!validate_root(bytes)) continue;
    for (uint32_t s = 0; s < root(bytes).services; ++s) {
      const gw_pool& pool = pools(bytes)[services(bytes)[s].pool];
      for (uint32_t b = 0; b < pool.backends; ++b)
        ASSERT_LE(backends(bytes)[pool.backend_first + b].outer_bytes, 62);
    }
  }
}

}  // namespace
}  // namespace guideway
