// SPDX-License-Identifier: Apache-2.0
// Decodes images by offsets written down here again, not by the structs that wrote them.
#include "controlplane/image.h"

#define XXH_INLINE_ALL
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "dataplane/older_layout.h"
#include "dataplane/validate.h"

namespace guideway {
namespace {

using Bytes = std::span<const uint8_t>;

Address ip(const char* text) {
  return *Address::parse(text);
}

template <typename T>
T at(Bytes bytes, size_t offset) {
  T value;
  EXPECT_LE(offset + sizeof value, bytes.size());
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::vector<uint8_t> cut(Bytes bytes, size_t offset, size_t count) {
  EXPECT_LE(offset + count, bytes.size());
  return {bytes.begin() + static_cast<long>(offset),
          bytes.begin() + static_cast<long>(offset + count)};
}

Intent sample_intent() {
  Intent intent;
  intent.revision = 12;
  intent.flow_seed = 0x1122334455667788;
  Pool web;
  web.forwarding = Forwarding::ipip;
  web.table_slots = 251;
  web.backends[ip("10.0.0.21")] = {100};
  web.backends[ip("10.0.0.22")] = {50};
  web.backends[ip("fd00::21")] = {50};
  web.backends[ip("10.0.0.29")] = {0};
  Pool lan;
  lan.forwarding = Forwarding::l2;
  lan.table_slots = 509;
  lan.backends[ip("10.0.0.31")] = {1};
  lan.backends[ip("10.9.0.1")] = {1};  // behind a gateway
  Pool idle;
  idle.forwarding = Forwarding::l2;
  idle.table_slots = 251;
  idle.backends[ip("10.0.0.41")] = {0};
  intent.pools = {{"web", web}, {"lan", lan}, {"idle", idle}};
  intent.services[{ip("203.0.113.10"), IPPROTO_UDP, 0}] = {"lan"};
  intent.services[{ip("203.0.113.10"), IPPROTO_TCP, 443}] = {"web"};
  intent.services[{ip("203.0.113.10"), IPPROTO_TCP, 80}] = {"web"};
  intent.services[{ip("2001:db8::10"), IPPROTO_TCP, 443}] = {"web"};
  return intent;
}

NextHop hop_to(const std::string& interface, std::optional<Address> source) {
  return {.ifindex = 5,
          .interface = interface,
          .gateway = {},
          .source_mac = {2, 0, 0, 0, 0, 1},
          .mac = {2, 0, 0, 0, 0, 9},
          .mtu = 1500,
          .source = source};
}

ImageNode sample_node() {
  static std::map<Address, NextHopState> hops;
  hops = {{ip("10.0.0.21"), {hop_to("eth1", ip("10.0.0.11")), {}}},
          {ip("10.0.0.22"), {{}, "10.0.0.22 does not answer ARP on eth1"}},
          {ip("fd00::21"), {hop_to("eth2", ip("fd00::11")), {}}},
          {ip("10.0.0.29"), {hop_to("eth1", {}), {}}},
          {ip("10.0.0.31"), {hop_to("eth2", {}), {}}},
          {ip("10.9.0.1"), {hop_to("eth2", {}), {}}}};
  hops[ip("10.9.0.1")].hop->gateway = ip("10.0.0.1");
  ImageNode node;
  node.generation = 17;
  node.ports = {"eth1", "eth2"};
  node.next_hop = [](const Address& a) -> const NextHopState& { return hops[a]; };
  node.service_counter = [](const ServiceKey& key) { return 1000u + key.port; };
  node.backend_counter = [](const std::string& pool, const Address& a) {
    return (pool == "web" ? 100u : 200u) + a.bytes[15];
  };
  return node;
}

struct Built {
  Intent intent = sample_intent();
  TableMap tables = *build_tables(intent, {});
  std::shared_ptr<const SealedImage> image = *SealedImage::build(intent, tables, sample_node());
  Bytes root = image->bytes();
  Bytes backend(size_t i) const { return root.subspan(at<uint64_t>(root, 88) + i * 128, 128); }
};

TEST(Image, TheDataplaneTakesIt) {
  const Built b;
  const auto root = validate_root(b.root);
  EXPECT_TRUE(root) << root.error().text();
  ASSERT_EQ(b.image->tables().size(), 2u);
  for (const auto& table : b.image->tables()) {
    const auto digest = validate_table(table->bytes());
    ASSERT_TRUE(digest) << digest.error().text();
    EXPECT_EQ(*digest, table->digest());
  }
}

// For a dataplane that is yet to be upgraded: the same but for number, sums and checksum.
TEST(Image, TheLayoutBefore) {
  const Built b;
  ImageNode node = sample_node();
  node.layout = GW_LAYOUT_OLDEST;
  const auto image = *SealedImage::build(b.intent, b.tables, node);
  const Bytes before = image->bytes();
  EXPECT_EQ(at<uint32_t>(before, 8), 3u);
  EXPECT_TRUE(validate_root(before));
  auto now = in_current_layout(std::move(*Mapping::from_bytes(before)));
  ASSERT_TRUE(now);
  EXPECT_TRUE(std::ranges::equal(now->bytes(), b.root));
}

TEST(Image, RootHeader) {
  const Built b;
  EXPECT_EQ(std::memcmp(b.root.data(), "WGGWROOT", 8), 0);
  EXPECT_EQ(at<uint32_t>(b.root, 8), 4u);
  EXPECT_EQ(at<uint32_t>(b.root, 12), 0u);
  EXPECT_EQ(at<uint64_t>(b.root, 16), b.root.size());
  EXPECT_EQ(at<uint64_t>(b.root, 24), XXH3_64bits(b.root.data() + 32, b.root.size() - 32));
  EXPECT_EQ(at<uint64_t>(b.root, 32), 17u);
  EXPECT_EQ(at<uint64_t>(b.root, 40), 12u);
  EXPECT_EQ(at<uint64_t>(b.root, 48), 0x1122334455667788u);
  EXPECT_EQ(at<uint32_t>(b.root, 56), 4u);  // services
  EXPECT_EQ(at<uint32_t>(b.root, 60), 3u);  // pools
  EXPECT_EQ(at<uint32_t>(b.root, 64), 6u);  // backends; not the one of the pool without weight
  EXPECT_EQ(at<uint32_t>(b.root, 68), 2u);  // ports
  EXPECT_STREQ(reinterpret_cast<const char*>(b.root.data() + 128), "eth1");
  EXPECT_STREQ(reinterpret_cast<const char*>(b.root.data() + 144), "eth2");
  EXPECT_STREQ(reinterpret_cast<const char*>(b.root.data() + 160), "");
  for (const size_t offset : {72, 80, 88}) EXPECT_EQ(at<uint64_t>(b.root, offset) % 64, 0u);
  EXPECT_EQ(b.image->generation(), 17u);
  EXPECT_EQ(b.image->revision(), 12u);
}

TEST(Image, ServicesAreSortedAndPointToTheirPools) {
  const Built b;
  const auto service = [&](size_t i) {
    return b.root.subspan(at<uint64_t>(b.root, 72) + i * 32, 32);
  };
  // IPv4 is mapped and so sorts before 2001:db8::; TCP (6) before UDP (17); 80 before 443.
  const std::vector<uint16_t> ports = {80, 443, 0, 443};
  const std::vector<uint8_t> protocols = {6, 6, 17, 6};
  const std::vector<uint32_t> pools = {2, 2, 1, 2};  // idle, lan, web
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(service(i)[16] << 8 | service(i)[17], ports[i]);
    EXPECT_EQ(service(i)[18], protocols[i]);
    EXPECT_EQ(at<uint32_t>(service(i), 20), pools[i]);
    EXPECT_EQ(at<uint32_t>(service(i), 24), 1000u + ports[i]);
  }
  EXPECT_EQ(cut(service(0), 0, 16),
            (std::vector<uint8_t>{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 10}));
  EXPECT_EQ(cut(service(3), 0, 4), (std::vector<uint8_t>{0x20, 0x01, 0x0d, 0xb8}));
}

TEST(Image, PoolsNameTheirTables) {
  const Built b;
  const auto pool = [&](size_t i) { return b.root.subspan(at<uint64_t>(b.root, 80) + i * 32, 32); };
  EXPECT_EQ(at<uint64_t>(pool(0), 0), 0u);  // no weight: no table, no backends
  EXPECT_EQ(at<uint32_t>(pool(0), 12), 0u);
  EXPECT_EQ(at<uint64_t>(pool(1), 0), b.tables.at("lan").table->digest());
  EXPECT_EQ(at<uint32_t>(pool(1), 8), 0u);
  EXPECT_EQ(at<uint32_t>(pool(1), 12), 2u);
  EXPECT_EQ(at<uint64_t>(pool(2), 0), b.tables.at("web").table->digest());
  EXPECT_EQ(at<uint32_t>(pool(2), 8), 2u);
  EXPECT_EQ(at<uint32_t>(pool(2), 12), 4u);
}

TEST(Image, BackendsAndTheirOuterHeaders) {
  const Built b;
  // lan: 10.0.0.31, 10.9.0.1; web in order of address: 10.0.0.21, .22, .29, fd00::21.
  const std::vector<uint8_t> ethernet = {2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1};
  const auto outer = [&](size_t i, size_t offset, size_t n) {
    return cut(b.backend(i), 64 + offset, n);
  };
  const auto outer_bytes = [&](size_t i) { return b.backend(i)[30]; };

  EXPECT_EQ(outer_bytes(0), 14);
  EXPECT_EQ(at<uint16_t>(b.backend(0), 28), 1u);  // port: eth2
  EXPECT_EQ(at<uint32_t>(b.backend(0), 24), 1500u);
  EXPECT_EQ(at<uint32_t>(b.backend(0), 16), 65536u);
  EXPECT_EQ(at<uint32_t>(b.backend(0), 20), 231u);
  EXPECT_EQ(outer(0, 0, 12), ethernet);
  EXPECT_EQ(outer(0, 12, 2), (std::vector<uint8_t>{0, 0}));

  EXPECT_EQ(outer_bytes(1), 0) << "l2 does not reach behind a gateway";

  EXPECT_EQ(outer_bytes(2), 34);
  EXPECT_EQ(at<uint16_t>(b.backend(2), 28), 0u);
  EXPECT_EQ(at<uint32_t>(b.backend(2), 24), 1480u);
  EXPECT_EQ(at<uint32_t>(b.backend(2), 20), 121u);
  EXPECT_EQ(outer(2, 0, 12), ethernet);
  EXPECT_EQ(outer(2, 12, 22),
            (std::vector<uint8_t>{0x08, 0x00, 0x45, 0,  0, 0, 0,  0,  0x40, 0, 64,
                                  0,    0,    0,    10, 0, 0, 11, 10, 0,    0, 21}));

  EXPECT_EQ(outer_bytes(3), 0) << "no next hop";
  EXPECT_EQ(at<uint32_t>(b.backend(3), 16), 65536u) << "its share is not the next hop's matter";
  EXPECT_EQ(outer_bytes(4), 0) << "no source address";

  EXPECT_EQ(outer_bytes(5), 54);
  EXPECT_EQ(at<uint16_t>(b.backend(5), 28), 1u);
  EXPECT_EQ(at<uint32_t>(b.backend(5), 24), 1460u);
  EXPECT_EQ(outer(5, 12, 10), (std::vector<uint8_t>{0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 0, 64}));
  const auto source = ip("fd00::11").bytes;
  const auto destination = ip("fd00::21").bytes;
  EXPECT_EQ(outer(5, 22, 16), std::vector<uint8_t>(source.begin(), source.end()));
  EXPECT_EQ(outer(5, 38, 16), std::vector<uint8_t>(destination.begin(), destination.end()));
  EXPECT_EQ(outer(5, 54, 10), std::vector<uint8_t>(10));
}

TEST(Image, TableBytes) {
  const Built b;
  const SealedTable& table = *b.tables.at("web").table;
  const Bytes bytes = table.bytes();
  EXPECT_EQ(std::memcmp(bytes.data(), "WGGWTABL", 8), 0);
  EXPECT_EQ(at<uint64_t>(bytes, 16), bytes.size());
  EXPECT_EQ(bytes.size(), 64u + 251 * 2 * 2);
  EXPECT_EQ(at<uint64_t>(bytes, 24), XXH3_64bits(bytes.data() + 32, bytes.size() - 32));
  EXPECT_EQ(at<uint32_t>(bytes, 32), 251u);
  EXPECT_EQ(at<uint32_t>(bytes, 36), 2u);
  EXPECT_EQ(at<uint32_t>(bytes, 40), 4u);
  EXPECT_EQ(at<uint64_t>(bytes, 48), 64u);
  std::vector<uint32_t> owned(4);
  for (uint32_t slot = 0; slot < 251; ++slot) {
    const auto owner = at<uint16_t>(bytes, 64 + slot * 4);
    ASSERT_LT(owner, 4);
    ++owned[owner];
    EXPECT_EQ(table.hops(slot)[0], owner);
    EXPECT_EQ(table.hops(slot)[1], at<uint16_t>(bytes, 66 + slot * 4));
  }
  for (uint32_t i = 0; i < 4; ++i) EXPECT_EQ(table.slots_of(i), owned[i]);
  EXPECT_EQ(owned[2], 0u);  // 10.0.0.29 has no weight
}

TEST(Image, MemfdsAreSealed) {
  const Built b;
  for (const int fd : {b.image->fd(), b.tables.at("web").table->fd()}) {
    const int seals = fcntl(fd, F_GET_SEALS);
    EXPECT_EQ(seals & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL),
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
    EXPECT_LT(write(fd, "x", 1), 0);
    EXPECT_NE(ftruncate(fd, 0), 0);
  }
}

TEST(Image, UnchangedPoolsShareTheirTables) {
  Intent intent = sample_intent();
  const TableMap first = *build_tables(intent, {});
  intent.pools["web"].backends[ip("10.0.0.22")].weight = 51;
  intent.pools["lan"].forwarding = Forwarding::ipip;  // not of the table
  const TableMap second = *build_tables(intent, first);
  EXPECT_NE(first.at("web").table, second.at("web").table);
  EXPECT_NE(first.at("web").table->digest(), second.at("web").table->digest());
  EXPECT_EQ(first.at("lan").table, second.at("lan").table);
  EXPECT_EQ(first.at("idle").table, nullptr);
}

TEST(Image, PoolsAlikeNeedOneTable) {
  Intent intent = sample_intent();
  intent.pools["web2"] = intent.pools["web"];
  const TableMap tables = *build_tables(intent, {});
  const auto image = *SealedImage::build(intent, tables, sample_node());
  EXPECT_EQ(image->tables().size(), 2u);
}

TEST(Image, EmptyIntent) {
  const Intent intent;
  const auto image = *SealedImage::build(intent, {}, sample_node());
  EXPECT_TRUE(validate_root(image->bytes()));
  EXPECT_EQ(image->bytes().size(), 384u);
}

TEST(Image, BackendOutsideThePortsHasNoNextHop) {
  ImageNode node = sample_node();
  node.ports = {"eth7"};
  const Intent intent = sample_intent();
  const auto image = *SealedImage::build(intent, *build_tables(intent, {}), node);
  for (size_t i = 0; i < 6; ++i)
    EXPECT_EQ(image->bytes()[at<uint64_t>(image->bytes(), 88) + i * 128 + 30], 0);
}

TEST(Image, ReasonsOfTheForwardingMethod) {
  NextHopState state{hop_to("eth1", {}), {}};
  const Address backend = ip("10.0.0.21");
  EXPECT_EQ(next_hop_problem(Forwarding::l2, backend, state), "");
  EXPECT_EQ(next_hop_problem(Forwarding::ipip, backend, state),
            "no source address for the tunnel to 10.0.0.21; set [tunnel] source4");
  state.hop->source = ip("10.0.0.11");
  EXPECT_EQ(next_hop_problem(Forwarding::ipip, backend, state), "");
  state.hop->gateway = ip("10.0.0.1");
  EXPECT_EQ(next_hop_problem(Forwarding::l2, backend, state),
            "10.0.0.21 is behind gateway 10.0.0.1; l2 forwarding reaches only backends on the same "
            "link");
  EXPECT_EQ(next_hop_problem(Forwarding::ipip, backend, state), "");
  state = {{}, "no route to 10.0.0.21"};
  EXPECT_EQ(next_hop_problem(Forwarding::l2, backend, state), "no route to 10.0.0.21");
}

TEST(Image, AServiceWithoutPoolIsAnError) {
  Intent intent = sample_intent();
  const TableMap tables = *build_tables(intent, {});
  intent.services.begin()->second.pool = "none";
  const auto image = SealedImage::build(intent, tables, sample_node());
  ASSERT_FALSE(image);
  EXPECT_NE(image.error().text().find("no pool none"), std::string::npos);
}

TEST(Image, TablesOfAnotherRevisionAreAnError) {
  Intent intent = sample_intent();
  const TableMap tables = *build_tables(intent, {});
  intent.pools["web"].backends.erase(ip("10.0.0.21"));
  EXPECT_FALSE(SealedImage::build(intent, tables, sample_node()));
}

}  // namespace
}  // namespace guideway
