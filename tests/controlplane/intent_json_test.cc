// SPDX-License-Identifier: Apache-2.0
#include "controlplane/intent_json.h"

#include <gtest/gtest.h>

#include "controlplane/json_text.h"

namespace guideway {
namespace {

constexpr const char* kDocument =
    R"({"pools":{"web":{"forwarding":"ipip","table_slots":65537,"probe":{"kind":"http","port":8080,"path":"/h","host":"a.b"},"slow_start_ms":30000,"backends":{"10.0.0.21":{"weight":100},"10.0.0.22":{"mode":"draining","drain_until":"2026-11-23T12:00:00Z"},"10.0.0.23":{"mode":"draining","drain_until":null},"10.0.0.24":{"mode":"disabled"},"fd00::22":{"weight":0}}},"dns":{"forwarding":"ipip","probe":{"kind":"udp","port":53}}},"services":{"203.0.113.10:443/tcp":{"pool":"web"},"[2001:db8::10]/udp":{"pool":"web"}}})";

Address address(const char* text) {
  return Address::parse(text).value();
}

// What a node that never had an intent makes of it.
Intent made(const char* document) {
  auto wanted = read_wanted_intent(document);
  EXPECT_TRUE(wanted) << wanted.error().text();
  auto intent = replace_intent(Intent{}, *wanted);
  EXPECT_TRUE(intent) << intent.error().error.text();
  return *intent;
}

TEST(IntentJson, WhatIsWrittenIsReadAgain) {
  Intent intent = made(kDocument);
  EXPECT_EQ(intent.pools["web"].probe.host, "a.b");
  EXPECT_EQ(intent.pools["dns"].probe.query, UdpQuery::dns);
  const auto& backends = intent.pools["web"].backends;
  EXPECT_EQ(backends.at(address("10.0.0.22")), (Backend{100, BackendMode::draining, 1795435200}));
  EXPECT_EQ(backends.at(address("10.0.0.23")), (Backend{100, BackendMode::draining, 0}));
  EXPECT_EQ(backends.at(address("10.0.0.24")).mode, BackendMode::disabled);
  intent.revision = 18446744073709551615u;
  intent.flow_seed = 18446744073709551614u;
  auto stored = read_stored_intent(write_stored_intent(intent));
  ASSERT_TRUE(stored) << stored.error().text();
  EXPECT_EQ(*stored, intent);
  auto shown = read_wanted_intent(write_intent(intent));
  ASSERT_TRUE(shown) << shown.error().text();
  EXPECT_EQ(shown->revision, intent.revision);
  auto again = replace_intent(Intent{}, *shown);
  ASSERT_TRUE(again) << again.error().error.text();
  EXPECT_EQ(again->pools, intent.pools);
  EXPECT_EQ(again->services, intent.services);
}

// As a version without health checks wrote it.
TEST(IntentJson, AnOlderStoredIntentHasDefaults) {
  auto stored = read_stored_intent(
      R"({"revision":3,"flow_seed":9,"pools":{"web":{"forwarding":"l2","table_slots":65537,"backends":{"10.0.0.21":{"weight":7}}}},"services":{}})");
  ASSERT_TRUE(stored) << stored.error().text();
  Pool web;
  web.backends[address("10.0.0.21")] = {7, BackendMode::enabled, 0};
  EXPECT_EQ(stored->pools["web"], web);
  EXPECT_EQ(stored->revision, 3u);
  EXPECT_EQ(stored->flow_seed, 9u);
}

TEST(IntentJson, DefaultsAndEmptyBodies) {
  Intent intent = made(R"({"pools":{"a":{"forwarding":"l2","backends":{"10.0.0.1":{}}}}})");
  Pool expected;
  expected.backends[address("10.0.0.1")] = {};
  EXPECT_EQ(intent.pools["a"], expected);
  auto pool = read_wanted_pool("", "web");
  ASSERT_TRUE(pool);
  EXPECT_FALSE(pool->forwarding || pool->table_slots || pool->probe || pool->slow_start_ms ||
               pool->backends);
  auto backend = read_wanted_backend("", "web", address("10.0.0.1"), 1000);
  ASSERT_TRUE(backend);
  EXPECT_FALSE(backend->weight || backend->mode || backend->drain_until);
}

TEST(IntentJson, ADrainHasADeadline) {
  auto until = [](const char* body) {
    auto backend = read_wanted_backend(body, "web", address("10.0.0.1"), 1000);
    EXPECT_TRUE(backend) << body << backend.error().text();
    return backend->drain_until;
  };
  EXPECT_EQ(until(R"({"mode":"draining"})"), std::nullopt);
  EXPECT_EQ(read_wanted_backend(R"({"mode":"draining"})", "web", address("10.0.0.1"), 1000)
                ->default_drain_until,
            1600);
  EXPECT_EQ(until(R"({"mode":"draining","deadline_s":1})"), 1001);
  EXPECT_EQ(until(R"({"mode":"draining","deadline_s":604800})"), 605800);
  EXPECT_EQ(until(R"({"mode":"draining","deadline_s":0})"), 0);
  EXPECT_EQ(until(R"({"mode":"enabled"})"), std::nullopt);
  EXPECT_EQ(until(R"({"mode":"disabled","weight":3})"), std::nullopt);
}

struct Written {
  const char* given;
  const char* written;
};

TEST(IntentJson, ProbesAndTheirDefaults) {
  const Written table[] = {
      {"null", "null"},
      {R"({"kind":"none"})", "null"},
      {R"({"kind":"tcp","port":443})",
       R"({"kind":"tcp","port":443,"interval_ms":100,"timeout_ms":100,"fall":3,"rise":2})"},
      {R"({"kind":"tcp","port":65535,"interval_ms":1,"fall":1,"rise":100})",
       R"({"kind":"tcp","port":65535,"interval_ms":1,"timeout_ms":1,"fall":1,"rise":100})"},
      {R"({"kind":"icmp","interval_ms":60000})",
       R"({"kind":"icmp","interval_ms":60000,"timeout_ms":5000,"fall":3,"rise":2})"},
      {R"({"kind":"icmp","interval_ms":10,"timeout_ms":60000})",
       R"({"kind":"icmp","interval_ms":10,"timeout_ms":60000,"fall":3,"rise":2})"},
      {R"({"kind":"udp","port":53})",
       R"({"kind":"udp","port":53,"query":"dns","interval_ms":100,"timeout_ms":100,"fall":3,"rise":2})"},
      {R"({"kind":"udp","port":54})",
       R"({"kind":"udp","port":54,"query":"echo","interval_ms":100,"timeout_ms":100,"fall":3,"rise":2})"},
      {R"({"kind":"udp","port":54,"query":"dns"})",
       R"({"kind":"udp","port":54,"query":"dns","interval_ms":100,"timeout_ms":100,"fall":3,"rise":2})"},
      {R"({"kind":"http","port":80})",
       R"({"kind":"http","port":80,"path":"/","host":"","interval_ms":1000,"timeout_ms":1000,"fall":3,"rise":2})"},
      {R"({"kind":"http","port":80,"path":"/a?\"\\","host":"a.b"})",
       R"({"kind":"http","port":80,"path":"/a?\"\\","host":"a.b","interval_ms":1000,"timeout_ms":1000,"fall":3,"rise":2})"},
  };
  for (const Written& item : table) {
    auto pool = read_wanted_pool(std::string("{\"probe\":") + item.given + "}", "web");
    ASSERT_TRUE(pool) << item.given << pool.error().text();
    EXPECT_EQ(write_probe(pool->probe.value()), item.written);
    auto again = read_wanted_pool(std::string("{\"probe\":") + item.written + "}", "web");
    ASSERT_TRUE(again) << item.written << again.error().text();
    EXPECT_EQ(again->probe, pool->probe);
  }
}

