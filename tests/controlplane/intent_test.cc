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

Probe tcp_probe(uint16_t port, uint32_t interval, uint32_t timeout, uint32_t fall, uint32_t rise) {
  Probe probe;
  probe.kind = ProbeKind::tcp;
  probe.port = port;
  probe.interval_ms = interval;
  probe.timeout_ms = timeout;
  probe.fall = fall;
  probe.rise = rise;
  return probe;
}

Probe http_probe(const std::string& path, const std::string& host = "") {
  Probe probe = tcp_probe(8080, 1000, 1000, 3, 2);
  probe.kind = ProbeKind::http;
  probe.path = path;
  probe.host = host;
  return probe;
}

constexpr const char* kBadPath =
    "pools.web.probe.path: must be a slash and at most 254 more characters of printable ASCII, "
    "without blanks and '#' (like \"/healthz\")";
constexpr const char* kBadHost =
    "pools.web.probe.host: must be a name or an address, perhaps with a port: at most 255 of A-Z "
    "a-z 0-9 . - _ : [ ] (like \"www.example.net\"; empty: the backend's address)";

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
    {"slow_start", [](Intent& i) { i.pools["web"].slow_start_ms = 3'600'001; },
     "pools.web.slow_start_ms: must be 0 to 3600000, got 3600001"},
    {"probe_interval_zero", [](Intent& i) { i.pools["web"].probe = tcp_probe(443, 0, 1, 1, 1); },
     "pools.web.probe.interval_ms: must be 1 to 60000, got 0"},
    {"probe_interval_long",
     [](Intent& i) { i.pools["web"].probe = tcp_probe(443, 60001, 1, 1, 1); },
     "pools.web.probe.interval_ms: must be 1 to 60000, got 60001"},
    {"probe_timeout", [](Intent& i) { i.pools["web"].probe = tcp_probe(443, 1, 0, 1, 1); },
     "pools.web.probe.timeout_ms: must be 1 to 60000, got 0"},
    {"probe_fall", [](Intent& i) { i.pools["web"].probe = tcp_probe(443, 1, 1, 0, 1); },
     "pools.web.probe.fall: must be 1 to 100, got 0"},
    {"probe_rise", [](Intent& i) { i.pools["web"].probe = tcp_probe(443, 1, 1, 1, 101); },
     "pools.web.probe.rise: must be 1 to 100, got 101"},
    {"probe_port", [](Intent& i) { i.pools["web"].probe = tcp_probe(0, 1, 1, 1, 1); },
     "pools.web.probe.port: must be 1 to 65535, got 0"},
    {"http_path_empty", [](Intent& i) { i.pools["web"].probe = http_probe(""); }, kBadPath},
    {"http_path_slash", [](Intent& i) { i.pools["web"].probe = http_probe("healthz"); }, kBadPath},
    {"http_path_blank", [](Intent& i) { i.pools["web"].probe = http_probe("/a b"); }, kBadPath},
    {"http_path_line", [](Intent& i) { i.pools["web"].probe = http_probe("/ HTTP/1.1\r\nX: y"); },
     kBadPath},
    {"http_path_zero", [](Intent& i) { i.pools["web"].probe = http_probe(std::string("/\0", 2)); },
     kBadPath},
    {"http_path_high", [](Intent& i) { i.pools["web"].probe = http_probe("/\xc3\xa9"); }, kBadPath},
    {"http_path_del", [](Intent& i) { i.pools["web"].probe = http_probe("/\x7f"); }, kBadPath},
    {"http_path_fragment", [](Intent& i) { i.pools["web"].probe = http_probe("/#a"); }, kBadPath},
    {"http_path_long",
     [](Intent& i) { i.pools["web"].probe = http_probe("/" + std::string(255, 'a')); }, kBadPath},
    {"http_host_blank", [](Intent& i) { i.pools["web"].probe = http_probe("/", "a b"); }, kBadHost},
    {"http_host_line", [](Intent& i) { i.pools["web"].probe = http_probe("/", "a\r\nX: y"); },
     kBadHost},
    {"http_host_slash", [](Intent& i) { i.pools["web"].probe = http_probe("/", "a/b"); }, kBadHost},
    {"http_host_long",
     [](Intent& i) { i.pools["web"].probe = http_probe("/", std::string(256, 'a')); }, kBadHost},
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

TEST(IntentRules, GoodProbesAreTaken) {
  for (const Probe& probe :
       {tcp_probe(1, 1, 60000, 1, 100), tcp_probe(65535, 60000, 1, 100, 1), http_probe("/"),
        http_probe("/" + std::string(254, '~'), "[2001:db8::1]:8080"),
        http_probe("/a?b=c&d=%20!", "www.example.net"), Probe{}}) {
    Intent intent = sample();
    intent.pools["web"].probe = probe;
    auto checked = check_intent(intent);
    EXPECT_TRUE(checked) << checked.error().text();
  }
}

WantedBackend weight(uint32_t number) {
  WantedBackend wanted;
  wanted.weight = number;
  return wanted;
}

