// SPDX-License-Identifier: Apache-2.0
#include "controlplane/intent_json.h"

#include <gtest/gtest.h>

#include "controlplane/json_text.h"

namespace guideway {
namespace {

constexpr const char* kDocument =
    R"({"pools":{"web":{"forwarding":"ipip","table_slots":65537,"backends":{"10.0.0.21":{"weight":100},"fd00::22":{"weight":0}}}},"services":{"203.0.113.10:443/tcp":{"pool":"web"},"[2001:db8::10]/udp":{"pool":"web"}}})";

TEST(IntentJson, WhatIsWrittenIsReadAgain) {
  auto wanted = read_wanted_intent(kDocument);
  ASSERT_TRUE(wanted) << wanted.error().text();
  Intent intent;
  intent.revision = 18446744073709551615u;
  intent.flow_seed = 18446744073709551614u;
  intent.pools = wanted->pools;
  intent.services = wanted->services;
  auto stored = read_stored_intent(write_stored_intent(intent));
  ASSERT_TRUE(stored) << stored.error().text();
  EXPECT_EQ(*stored, intent);
  auto shown = read_wanted_intent(write_intent(intent));
  ASSERT_TRUE(shown) << shown.error().text();
  EXPECT_EQ(shown->revision, intent.revision);
  EXPECT_EQ(shown->pools, intent.pools);
  EXPECT_EQ(shown->services, intent.services);
}

TEST(IntentJson, DefaultsAndEmptyBodies) {
  auto wanted =
      read_wanted_intent(R"({"pools":{"a":{"forwarding":"l2","backends":{"10.0.0.1":{}}}}})");
  ASSERT_TRUE(wanted) << wanted.error().text();
  EXPECT_EQ(wanted->pools["a"].table_slots, 65537u);
  EXPECT_EQ(wanted->pools["a"].backends.begin()->second.weight, 100u);
  auto pool = read_wanted_pool("", "web");
  ASSERT_TRUE(pool);
  EXPECT_FALSE(pool->forwarding || pool->table_slots || pool->backends);
  auto weight = read_wanted_backend("", "web", Address::parse("10.0.0.1").value());
  ASSERT_TRUE(weight);
  EXPECT_FALSE(*weight);
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
          {R"({"pools":{"web":{}}})", "pools.web.forwarding: is missing (\"l2\" or \"ipip\")"},
          {R"({"pools":{"web":{"forwarding":"gre"}}})",
           "pools.web.forwarding: must be \"l2\" or \"ipip\", got \"gre\""},
          {R"({"pools":{"web":{"forwarding":1}}})",
           "pools.web.forwarding: must be \"l2\" or \"ipip\", got 1"},
          {R"({"pools":{"web":{"forwarding":"l2","table_slots":65537.5}}})",
           "pools.web.table_slots: must be a whole number, 251 to 16777213, got 65537.5"},
          {R"({"pools":{"web":{"forwarding":"l2","table_slots":1e9}}})",
           "pools.web.table_slots: must be a whole number, 251 to 16777213, got 1000000000.0"},
          {R"({"pools":{"web":{"forwarding":"l2","check":"tcp"}}})",
           "pools.web.check: unknown field (known here: forwarding, table_slots, backends)"},
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
        "pools.web.backends.10.0.0.7.weigth: unknown field (known here: weight)"},
       {"nonsense",
        "pools.web.backends.10.0.0.7: is not JSON: parse error at line 1, column 2: "
        "syntax error while parsing value - invalid literal; last read: 'no'"}},
      [](const char* body) -> std::optional<Error> {
        auto read = read_wanted_backend(body, "web", Address::parse("10.0.0.7").value());
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