struct Bad {
  const char* body;
  const char* error;
};

// "pool" bodies go to pool web, "backend" bodies to 10.0.0.7 in it.
void expect_errors(std::initializer_list<Bad> table,
                   const std::function<std::optional<Error>(const char*)>& read) {
  for (const Bad& bad : table) {
    std::optional<Error> error = read(bad.body);
    ASSERT_TRUE(error) << bad.body;
    EXPECT_EQ(error->text(), bad.error) << bad.body;
  }
}

TEST(IntentJson, BadDocuments) {
  expect_errors(
      {
          {"[]", "body: must be an object, got an array"},
          {"3", "body: must be an object, got a number"},
          {"{",
           "body: is not JSON: parse error at line 1, column 2: syntax error while parsing "
           "object key - unexpected end of input; expected string literal"},
          {"{}x",
           "body: is not JSON: parse error at line 1, column 3: syntax error while parsing "
           "value - invalid literal; last read: '{}x'; expected end of input"},
          {R"({"pool":{}})",
           "pool: unknown field (known here: revision, flow_seed, pools, services)"},
          {R"({"pools":{},"pools":{}})", "pools: is given twice"},
          {R"({"pools":[]})", "pools: must be an object, got an array"},
          {R"({"pools":{"web":null}})", "pools.web: must be an object, got null"},
          {R"({"pools":{"web":{}}})",
           "pools.web.forwarding: is missing (\"l2\", \"ipip\" or \"gue\")"},
          {R"({"pools":{"web":{"forwarding":"gre"}}})",
           "pools.web.forwarding: must be \"l2\", \"ipip\" or \"gue\", got \"gre\""},
          {R"({"pools":{"web":{"forwarding":1}}})",
           "pools.web.forwarding: must be \"l2\", \"ipip\" or \"gue\", got 1"},
          {R"({"pools":{"web":{"forwarding":"l2","table_slots":65537.5}}})",
           "pools.web.table_slots: must be a whole number, 251 to 16777213, got 65537.5"},
          {R"({"pools":{"web":{"forwarding":"l2","table_slots":1e9}}})",
           "pools.web.table_slots: must be a whole number, 251 to 16777213, got 1000000000.0"},
          {R"({"pools":{"web":{"forwarding":"l2","check":"tcp"}}})",
           "pools.web.check: unknown field (known here: forwarding, table_slots, probe, "
           "slow_start_ms, hold_s, backends)"},
          {R"({"pools":{"web":{"forwarding":"l2","backends":{"10.0.0.7":{"mode":"off"}}}}})",
           "pools.web.backends.10.0.0.7.mode: must be \"enabled\", \"draining\" or \"disabled\", "
           "got \"off\""},
          {R"({"pools":{"web":{"forwarding":"l2","backends":{"10.0.0.7":{"mode":"draining","drain_until":"2026-02-30T00:00:00Z"}}}}})",
           "pools.web.backends.10.0.0.7.drain_until: must be a time in UTC, or null or \"never\" "
           "for no "
           "deadline, got \"2026-02-30T00:00:00Z\" (like \"2026-11-23T12:00:00Z\")"},
          {R"({"pools":{"web":{"forwarding":"l2","backends":{"10.0.0.7":{"mode":"draining","drain_until":1}}}}})",
           "pools.web.backends.10.0.0.7.drain_until: must be a time in UTC, or null or \"never\" "
           "for no "
           "deadline, got 1 (like \"2026-11-23T12:00:00Z\")"},
          {R"({"pools":{"web":{"forwarding":"l2","backends":{"10.0.0.7":{"mode":"draining","drain_until":"1970-01-01T00:00:00Z"}}}}})",
           "pools.web.backends.10.0.0.7.drain_until: must be a time in UTC, or null or \"never\" "
           "for no "
           "deadline, got \"1970-01-01T00:00:00Z\" (like \"2026-11-23T12:00:00Z\")"},
          {R"({"pools":{"web":{"forwarding":"l2","backends":{"10.0.0.7":{"drain_until":"2026-11-23T12:00:00Z"}}}}})",
           "pools.web.backends.10.0.0.7.drain_until: belongs to mode \"draining\" only"},
          {R"({"pools":{"web":{"forwarding":"l2","backends":{"10.0.0.7":{"deadline_s":5}}}}})",
           "pools.web.backends.10.0.0.7.deadline_s: unknown field (known here: weight, mode, "
           "drain_until)"},
          {R"({"pools":{"web":{"forwarding":"l2","backends":["10.0.0.1"]}}})",
           "pools.web.backends: must be an object, got an array"},
          {R"({"pools":{"web":{"forwarding":"l2","backends":{"10.0.0":{}}}}})",
           "pools.web.backends.10.0.0: is not an IPv4 or IPv6 address (like 10.0.0.21 or "
           "fd00::21)"},
          {R"({"pools":{"web":{"forwarding":"l2","backends":{"10.0.0.7":{"weight":1,"weight":1}}}}})",
           "pools.web.backends.10.0.0.7.weight: is given twice"},
          {R"({"pools":{"web":{"forwarding":"l2","backends":{"10.0.0.7":{},"10.0.0.7":{}}}}})",
           "pools.web.backends.10.0.0.7: is given twice"},
          {R"({"pools":{"web":{"forwarding":"l2","backends":{"fd00::7":{},"FD00:0::7":{}}}}})",
           "pools.web.backends.fd00::7: is given twice: it is fd00::7"},
          {R"({"services":{"203.0.113.10":{"pool":"web"}}})",
           "services.203.0.113.10: a service ends in /tcp or /udp (like 203.0.113.10:443/tcp, "
           "[2001:db8::10]:443/tcp or 203.0.113.10/udp)"},
          {R"({"services":{"203.0.113.10:443/tcp":{}}})",
           "services.203.0.113.10:443/tcp.pool: is missing (the name of a pool)"},
          {R"({"services":{"203.0.113.10:443/tcp":{"pool":["web"]}}})",
           "services.203.0.113.10:443/tcp.pool: must be a string, got an array"},
          {R"({"services":{"203.0.113.10:443/tcp":{"pool":"w b"}}})",
           "services.203.0.113.10:443/tcp.pool: there is no pool \"w b\""},
          {R"({"services":{"203.0.113.10:443/tcp":"web"}})",
           "services.203.0.113.10:443/tcp: must be an object, got a string"},
          {R"({"services":{"[2001:db8::10]:1/tcp":{"pool":"a"},"[2001:DB8::10]:1/tcp":{"pool":"b"}}})",
           "services.[2001:db8::10]:1/tcp: is given twice: it is [2001:db8::10]:1/tcp"},
          {"",
           "body: has neither pools nor services (to remove everything say so: "
           "{\"pools\":{},\"services\":{}})"},
          {R"({"revision":1})",
           "body: has neither pools nor services (to remove everything say so: "
           "{\"pools\":{},\"services\":{}})"},
          {R"({"revision":-1,"pools":{}})", "revision: must be 0 to 18446744073709551615, got -1"},
          {"{\"a\xff\":1}",
           "body: is not JSON: parse error at line 1, column 4: syntax error while parsing object "
           "key - invalid string: ill-formed UTF-8 byte; last read: '\"a\xff'; expected string "
           "literal"},
          {R"({"a\nb":1})",
           "a?b: unknown field (known here: revision, flow_seed, pools, services)"},
      },
      [](const char* body) -> std::optional<Error> {
        auto read = read_wanted_intent(body);
        if (read) return {};
        return read.error();
      });
}