WantedBackend mode(BackendMode order, std::optional<int64_t> until = {}) {
  WantedBackend wanted;
  wanted.mode = order;
  wanted.drain_until = until;
  return wanted;
}

TEST(IntentChange, TwiceIsTheSameAsOnce) {
  Intent before = sample();
  auto once = put_backend(before, "web", address("10.0.0.23"), weight(30));
  ASSERT_TRUE(once);
  EXPECT_NE(*once, before);
  EXPECT_EQ(once->revision, before.revision);
  EXPECT_EQ(*put_backend(*once, "web", address("10.0.0.23"), weight(30)), *once);
  auto removed = remove_backend(*once, "web", address("10.0.0.23"));
  ASSERT_TRUE(removed);
  EXPECT_EQ(*removed, before);
}

TEST(IntentChange, AbsentFieldsKeepWhatIsThere) {
  Intent before = sample();
  before.pools["web"].probe = http_probe("/");
  before.pools["web"].slow_start_ms = 5;
  auto after = put_backend(before, "web", address("10.0.0.22"), {});
  ASSERT_TRUE(after);
  EXPECT_EQ(*after, before);
  after = put_backend(before, "web", address("10.0.0.24"), {});
  ASSERT_TRUE(after);
  EXPECT_EQ(after->pools["web"].backends[address("10.0.0.24")], Backend{});
  WantedPool wanted;
  wanted.table_slots = 251;
  after = put_pool(before, "web", wanted);
  ASSERT_TRUE(after);
  Intent expected = before;
  expected.pools["web"].table_slots = 251;
  EXPECT_EQ(*after, expected);
  wanted.probe = Probe{};
  wanted.slow_start_ms = 0;
  after = put_pool(before, "web", wanted);
  ASSERT_TRUE(after);
  EXPECT_EQ(after->pools["web"].probe, Probe{});
  EXPECT_EQ(after->pools["web"].slow_start_ms, 0u);
}

TEST(IntentChange, DrainEnableDisable) {
  const Address backend = address("10.0.0.22");
  auto of = [&](const ChangeResult& result) {
    return result->pools.at("web").backends.at(backend);
  };
  const Intent before = sample();
  auto after = put_backend(before, "web", backend, mode(BackendMode::draining, 1000));
  ASSERT_TRUE(after);
  EXPECT_EQ(of(after), (Backend{50, BackendMode::draining, 1000}));
  // Another weight does not end it; again gives it another deadline; 0 is none.
  after = put_backend(*after, "web", backend, weight(7));
  EXPECT_EQ(of(after), (Backend{7, BackendMode::draining, 1000}));
  after = put_backend(*after, "web", backend, mode(BackendMode::draining, 2000));
  EXPECT_EQ(of(after), (Backend{7, BackendMode::draining, 2000}));
  after = put_backend(*after, "web", backend, mode(BackendMode::draining, 0));
  EXPECT_EQ(of(after), (Backend{7, BackendMode::draining, 0}));
  after = put_backend(*after, "web", backend, mode(BackendMode::draining, 3000));
  auto disabled = put_backend(*after, "web", backend, mode(BackendMode::disabled));
  EXPECT_EQ(of(disabled), (Backend{7, BackendMode::disabled, 0}));
  auto enabled = put_backend(*after, "web", backend, mode(BackendMode::enabled));
  EXPECT_EQ(of(enabled), (Backend{7, BackendMode::enabled, 0}));
  // A new one may come disabled, but there is nothing to drain.
  after = put_backend(before, "web", address("10.0.0.29"), mode(BackendMode::disabled));
  ASSERT_TRUE(after);
  after = put_backend(before, "web", address("10.0.0.29"), mode(BackendMode::draining, 1000));
  ASSERT_FALSE(after);
  EXPECT_EQ(after.error().refusal, Refusal::not_found);
}

// A file that says nothing of modes does not end a drain; one that does is obeyed.
TEST(IntentChange, AWholeSetKeepsTheModesItDoesNotName) {
  Intent before = sample();
  auto& backends = before.pools["web"].backends;
  backends[address("10.0.0.21")] = {100, BackendMode::draining, 1000};
  backends[address("10.0.0.22")] = {50, BackendMode::disabled, 0};
  WantedPool set;
  set.forwarding = Forwarding::l2;
  set.backends.emplace();
  set.backends->emplace(address("10.0.0.21"), WantedBackend{});
  set.backends->emplace(address("10.0.0.22"), WantedBackend{});
  set.backends->emplace(address("10.0.0.23"), WantedBackend{});
  WantedIntent whole;
  whole.pools["web"] = set;
  for (const ChangeResult& after : {put_pool(before, "web", set), replace_intent(before, whole)}) {
    ASSERT_TRUE(after);
    const auto& now = after->pools.at("web").backends;
    EXPECT_EQ(now.at(address("10.0.0.21")), (Backend{100, BackendMode::draining, 1000}));
    EXPECT_EQ(now.at(address("10.0.0.22")), (Backend{100, BackendMode::disabled, 0}));
    EXPECT_EQ(now.at(address("10.0.0.23")), Backend{});
  }
  // Without a time a drain goes on to its own, or begins without one.
  (*set.backends)[address("10.0.0.21")] = mode(BackendMode::draining);
  (*set.backends)[address("10.0.0.22")] = mode(BackendMode::enabled);
  (*set.backends)[address("10.0.0.23")] = mode(BackendMode::draining);
  auto after = put_pool(before, "web", set);
  ASSERT_TRUE(after);
  const auto& now = after->pools.at("web").backends;
  EXPECT_EQ(now.at(address("10.0.0.21")), (Backend{100, BackendMode::draining, 1000}));
  EXPECT_EQ(now.at(address("10.0.0.22")), Backend{});
  EXPECT_EQ(now.at(address("10.0.0.23")), (Backend{100, BackendMode::draining, 0}));
}

