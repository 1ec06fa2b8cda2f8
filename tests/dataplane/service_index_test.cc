// SPDX-License-Identifier: Apache-2.0
#include "dataplane/service_index.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <tuple>

#include "tests/support/images.h"

namespace guideway {
namespace {

using Key = std::tuple<Address, uint8_t, uint16_t>;

// The rule in its plainest form.
uint32_t oracle(const std::map<Key, uint32_t>& services, const Address& vip, uint8_t protocol,
                uint16_t port) {
  if (auto it = services.find({vip, protocol, port}); it != services.end()) return it->second;
  if (auto it = services.find({vip, protocol, 0}); it != services.end()) return it->second;
  for (const auto& [key, index] : services) {
    if (std::get<0>(key) == vip) return ServiceIndex::kNoService;
  }
  return ServiceIndex::kNotVip;
}

Address random_vip(std::mt19937& random) {
  Address a;
  if (random() % 2) {
    const uint8_t v4[] = {203, 0, 113, static_cast<uint8_t>(random() % 64)};
    return Address::from_v4(v4);
  }
  a.bytes[0] = 0x20;
  a.bytes[15] = static_cast<uint8_t>(random() % 64);
  return a;
}

TEST(ServiceIndex, EqualsOracle) {
  std::mt19937 random(7);
  for (const size_t count : {0u, 1u, 2u, 50u, 1000u}) {
    std::map<Key, uint32_t> services;
    std::vector<gw_service> list;
    while (services.size() < count) {
      const Address vip = random_vip(random);
      const uint8_t protocol = random() % 2 ? 6 : 17;
      const auto port = static_cast<uint16_t>(random() % 20);
      if (!services.try_emplace({vip, protocol, port}, list.size()).second) continue;
      gw_service s{};
      std::memcpy(s.vip, vip.bytes.data(), 16);
      s.protocol = protocol;
      s.port = be16(port).raw();
      list.push_back(s);
    }
    const ServiceIndex index(list);
    for (int i = 0; i < 20000; ++i) {
      const Address vip = random_vip(random);
      const uint8_t protocol = random() % 2 ? 6 : 17;
      const auto port = static_cast<uint16_t>(1 + random() % 24);
      ASSERT_EQ(index.find(vip, protocol, be16(port)), oracle(services, vip, protocol, port));
    }
  }
}

TEST(ServiceIndex, VipAloneIsKnown) {
  const std::vector<gw_service> list = {test::service("203.0.113.10", 6, 443, 0)};
  const ServiceIndex index(list);
  EXPECT_EQ(index.find_vip(test::address("203.0.113.10")), ServiceIndex::kNoService);
  EXPECT_EQ(index.find_vip(test::address("203.0.113.11")), ServiceIndex::kNotVip);
}

}  // namespace
}  // namespace guideway