TEST(IntentJson, BadPartsAreNamedByTheirPathInTheWhole) {
  expect_errors(
      {{R"({"weight":-1})", "pools.web.backends.10.0.0.7.weight: must be 0 to 65535, got -1"},
       {R"({"weight":65536})", "pools.web.backends.10.0.0.7.weight: must be 0 to 65535, got 65536"},
       {R"({"weight":99999999999999999999})",
        "pools.web.backends.10.0.0.7.weight: must be a whole number, 0 to 65535, got "
        "1e+20"},
       {R"({"weight":"1"})",
        "pools.web.backends.10.0.0.7.weight: must be a whole number, 0 to 65535, got "
        "\"1\""},
       {R"({"weight":null})",
        "pools.web.backends.10.0.0.7.weight: must be a whole number, 0 to 65535, got "
        "null"},
       {R"({"weigth":1})",
        "pools.web.backends.10.0.0.7.weigth: unknown field (known here: weight, mode, deadline_s)"},
       {R"({"mode":true})",
        "pools.web.backends.10.0.0.7.mode: must be \"enabled\", \"draining\" or \"disabled\", got "
        "true"},
       {R"({"mode":"draining","deadline_s":604801})",
        "pools.web.backends.10.0.0.7.deadline_s: must be 0 to 604800, got 604801"},
       {R"({"mode":"draining","deadline_s":"10m"})",
        "pools.web.backends.10.0.0.7.deadline_s: must be a whole number, 0 to 604800, got "
        "\"10m\""},
       {R"({"deadline_s":5})",
        "pools.web.backends.10.0.0.7.deadline_s: belongs to mode \"draining\" only"},
       {R"({"mode":"disabled","deadline_s":5})",
        "pools.web.backends.10.0.0.7.deadline_s: belongs to mode \"draining\" only"},
       {"nonsense",
        "pools.web.backends.10.0.0.7: is not JSON: parse error at line 1, column 2: "
        "syntax error while parsing value - invalid literal; last read: 'no'"}},
      [](const char* body) -> std::optional<Error> {
        auto read = read_wanted_backend(body, "web", address("10.0.0.7"), 0);
        if (read) return {};
        return read.error();
      });
}

