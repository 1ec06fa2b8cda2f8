// SPDX-License-Identifier: Apache-2.0
#include "controlplane/intent_keys.h"

#include <gtest/gtest.h>

#include <random>

#include "controlplane/intent_rules.h"
#include "controlplane/pool_plan.h"
#include "controlplane/sealed_text.h"

namespace guideway {
namespace {

Address address(int last) {
  return Address::parse("10.0.0." + std::to_string(last)).value();
}

ServiceKey service(int port) {
  return ServiceKey::parse("203.0.113.10:" + std::to_string(port) + "/tcp").value();
}

Intent sample() {
  Intent intent;
  intent.revision = 7;
  intent.flow_seed = 0x0123456789abcdef;
  Pool& web = intent.pools["web"];
  web.forwarding = Forwarding::gue;
  web.table_slots = 251;
  web.probe.kind = ProbeKind::http;
  web.probe.port = 8080;
  web.probe.path = "/healthz";
  web.backends[address(21)] = {7};
  web.backends[address(22)] = {7, BackendMode::draining, 1795435200};
  intent.pools["dns"].backends[address(30)] = {};
  intent.services[service(443)] = {"web"};
  intent.services[service(53)] = {"dns"};
  follow_plans(intent, intent);
  return intent;
}

struct Held {
  Held() { write(Intent{}, sample()); }

  // As a store would.
  void write(const Intent& before, const Intent& after) {
    for (const KeyWrite& one : key_writes(before, after)) put(one);
    keys_.set(kHeadKey, write_head({after.revision, after.flow_seed, 5, "edge-1"}));
  }
  void put(const KeyWrite& one) {
    if (one.value.empty()) {
      keys_.remove(one.key);
    } else {
      keys_.set(one.key, one.value);
    }
  }
  Intent read() {
    auto intent = keys_.intent(last_);
    EXPECT_TRUE(intent) << intent.error().text();
    if (intent) last_ = *intent;
    return last_;
  }

