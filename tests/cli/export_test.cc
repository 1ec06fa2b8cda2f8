// SPDX-License-Identifier: Apache-2.0
// `guideway export`, and that `guideway apply` reads what it writes.
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <random>

#include "controlplane/cli/intent_file.h"
#include "controlplane/intent_change.h"
#include "controlplane/intent_json.h"
#include "tests/cli/command_fixture.h"

namespace guideway::test {
namespace {

Backend backend(uint32_t weight, BackendMode mode, int64_t drain_until = 0) {
  return {weight, mode, drain_until};
}

// Something of everything that an intent may hold.
Intent everything() {
  Intent out;
  out.revision = 12;
  out.flow_seed = 0xfedcba9876543210;
  Pool& web = out.pools["web"];
  web.forwarding = Forwarding::gue;
  web.table_slots = 4099;
  web.slow_start_ms = 30'000;
  web.hold_s = 0;
  web.probe = {ProbeKind::http, 8080, {}, "/health?a=\"b\"\\'", "www.example.com", 2000, 700, 4, 1};
  web.backends[*Address::parse("10.0.0.21")] = backend(100, BackendMode::enabled);
  web.backends[*Address::parse("10.0.0.22")] = backend(0, BackendMode::disabled);
  web.backends[*Address::parse("10.0.0.23")] = backend(65535, BackendMode::draining, 1795435200);
  web.backends[*Address::parse("10.0.0.24")] = backend(7, BackendMode::draining);
  Pool& dns = out.pools["0.dns-v6_"];
  dns.forwarding = Forwarding::ipip;
  dns.probe = {ProbeKind::udp, 53, UdpQuery::echo, "", "", 10, 9, 3, 2};
  dns.backends[*Address::parse("10.0.0.1")] = backend(1, BackendMode::enabled);
  dns.backends[*Address::parse("2001:db8::7")] = backend(2, BackendMode::disabled);
  out.pools["icmp"].probe = {ProbeKind::icmp, 0, UdpQuery::dns, "", "", 100, 100, 3, 2};
  out.pools["tcp"].probe = {ProbeKind::tcp, 443, UdpQuery::dns, "", "", 60000, 60000, 100, 100};
  out.pools["empty"].forwarding = Forwarding::l2;
  for (const char* service : {"203.0.113.10:443/tcp", "[2001:db8::10]:443/tcp", "203.0.113.10/udp"})
    out.services[*ServiceKey::parse(service)] = {"web"};
  return out;
}

// As `guideway apply` on a node with the intent `before`.
Result<Intent> applied(const std::string& toml, const Intent& before) {
  auto file = cli::IntentFile::parse(toml, "edge.toml");
  if (!file) return tl::unexpected(file.error());
  auto wanted = read_wanted_intent(file->json);
  if (!wanted) return tl::unexpected(wanted.error());
  auto after = replace_intent(before, *wanted);
  if (!after) return tl::unexpected(after.error().error);
  return *after;
}

std::string exported(const Intent& intent) {
  auto toml = cli::write_intent_file(write_intent(intent));
  EXPECT_TRUE(toml) << toml.error().text();
  return *toml;
}

void expect_same(const Intent& intent, const Intent& before) {
  const std::string toml = exported(intent);
  auto again = applied(toml, before);
  ASSERT_TRUE(again) << again.error().text() << "\n" << toml;
  Intent wanted = intent;
  wanted.revision = again->revision;
  EXPECT_EQ(write_intent(*again), write_intent(wanted)) << toml;
}

TEST(Export, IsReadByApplyAsItWas) {
  const Intent all = everything();
  expect_same(all, Intent{});
  expect_same(all, all);
  Intent none;
  none.flow_seed = 5;
  expect_same(none, Intent{});
}

// Whatever the node had before: orders, drains, settings, services.
TEST(Export, DoesNotDependOnWhatItIsAppliedTo) {
  const Intent all = everything();
  Intent other = all;
  other.revision = 99;
  other.pools.erase("tcp");
  other.pools["more"].forwarding = Forwarding::l2;
  for (auto& [name, pool] : other.pools) {
    pool.probe = {};
    pool.slow_start_ms = 5;
    pool.hold_s = 77;
    pool.table_slots = 251;
    for (auto& [address, backend] : pool.backends) backend = {9, BackendMode::draining, 1795430000};
  }
  other.services[*ServiceKey::parse("203.0.113.99:1/udp")] = {"more"};
  expect_same(all, other);
  for (auto& [name, pool] : other.pools)
    for (auto& [address, backend] : pool.backends) backend = {9, BackendMode::disabled, 0};
  expect_same(all, other);
}

TEST(Export, RandomIntentsComeBack) {
  std::mt19937 random(1);
  const auto chance = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  for (int round = 0; round < 300; ++round) {
    Intent intent;
    intent.flow_seed = random() | uint64_t{random()} << 32;
    for (uint32_t p = chance(5); p > 0; --p) {
      Pool& pool = intent.pools["p" + std::to_string(p)];
      pool.forwarding = static_cast<Forwarding>(chance(2));
      pool.slow_start_ms = chance(kSlowStartMax + 1);
      pool.probe.kind = static_cast<ProbeKind>(chance(3));
      if (pool.probe.kind == ProbeKind::tcp) pool.probe.port = 1 + chance(65535);
      if (pool.probe.kind != ProbeKind::none) pool.probe.fall = 1 + chance(100);
      for (uint32_t b = chance(20); b > 0; --b) {
        Backend& one =
            pool.backends[*Address::parse("10.0." + std::to_string(p) + "." + std::to_string(b))];
        one = {chance(65536), static_cast<BackendMode>(chance(3)), 0};
        if (one.mode == BackendMode::draining && chance(2) == 0)
          one.drain_until = 1'700'000'000 + chance(1 << 30);
      }
      if (chance(2) == 0)
        intent.services[{*Address::parse("203.0.113." + std::to_string(p)), IPPROTO_TCP,
                         static_cast<uint16_t>(chance(65536))}] = {"p" + std::to_string(p)};
    }
    expect_same(intent, Intent{});
  }
}

TEST(Export, WhatIsNoIntentIsRefused) {
  for (const char* json : {"", "[]", "null", "{"}) EXPECT_FALSE(cli::write_intent_file(json));
}

TEST_F(Command, ExportPrintsWhatApplyReads) {
  const Intent all = everything();
  server.answer("GET /v1/intent", 200, write_intent(all));
  const Outcome outcome = ask({"export"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(outcome.out.rfind("# the intent at revision 12, ", 0), 0u) << outcome.out;
  auto again = applied(outcome.out, Intent{});
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(again->pools.size(), all.pools.size());
  EXPECT_NE(outcome.out.find(R"("10.0.0.21" = { mode = "enabled", weight = 100 })"),
            std::string::npos)
      << outcome.out;
}

TEST_F(Command, ExportAsJsonIsTheServers) {
  server.answer("GET /v1/intent", 200, R"({"revision":1,"pools":{},"services":{}})");
  const Outcome outcome = ask({"--json", "export"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.out, "{\"revision\":1,\"pools\":{},\"services\":{}}\n");
}

}  // namespace
}  // namespace guideway::test