TEST(IntentJson, BadProbesAreRefusedByField) {
  expect_errors(
      {{R"({"probe":"tcp:443"})", "pools.web.probe: must be an object or null, got a string"},
       {R"({"probe":{}})",
        "pools.web.probe.kind: is missing (\"none\", \"tcp\", \"icmp\", \"udp\" or \"http\")"},
       {R"({"probe":{"kind":"sctp"}})",
        "pools.web.probe.kind: must be \"none\", \"tcp\", \"icmp\", \"udp\" or \"http\", got "
        "\"sctp\""},
       {R"({"probe":{"kind":7}})",
        "pools.web.probe.kind: must be \"none\", \"tcp\", \"icmp\", \"udp\" or \"http\", got 7"},
       {R"({"probe":{"kind":"tcp"}})", "pools.web.probe.port: is missing (1 to 65535)"},
       {R"({"probe":{"kind":"tcp","port":0}})", "pools.web.probe.port: must be 1 to 65535, got 0"},
       {R"({"probe":{"kind":"udp","port":65536}})",
        "pools.web.probe.port: must be 1 to 65535, got 65536"},
       {R"({"probe":{"kind":"http","port":"80"}})",
        "pools.web.probe.port: must be a whole number, 1 to 65535, got \"80\""},
       {R"({"probe":{"kind":"icmp","port":7}})",
        "pools.web.probe.port: does not belong to a probe of kind icmp (known here: kind, "
        "interval_ms, timeout_ms, fall, rise)"},
       {R"({"probe":{"kind":"tcp","port":7,"path":"/"}})",
        "pools.web.probe.path: does not belong to a probe of kind tcp (known here: kind, port, "
        "interval_ms, timeout_ms, fall, rise)"},
       {R"({"probe":{"kind":"http","port":7,"query":"dns"}})",
        "pools.web.probe.query: does not belong to a probe of kind http (known here: kind, port, "
        "path, host, interval_ms, timeout_ms, fall, rise)"},
       {R"({"probe":{"kind":"none","interval_ms":7}})",
        "pools.web.probe.interval_ms: does not belong to a probe of kind none (known here: kind)"},
       {R"({"probe":{"kind":"icmp","intervall_ms":7}})",
        "pools.web.probe.intervall_ms: unknown field (known here: kind, interval_ms, timeout_ms, "
        "fall, rise)"},
       {R"({"probe":{"kind":"udp","port":7,"query":"ntp"}})",
        "pools.web.probe.query: must be \"dns\" or \"echo\", got \"ntp\""},
       {R"({"probe":{"kind":"http","port":7,"path":7}})",
        "pools.web.probe.path: must be a string, got a number"},
       {R"({"probe":{"kind":"http","port":7,"host":null}})",
        "pools.web.probe.host: must be a string, got null"},
       {R"({"probe":{"kind":"icmp","interval_ms":0}})",
        "pools.web.probe.interval_ms: must be 1 to 60000, got 0"},
       {R"({"probe":{"kind":"icmp","interval_ms":60001}})",
        "pools.web.probe.interval_ms: must be 1 to 60000, got 60001"},
       {R"({"probe":{"kind":"icmp","timeout_ms":0}})",
        "pools.web.probe.timeout_ms: must be 1 to 60000, got 0"},
       {R"({"probe":{"kind":"icmp","fall":0}})", "pools.web.probe.fall: must be 1 to 100, got 0"},
       {R"({"probe":{"kind":"icmp","fall":2.5}})",
        "pools.web.probe.fall: must be a whole number, 1 to 100, got 2.5"},
       {R"({"probe":{"kind":"icmp","rise":0}})", "pools.web.probe.rise: must be 1 to 100, got 0"},
       {R"({"slow_start_ms":-1})", "pools.web.slow_start_ms: must be 0 to 3600000, got -1"},
       {R"({"slow_start_ms":3600001})",
        "pools.web.slow_start_ms: must be 0 to 3600000, got 3600001"}},
      [](const char* body) -> std::optional<Error> {
        auto read = read_wanted_pool(body, "web");
        if (read) return {};
        return read.error();
      });
}

