// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/intent_file.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "controlplane/intent_change.h"
#include "controlplane/intent_json.h"

namespace guideway::cli {
namespace {

constexpr const char* kEdge = R"(# one pool, two services
[pools.web]
forwarding = "ipip"
table_slots = 65537
[pools.web.backends]
"10.0.0.21" = { weight = 100 }
"10.0.0.22" = {}
[services]
"203.0.113.10:443/tcp" = { pool = "web" }
"[2001:db8::10]:443/tcp" = { pool = "web" }
)";

TEST(IntentFile, BecomesTheBodyOfPutIntent) {
  auto file = IntentFile::parse(kEdge, "edge.toml");
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_EQ(file->json,
            R"({"pools":{"web":{"backends":{"10.0.0.21":{"weight":100},"10.0.0.22":{}},)"
            R"("forwarding":"ipip","table_slots":65537}},)"
            R"("services":{"203.0.113.10:443/tcp":{"pool":"web"},)"
            R"("[2001:db8::10]:443/tcp":{"pool":"web"}}})");
}

TEST(IntentFile, KnowsThePlaceOfAField) {
  auto file = IntentFile::parse(kEdge, "edge.toml");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->place("pools.web.table_slots", "edge.toml"), "edge.toml:4:15");
  EXPECT_EQ(file->place("pools.web.backends.10.0.0.21.weight", "edge.toml"), "edge.toml:6:26");
  EXPECT_EQ(file->place("services.[2001:db8::10]:443/tcp.pool", "edge.toml"), "edge.toml:10:37");
  // Of a field that the file lacks: what should hold it.
  EXPECT_EQ(file->place("services.203.0.113.10:443/tcp.missing", "edge.toml"), "edge.toml:9:26");
  EXPECT_EQ(file->place("pools.other", "edge.toml"), "edge.toml:2:1");
  EXPECT_EQ(file->place("elsewhere", "edge.toml"), "edge.toml");
  EXPECT_EQ(file->place("", "edge.toml"), "edge.toml");
}

TEST(IntentFile, ProbesAndTimes) {
  auto file = IntentFile::parse(
      "[pools.web]\nforwarding = \"l2\"\nprobe = { kind = \"http\", port = 80, path = \"/x\" }\n"
      "[pools.web.backends]\n"
      "\"10.0.0.21\" = { mode = \"draining\", drain_until = 2026-11-23T12:00:00Z }\n",
      "f");
  ASSERT_TRUE(file) << file.error().text();
  auto wanted = read_wanted_intent(file->json);
  ASSERT_TRUE(wanted) << wanted.error().text();
  auto intent = replace_intent(Intent{}, *wanted);
  ASSERT_TRUE(intent) << intent.error().error.text();
  EXPECT_EQ(intent->pools["web"].probe.path, "/x");
  EXPECT_EQ(intent->pools["web"].backends.begin()->second,
            (Backend{100, BackendMode::draining, 1795435200}));
  EXPECT_EQ(file->place("pools.web.probe.port", "f"), "f:3:33");
}

TEST(IntentFile, TheExampleIsGood) {
  const char* path = std::getenv("GUIDEWAY_EXAMPLE");
  ASSERT_NE(path, nullptr);
  auto file = IntentFile::load(path);
  ASSERT_TRUE(file) << file.error().text();
  auto wanted = read_wanted_intent(file->json);
  ASSERT_TRUE(wanted) << wanted.error().text();
  auto intent = replace_intent(Intent{}, *wanted);
  ASSERT_TRUE(intent) << intent.error().error.text();
  EXPECT_EQ(intent->pools.size(), 3u);
}

TEST(IntentFile, PassesWrongTypesOnToTheServer) {
  auto file = IntentFile::parse("pools = [1, 2.5, true, \"x\", 2026-11-22]", "f");
  ASSERT_TRUE(file) << file.error().text();
  EXPECT_EQ(file->json, R"({"pools":[1,2.5,true,"x","2026-11-22"]})");
}

TEST(IntentFile, NamesLineAndColumnOfASyntaxError) {
  struct {
    const char* toml;
    const char* field;
  } cases[] = {
      {"[pools.web\nforwarding = \"l2\"\n", "f:1:11"},
      {"[pools.web]\nforwarding = \n", "f:2:14"},
      {"[pools.web]\nforwarding = \"l2\"\nforwarding = \"ipip\"\n", "f:3:14"},
      {"[pools]\n\"a\" = {}\n[services]\n\"v\" = { pool = \"a\" }\n\"v\" = { pool = \"b\" }\n",
       "f:5:7"},
  };
  for (const auto& bad : cases) {
    auto file = IntentFile::parse(bad.toml, "f");
    ASSERT_FALSE(file) << bad.toml;
    EXPECT_EQ(file.error().field, bad.field) << bad.toml << file.error().text();
    EXPECT_FALSE(file.error().message.empty());
  }
}

TEST(IntentFile, AnEmptyFileDoesNotRemoveEverything) {
  for (const char* toml : {"", "# nothing\n", "[pool.web]\nforwarding = \"l2\"\n"}) {
    auto file = IntentFile::parse(toml, "f");
    ASSERT_FALSE(file) << toml;
    EXPECT_EQ(file.error().message, "has neither [pools] nor [services]");
  }
  auto file = IntentFile::parse("[pools]\n[services]\n", "f");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->json, R"({"pools":{},"services":{}})");
}

TEST(IntentFile, BytesThatAreNoTextAreAnError) {
  auto file = IntentFile::parse(std::string_view("[pools]\nx = \"\xff\xfe\"\n", 17), "f");
  EXPECT_FALSE(file);
  EXPECT_FALSE(IntentFile::parse(std::string_view("\0\0[", 3), "f"));
}

}  // namespace
}  // namespace guideway::cli