TEST(IntentChange, AWholeIntentIsExactlyWhatItSays) {
  Intent before = sample();
  before.pools["web"].probe = http_probe("/");
  before.pools["web"].slow_start_ms = 5;
  WantedIntent whole;
  whole.pools["web"].forwarding = Forwarding::l2;
  auto after = replace_intent(before, whole);
  ASSERT_TRUE(after);
  EXPECT_EQ(after->pools.size(), 1u);
  EXPECT_EQ(after->pools["web"], Pool{});
  EXPECT_TRUE(after->services.empty());
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
            "pools.new.forwarding: is needed for a new pool (\"l2\", \"ipip\" or \"gue\")");
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
  after.pools["new"].probe = http_probe("/x", "a.b");
  after.pools["new"].slow_start_ms = 1500;
  after.services.begin()->second.pool = "new";
  using Op = Difference::Op;
  const std::vector<Difference> expected = {
      {Op::remove, "pool dns", "ipip, 65537 slots, 0 backends", {}},
      {Op::add,
       "pool new",
       {},
       "l2, 65537 slots, 1 backend, probe http:8080/x of host a.b every 1 s, time-out 1 s, fall "
       "3, rise 2, slow start 1500 ms"},
      {Op::change, "pool web", "l2, 65537 slots, 2 backends", "l2, 251 slots, 2 backends"},
      {Op::remove, "backend web 10.0.0.21", "weight 100", {}},
      {Op::change, "backend web 10.0.0.22", "weight 50", "weight 51"},
      {Op::add, "backend web 10.0.0.23", {}, "weight 100"},
      {Op::change, "service 203.0.113.10:443/tcp", "pool web", "pool new"},
  };
  EXPECT_EQ(differences(before, after), expected);
  EXPECT_TRUE(differences(before, before).empty());
}

TEST(IntentChange, DifferencesOfHealthAndModes) {
  Intent before = sample();
  Pool& old = before.pools["web"];
  old.slow_start_ms = 30000;
  old.backends[address("10.0.0.23")] = {1, BackendMode::draining, 1795435200};
  Intent after = before;
  Pool& web = after.pools["web"];
  web.probe = tcp_probe(443, 10, 50, 3, 2);
  web.slow_start_ms = 0;
  web.backends[address("10.0.0.21")].mode = BackendMode::draining;
  web.backends[address("10.0.0.22")] = {60, BackendMode::disabled, 0};
  web.backends[address("10.0.0.23")].drain_until = 1795435260;
  web.backends[address("10.0.0.24")] = {1, BackendMode::disabled, 0};
  using Op = Difference::Op;
  const std::vector<Difference> expected = {
      {Op::change, "pool web probe", "none", "tcp:443 every 10 ms, time-out 50 ms, fall 3, rise 2"},
      {Op::change, "pool web slow start", "30 s", "none"},
      {Op::change, "backend web 10.0.0.21", "enabled", "draining"},
      {Op::change, "backend web 10.0.0.22", "weight 50", "weight 60"},
      {Op::change, "backend web 10.0.0.22", "enabled", "disabled"},
      {Op::change, "backend web 10.0.0.23", "draining until 2026-11-23T12:00:00Z",
       "draining until 2026-11-23T12:01:00Z"},
      {Op::add, "backend web 10.0.0.24", {}, "weight 1, disabled"},
  };
  EXPECT_EQ(differences(before, after), expected);
}

TEST(IntentChange, TheSameDrainTwiceIsOne) {
  Intent before;
  before.pools["web"].backends[address("10.0.0.21")] = {};
  WantedBackend drain;
  drain.mode = BackendMode::draining;
  drain.default_drain_until = 1600;
  auto once = put_backend(before, "web", address("10.0.0.21"), drain);
  ASSERT_TRUE(once);
  EXPECT_EQ(once->pools["web"].backends[address("10.0.0.21")].drain_until, 1600);
  drain.default_drain_until = 1700;
  EXPECT_EQ(put_backend(*once, "web", address("10.0.0.21"), drain).value(), *once);
  drain.drain_until = 1800;  // said: it begins anew
  auto anew = put_backend(*once, "web", address("10.0.0.21"), drain);
  EXPECT_EQ(anew->pools["web"].backends[address("10.0.0.21")].drain_until, 1800);
}

}  // namespace
}  // namespace guideway
