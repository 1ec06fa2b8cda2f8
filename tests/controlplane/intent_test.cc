// SPDX-License-Identifier: Apache-2.0
#include "controlplane/intent.h"

#include <gtest/gtest.h>

#include "controlplane/intent_change.h"
#include "controlplane/intent_rules.h"

namespace guideway {
namespace {

Address address(const char* text) {
  return Address::parse(text).value();
}

Intent sample() {
  Intent intent;
  intent.revision = 7;
  intent.flow_seed = 42;
  Pool& web = intent.pools["web"];
  web.forwarding = Forwarding::l2;
  web.backends[address("10.0.0.21")] = {};
  web.backends[address("10.0.0.22")] = {50};
  intent.pools["dns"].forwarding = Forwarding::ipip;
  intent.services[ServiceKey::parse("203.0.113.10:443/tcp").value()] = {"web"};
  return intent;
}

TEST(ServiceKey, TextAndParseAreInverse) {
  for (const char* text :
       {"203.0.113.10:443/tcp", "203.0.113.10:65535/udp", "203.0.113.10/udp", "203.0.113.10/tcp",
        "[2001:db8::10]:443/tcp", "[2001:db8::10]/udp", "[2001:db8::10]:1/udp"}) {
    auto key = ServiceKey::parse(text);
    ASSERT_TRUE(key) << key.error().text();
    EXPECT_EQ(key->text(), text);
  }
}

TEST(ServiceKey, OrderIsThatOfTheImage) {
  auto key = [](const char* text) { return ServiceKey::parse(text).value(); };
  EXPECT_LT(key("203.0.113.10:80/tcp"), key("203.0.113.11/tcp"));
  EXPECT_LT(key("203.0.113.10:65535/tcp"), key("203.0.113.10/udp"));
  EXPECT_LT(key("203.0.113.10/tcp"), key("203.0.113.10:1/tcp"));
  EXPECT_LT(key("203.0.113.10:255/tcp"), key("203.0.113.10:256/tcp"));
}

struct BadKey {
  const char* text;
  const char* message;
};

TEST(ServiceKey, BadTextsSayWhatIsWrong) {
  const BadKey table[] = {
      {"", "a service ends in /tcp or /udp"},
      {"203.0.113.10:443", "a service ends in /tcp or /udp"},
      {"203.0.113.10:443/sctp", "a service ends in /tcp or /udp"},
      {"203.0.113.10:443/TCP", "a service ends in /tcp or /udp"},
      {"203.0.113.10:0/tcp", "the port must be 1 to 65535, got '0'"},
      {"203.0.113.10:65536/tcp", "the port must be 1 to 65535, got '65536'"},
      {"203.0.113.10:0443/tcp", "the port must be 1 to 65535, got '0443'"},
      {"203.0.113.10:/tcp", "the port must be 1 to 65535, got ''"},
      {"203.0.113.10:4 3/tcp", "the port must be 1 to 65535, got '4 3'"},
      {"203.0.113:443/tcp", "'203.0.113' is no IPv4 address"},
      {"2001:db8::10:443/tcp", "an IPv6 address goes in brackets"},
      {"2001:db8::10/tcp", "an IPv6 address goes in brackets"},
      {"[2001:db8::10/tcp", "']' is missing"},
      {"[2001:db8::10]443/tcp", "after ']' comes ':' and a port, or '/'"},
      {"[203.0.113.10]:443/tcp", "'203.0.113.10' is no IPv6 address"},
      {"[::ffff:203.0.113.10]:443/tcp", "'::ffff:203.0.113.10' is no IPv6 address"},
      {"/tcp", "'' is no IPv4 address"},
  };
  for (const BadKey& bad : table) {
    auto key = ServiceKey::parse(bad.text);
    ASSERT_FALSE(key) << bad.text;
    EXPECT_EQ(key.error().message, bad.message) << bad.text;
    EXPECT_EQ(key.error().field, bad.text);
  }
}

TEST(IntentRules, PrimesAgainstTrialDivision) {
  for (uint32_t n = 0; n < 5000; ++n) {
    bool naive = n > 1;
    for (uint32_t d = 2; d < n; ++d) naive = naive && n % d != 0;
    ASSERT_EQ(is_prime(n), naive) << n;
  }
  EXPECT_TRUE(is_prime(65537));
  EXPECT_TRUE(is_prime(16777213));
  EXPECT_FALSE(is_prime(16777215));
}

TEST(IntentRules, PoolNames) {
  EXPECT_TRUE(is_pool_name("w"));
  EXPECT_TRUE(is_pool_name("web-1.eu_west"));
  EXPECT_TRUE(is_pool_name(std::string(63, 'a')));
  for (const std::string& bad : {std::string(), std::string(64, 'a'), std::string("-web"),
                                 std::string("we b"), std::string("w/b"), std::string("wéb")}) {
    EXPECT_FALSE(is_pool_name(bad)) << bad;
  }
}

TEST(IntentRules, AddressesThatMeanNothingElsewhere) {
  for (const char* bad : {"0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255",
                          "240.0.0.1", "::", "::1", "ff02::1", "fe80::1"}) {
    EXPECT_NE(address_problem(address(bad)), "") << bad;
  }
  for (const char* good : {"10.0.0.1", "203.0.113.10", "223.255.255.255", "2001:db8::1", "fd00::1",
                           "fec0::1", "::2"}) {
    EXPECT_EQ(address_problem(address(good)), "") << good;
  }
}

struct BadIntent {
  const char* name;
  void (*spoil)(Intent&);
  const char* error;
};

class BadIntents : public testing::TestWithParam<BadIntent> {};

TEST_P(BadIntents, AreRefused) {
  Intent intent = sample();
  ASSERT_TRUE(check_intent(intent));
  GetParam().spoil(intent);
  auto checked = check_intent(intent);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().text(), GetParam().error);
}

const BadIntent kBadIntents[] = {
    {"name", [](Intent& i) { i.pools["-web"] = {}; },
     "pools.-web: a pool name is 1 to 63 of A-Z a-z 0-9 _ . -, a letter or digit first"},
    {"slots_few", [](Intent& i) { i.pools["web"].table_slots = 250; },
     "pools.web.table_slots: must be 251 to 16777213, got 250"},
    {"slots_many", [](Intent& i) { i.pools["web"].table_slots = 16777214; },
     "pools.web.table_slots: must be 251 to 16777213, got 16777214"},
    {"slots_not_prime", [](Intent& i) { i.pools["web"].table_slots = 65536; },
     "pools.web.table_slots: must be a prime, got 65536 (65537 suits up to some hundred "
     "backends)"},
    {"weight", [](Intent& i) { i.pools["web"].backends.begin()->second.weight = 65536; },
     "pools.web.backends.10.0.0.21.weight: must be 0 to 65535, got 65536"},
    {"loopback", [](Intent& i) { i.pools["dns"].backends[address("127.0.0.1")] = {}; },
     "pools.dns.backends.127.0.0.1: must be a unicast address that other hosts can reach, but "
     "127.0.0.1 is a loopback address"},
    {"mixed_l2", [](Intent& i) { i.pools["web"].backends[address("fd00::21")] = {}; },
     "pools.web.backends: l2 forwards one address family, but 10.0.0.21 is IPv4 and fd00::21 is "
     "IPv6 (use two pools, or forwarding ipip)"},
    {"other_family",
     [](Intent& i) { i.services[ServiceKey::parse("[2001:db8::10]:443/tcp").value()] = {"web"}; },
     "services.[2001:db8::10]:443/tcp.pool: the VIP is IPv6, but pool 'web' forwards by l2 to "
     "IPv4 backends (10.0.0.21) (use a pool of that family, or forwarding ipip)"},
    {"unknown_pool",
     [](Intent& i) { i.services[ServiceKey::parse("203.0.113.11:443/tcp").value()] = {"wb"}; },
     "services.203.0.113.11:443/tcp.pool: there is no pool 'wb'"},
    {"vip_is_backend",
     [](Intent& i) { i.services[ServiceKey::parse("10.0.0.21:443/tcp").value()] = {"web"}; },
     "services.10.0.0.21:443/tcp: 10.0.0.21 is also the address of a backend (a backend is "
     "reached by an address of its own)"},
    {"multicast_vip",
     [](Intent& i) { i.services[ServiceKey::parse("224.0.0.1/udp").value()] = {"web"}; },
     "services.224.0.0.1/udp: must be a unicast address that other hosts can reach, but 224.0.0.1 "
     "is a multicast address"},
    {"many_pools",
     [](Intent& i) {
       for (int n = 0; n < 4096; ++n) i.pools["p" + std::to_string(n)].table_slots = 251;
     },
     "pools: at most 4096 pools, got 4098"},
    {"many_slots",
     [](Intent& i) {
       for (int n = 0; n < 16; ++n) i.pools["p" + std::to_string(n)].table_slots = 16777213;
     },
     "pools: at most 268439552 table slots over all pools, got 268566482 (lower table_slots of "
     "some pools)"},
    {"many_services",
     [](Intent& i) {
       ServiceKey key = i.services.begin()->first;
       for (uint16_t n = 1000; n < 1000 + 8192; ++n) {
         key.port = n;
         i.services[key] = {"web"};
       }
     },
     "services: at most 8192 services, got 8193"},
    {"many_backends_in_a_pool",
     [](Intent& i) {
       for (uint32_t n = 0; n < 10001; ++n) {
         const uint8_t raw[4] = {10, 1, static_cast<uint8_t>(n >> 8), static_cast<uint8_t>(n)};
         i.pools["dns"].backends[Address::from_v4(raw)] = {};
       }
     },
     "pools.dns.backends: at most 10000 backends in one pool, got 10001"},
    {"many_backends",
     [](Intent& i) {
       for (uint32_t n = 0; n < 32768; ++n) {
         const uint8_t raw[4] = {10, 1, static_cast<uint8_t>(n >> 8), static_cast<uint8_t>(n)};
         i.pools["p" + std::to_string(n / 8192)].backends[Address::from_v4(raw)] = {};
       }
     },
     "pools: at most 32768 backends over all pools, got 32770"},
};

INSTANTIATE_TEST_SUITE_P(Table, BadIntents, testing::ValuesIn(kBadIntents),
                         [](const auto& item) { return item.param.name; });

TEST(IntentChange, TwiceIsTheSameAsOnce) {
  Intent before = sample();
  auto once = put_backend(before, "web", address("10.0.0.23"), 30);
  ASSERT_TRUE(once);
  EXPECT_NE(*once, before);
  EXPECT_EQ(once->revision, before.revision);
  EXPECT_EQ(*put_backend(*once, "web", address("10.0.0.23"), 30), *once);
  auto removed = remove_backend(*once, "web", address("10.0.0.23"));
  ASSERT_TRUE(removed);
  EXPECT_EQ(*removed, before);
}

TEST(IntentChange, AbsentFieldsKeepWhatIsThere) {
  Intent before = sample();
  auto after = put_backend(before, "web", address("10.0.0.22"), {});
  ASSERT_TRUE(after);
  EXPECT_EQ(*after, before);
  after = put_backend(before, "web", address("10.0.0.24"), {});
  ASSERT_TRUE(after);
  EXPECT_EQ(after->pools["web"].backends[address("10.0.0.24")].weight, 100u);
  WantedPool wanted;
  wanted.table_slots = 251;
  after = put_pool(before, "web", wanted);
  ASSERT_TRUE(after);
  EXPECT_EQ(after->pools["web"].table_slots, 251u);
  EXPECT_EQ(after->pools["web"].backends, before.pools["web"].backends);
}

TEST(IntentChange, RefusalsHaveAKind) {
  Intent before = sample();
  auto used = remove_pool(before, "web");
  ASSERT_FALSE(used);
  EXPECT_EQ(used.error().refusal, Refusal::conflict);
  EXPECT_EQ(used.error().error.text(),
            "pools.web: is used by service 203.0.113.10:443/tcp (remove them first, or give them "
            "another pool)");
  auto none = remove_pool(before, "wb");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().refusal, Refusal::not_found);
  none = put_backend(before, "wb", address("10.0.0.1"), {});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().refusal, Refusal::not_found);
  none = remove_backend(before, "web", address("10.0.0.1"));
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().error.text(), "pools.web.backends.10.0.0.1: there is no such backend");
  none = put_pool(before, "new", {});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().error.text(),
            "pools.new.forwarding: is needed for a new pool (\"l2\" or \"ipip\")");
  WantedIntent stale;
  stale.revision = 6;
  none = replace_intent(before, stale);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().refusal, Refusal::conflict);
}