TEST(IntentJson, DepthBombsCostNothing) {
  for (const char* open : {"[", "{\"a\":"}) {
    std::string bomb;
    while (bomb.size() < (size_t{8} << 20)) bomb += open;
    auto read = read_wanted_intent(bomb);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().message, "is nested deeper than 16 levels");
  }
}

TEST(IntentJson, LongKeysAndValuesAreCutInErrors) {
  auto read = read_wanted_intent("{\"" + std::string(100000, 'k') + "\":1}");
  ASSERT_FALSE(read);
  EXPECT_LT(read.error().field.size(), 100u);
  read = read_wanted_intent("{\"pools\":{\"a\":{\"forwarding\":\"" + std::string(100000, 'v') +
                            "\"}}}");
  ASSERT_FALSE(read);
  EXPECT_LT(read.error().message.size(), 200u);
  read = read_wanted_intent("{\"pools\":" + std::string(100000, 'x'));
  ASSERT_FALSE(read);
  EXPECT_LT(read.error().message.size(), 300u);
}

TEST(IntentJson, StoredIntentsAreChecked) {
  expect_errors(
      {{R"({"revision":1,"flow_seed":1,"pools":{}})", "services: is missing"},
       {R"({"revision":1,"flow_seed":-1,"pools":{},"services":{}})",
        "flow_seed: must be 0 to 18446744073709551615, got -1"},
       {R"({"revision":1,"flow_seed":1,"pools":{},"services":{},"x":1})",
        "x: unknown field (known here: revision, flow_seed, pools, services)"},
       {R"({"revision":1,"flow_seed":1,"pools":{},"services":{"203.0.113.1/tcp":{"pool":"a"}}})",
        "services.203.0.113.1/tcp.pool: there is no pool 'a'"}},
      [](const char* body) -> std::optional<Error> {
        auto read = read_stored_intent(body);
        if (read) return {};
        return read.error();
      });
}

TEST(JsonText, QuotedIsAlwaysJson) {
  EXPECT_EQ(json_quoted("a\"b\\\n"), R"("a\"b\\\n")");
  EXPECT_EQ(json_quoted("\xff"), "\"\xef\xbf\xbd\"");
}

}  // namespace
}  // namespace guideway