  IntentKeys keys_;
  Intent last_;
};

using Refused = std::map<std::string, std::string>;

class IntentKeysTest : public testing::Test, protected Held {};

TEST_F(IntentKeysTest, WhatIsWrittenIsRead) {
  EXPECT_EQ(read(), sample());
  EXPECT_EQ(keys_.head()->by, "edge-1");
  EXPECT_EQ(keys_.head()->cluster, 5u);
  EXPECT_TRUE(keys_.refused().empty());
}

TEST_F(IntentKeysTest, OnlyWhatDiffersIsWritten) {
  Intent next = sample();
  EXPECT_TRUE(key_writes(next, next).empty());
  next.pools["dns"].backends[address(31)] = {};
  next.services.erase(service(443));
  next.services[service(80)] = {"web"};
  std::vector<std::string> keys;
  for (const KeyWrite& one : key_writes(sample(), next)) keys.push_back(one.key);
  EXPECT_EQ(keys, (std::vector<std::string>{"services/203.0.113.10:443/tcp", "backends/dns",
                                            "services/203.0.113.10:80/tcp"}));
}

TEST_F(IntentKeysTest, WhatGoesIsGone) {
  read();
  Intent next = sample();
  next.services.erase(service(443));
  next.pools.erase("web");
  next.revision = 8;
  write(sample(), next);
  EXPECT_EQ(read(), next);
}

TEST_F(IntentKeysTest, WhatWentWhileNobodyListenedIsGone) {
  read();
  Intent next = sample();
  next.services.erase(service(53));
  next.pools.erase("dns");
  keys_.restart(last_);
  write(Intent{}, next);
  EXPECT_EQ(read(), next);
}

// Each value, each kind of harm: that object stays as it was, its key is named, the rest goes on.
TEST_F(IntentKeysTest, GarbageIsLeftOutAloneAndNamed) {
  read();
  const std::map<std::string, std::string> bad = {
      {"pools/web", "garbage"},
      {"backends/web", seal("{\"10.0.0.21\":{\"weight\":-1}}", "backends/web")},
      {"plans/web", seal("{}", "plans/web")},
      {"services/203.0.113.10:443/tcp", ""},
      {"services/203.0.113.10:53/tcp", seal("{\"pool\":\"dns\"}", "services/another")},
      {"pools/dns", "{\"format\":2,\"checksum\":\"0\"}\n{}\n"}};
  for (const auto& [key, value] : bad) {
    Held fresh;
    fresh.read();
    Intent next = sample();
    next.revision = 9;
    next.services[service(8443)] = {"web"};
    fresh.write(sample(), next);
    fresh.keys_.set(key, value);
    EXPECT_EQ(fresh.read(), next) << key;
    ASSERT_EQ(fresh.keys_.refused().size(), 1u) << key;
    EXPECT_EQ(fresh.keys_.is_newer(fresh.keys_.refused().begin()->first), key == "pools/dns");
    if (key != "backends/web" && key != "plans/web") {
      EXPECT_EQ(fresh.keys_.refused().begin()->first, key);
    }
    // It is well once the value is.
    for (const KeyWrite& one : key_writes(Intent{}, next)) fresh.put(one);
    EXPECT_EQ(fresh.read(), next);
    EXPECT_TRUE(fresh.keys_.refused().empty());
  }
}

TEST_F(IntentKeysTest, WhatContradictsItselfIsLeftOut) {
  read();
  keys_.set("services/203.0.113.10:80/tcp",
            seal("{\"pool\":\"nobody\"}", "services/203.0.113.10:80/tcp"));
  Intent next = sample();
  next.pools["dns"].backends[address(32)] = {};
  next.revision = 8;
  write(sample(), next);
  EXPECT_EQ(read(), next);
  EXPECT_EQ(keys_.refused(),
            (Refused{{"services/203.0.113.10:80/tcp",
                      "services.203.0.113.10:80/tcp.pool: there is no pool 'nobody'"}}))
      << keys_.refused().begin()->second;
  // The pool that was missing comes.
  next.pools["nobody"].backends[address(40)] = {};
  next.services[service(80)] = {"nobody"};
  next.revision = 9;
  Intent without = next;
  without.services.erase(service(80));
  without.pools.erase("nobody");
  Intent with_pool = without;
  with_pool.pools["nobody"] = next.pools["nobody"];
  write(without, with_pool);
  keys_.set(kHeadKey, write_head({9, next.flow_seed, 5, "edge-2"}));
  EXPECT_EQ(read(), next);
  EXPECT_TRUE(keys_.refused().empty());
}

TEST_F(IntentKeysTest, APoolStaysWhileAServiceNeedsIt) {
  read();
  keys_.remove("pools/dns");
  keys_.remove("backends/dns");
  EXPECT_EQ(read(), sample());
  EXPECT_EQ(keys_.refused().begin()->first, "pools/dns");
}

TEST_F(IntentKeysTest, ADamagedHeadRefusesAll) {
  read();
  for (const char* bad : {"", "x", "{\"format\":2,\"checksum\":\"\"}\n{}\n"}) {
    keys_.set(kHeadKey, bad);
    EXPECT_FALSE(keys_.intent(last_)) << bad;
  }
  keys_.set(kHeadKey, seal("{\"revision\":0}", kHeadKey));
  EXPECT_FALSE(keys_.intent(last_));
}

// Random changes, of which only a random number of the first writes are done: always a valid
// intent; all of them: the intent.
TEST_F(IntentKeysTest, AnyNumberOfTheFirstWritesIsValid) {
  std::mt19937 random(3);
  Intent now = sample();
  for (int round = 0; round < 300; ++round) {
    Intent next = now;
    for (unsigned i = random() % 5; i > 0; --i) {
      const std::string pool = "p" + std::to_string(random() % 4);
      switch (random() % 4) {
        case 0:
          next.pools[pool].backends[address(1 + static_cast<int>(random() % 9))] = {};
          break;
        case 1:
          next.pools[pool].forwarding = random() % 2 ? Forwarding::gue : Forwarding::ipip;
          next.pools[pool].table_slots = 251;
          break;
        case 2:
          next.services[service(1 + static_cast<int>(random() % 9))] = {pool};
          next.pools[pool];
          break;
        default:
          std::erase_if(next.services, [&](const auto& s) { return s.second.pool == pool; });
          next.pools.erase(pool);
      }
    }
    ++next.revision;
    follow_plans(next, next);
    ASSERT_TRUE(check_intent(next)) << check_intent(next).error().text();
    const auto writes = key_writes(now, next);
    const size_t some = random() % (writes.size() + 1);
    for (size_t i = 0; i < writes.size(); ++i) {
      put(writes[i]);
      if (i + 1 != some) continue;
      EXPECT_TRUE(check_intent(read()));
    }
    keys_.set(kHeadKey, write_head({next.revision, next.flow_seed, 5, ""}));
    ASSERT_EQ(read(), next) << round;
    EXPECT_TRUE(keys_.refused().empty()) << keys_.refused().begin()->second;
    now = next;
  }
}

}  // namespace
}  // namespace guideway