TEST(IntentChange, Differences) {
  Intent before = sample();
  Intent after = before;
  after.pools.erase("dns");
  after.pools["new"].backends[address("10.0.0.9")] = {};
  after.pools["web"].table_slots = 251;
  after.pools["web"].backends.erase(address("10.0.0.21"));
  after.pools["web"].backends[address("10.0.0.22")].weight = 51;
  after.pools["web"].backends[address("10.0.0.23")] = {};
  after.services.begin()->second.pool = "new";
  using Op = Difference::Op;
  const std::vector<Difference> expected = {
      {Op::remove, "pool dns", "ipip, 65537 slots, 0 backends", {}},
      {Op::add, "pool new", {}, "l2, 65537 slots, 1 backend"},
      {Op::change, "pool web", "l2, 65537 slots, 2 backends", "l2, 251 slots, 2 backends"},
      {Op::remove, "backend web 10.0.0.21", "weight 100", {}},
      {Op::change, "backend web 10.0.0.22", "weight 50", "weight 51"},
      {Op::add, "backend web 10.0.0.23", {}, "weight 100"},
      {Op::change, "service 203.0.113.10:443/tcp", "pool web", "pool new"},
  };
  EXPECT_EQ(differences(before, after), expected);
  EXPECT_TRUE(differences(before, before).empty());
}

}  // namespace
}  // namespace guideway
