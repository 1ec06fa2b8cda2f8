// SPDX-License-Identifier: Apache-2.0
// The encoding of etcd's JSON gateway: what is written is what etcd's own documentation and a real
// etcd 3.4.23 show; what is read may be anything.
#include "controlplane/etcd_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

namespace guideway {
namespace {

using nlohmann::json;

const std::string kHeader =
    R"("header":{"cluster_id":"15118495548433857066","member_id":"1","revision":"7","raft_term":"2"})";

// RFC 4648, section 10.
TEST(EtcdJson, Base64Vectors) {
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : vectors) {
    EXPECT_EQ(base64_of(bytes), text);
    EXPECT_EQ(bytes_of_base64(text), bytes);
  }
  EXPECT_EQ(base64_of(std::string("\0\xff\xfe", 3)), "AP/+");
}

TEST(EtcdJson, Base64IsReadBackAndNothingElseIs) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (size_t i = random() % 40; i > 0; --i) bytes += static_cast<char>(random());
    const std::string text = base64_of(bytes);
    ASSERT_EQ(bytes_of_base64(text), bytes);
    // Any other text of these letters is other bytes, or none.
    std::string other = text;
    if (other.empty()) continue;
    other[random() % other.size()] = "AZaz09+/=-_ \n\0\xff"[random() % 15];
    if (other == text) continue;
    const auto read = bytes_of_base64(other);
    ASSERT_EQ(read ? base64_of(*read) : other, other);
  }
  for (const char* bad :
       {"Z", "Zg", "Zg=", "Zh==", "Zm9=", "====", "=", "Zg==Zg==", "Zm9v\n", "Zm-_"})
    EXPECT_FALSE(bytes_of_base64(bad)) << bad;
}

TEST(EtcdJson, PrefixEnd) {
  EXPECT_EQ(prefix_end("a"), "b");
  EXPECT_EQ(prefix_end("/gw/"), "/gw0");
  EXPECT_EQ(prefix_end("a\xff"), "b");
  EXPECT_EQ(prefix_end("\xff\xff"), std::string(1, '\0'));
  EXPECT_EQ(prefix_end(""), std::string(1, '\0'));
  EXPECT_EQ(prefix_end("a\x7f"), "a\x80");
  // Whatever begins with it is before its end, and whatever is between them begins with it.
  std::mt19937 random(2);
  const auto any = [&] {
    std::string out;
    for (size_t i = random() % 4; i > 0; --i) out += "\x00\x01\xfe\xff"[random() % 4];
    return out;
  };
  for (int round = 0; round < 20000; ++round) {
    const std::string prefix = any(), key = any(), end = prefix_end(prefix);
    const bool inside = key >= prefix && (end == std::string(1, '\0') || key < end);
    ASSERT_EQ(inside, key.starts_with(prefix));
  }
}

TEST(EtcdJson, RequestsAsEtcdWantsThem) {
  EXPECT_EQ(json::parse(etcd_range_text("a", "b", 1000, 5)),
            json::parse(R"({"key":"YQ==","range_end":"Yg==","limit":"1000","revision":"5"})"));
  EXPECT_EQ(json::parse(etcd_range_text("a", "", 0, 0)), json::parse(R"({"key":"YQ=="})"));
  EXPECT_EQ(json::parse(etcd_grant_text(10)), json::parse(R"({"TTL":"10"})"));
  EXPECT_EQ(json::parse(etcd_lease_text(INT64_MAX)),
            json::parse(R"({"ID":"9223372036854775807"})"));
  EXPECT_EQ(json::parse(etcd_authenticate_text("u\"", "p\\")),
            json::parse(R"({"name":"u\"","password":"p\\"})"));
  EXPECT_EQ(json::parse(etcd_watch_text("a", 9)), json::parse(R"({"create_request":
      {"key":"YQ==","range_end":"Yg==","start_revision":"9","progress_notify":true,"fragment":true}})"));
  EtcdTxn txn;
  txn.compares = {{"a", 0}, {"b", 12}};
  txn.ops = {EtcdOp::put("a", "x", 77), EtcdOp::put("b", ""), EtcdOp::remove("c"),
             EtcdOp::remove_prefix("d")};
  EXPECT_EQ(json::parse(etcd_txn_text(txn)), json::parse(R"({
    "compare":[{"key":"YQ==","target":"MOD","result":"EQUAL","mod_revision":"0"},
               {"key":"Yg==","target":"MOD","result":"EQUAL","mod_revision":"12"}],
    "success":[{"request_put":{"key":"YQ==","value":"eA==","lease":"77"}},
               {"request_put":{"key":"Yg==","value":""}},
               {"request_delete_range":{"key":"Yw=="}},
               {"request_delete_range":{"key":"ZA==","range_end":"ZQ=="}}]})"));
  EXPECT_EQ(etcd_txn_text({}), "{}");
}

TEST(EtcdJson, APageWithItsZeroFieldsLeftOut) {
  const auto page = read_etcd_page("{" + kHeader + R"(,"kvs":[
    {"key":"YQ==","create_revision":"2","mod_revision":"9007199254740993","version":"1","value":"Yg==","lease":"-5"},
    {"key":"Yg==","create_revision":"3","mod_revision":"3"}],"more":true,"count":"9"})");
  ASSERT_TRUE(page) << page.error().text();
  EXPECT_EQ(page->revision, 7);
  EXPECT_EQ(page->cluster_id, 15118495548433857066U);
  EXPECT_TRUE(page->more);
  ASSERT_EQ(page->entries.size(), 2U);
  // Beyond what a double holds.
  EXPECT_EQ(page->entries[0], (EtcdKeyValue{"a", "b", 2, 9007199254740993, -5}));
  EXPECT_EQ(page->entries[1], (EtcdKeyValue{"b", "", 3, 3, 0}));
  const auto empty = read_etcd_page("{" + kHeader + "}");
  ASSERT_TRUE(empty);
  EXPECT_TRUE(empty->entries.empty());
  EXPECT_FALSE(empty->more);
}

TEST(EtcdJson, WhatIsNoPage) {
  const auto error = [](const std::string& text) {
    const auto page = read_etcd_page(text);
    return page ? "none" : page.error().text();
  };
  const auto with = [&](const std::string& rest) {
    return error("{" + kHeader + "," + rest + "}");
  };
  EXPECT_EQ(error("{}"), "header.revision: must be more than 0");
  EXPECT_EQ(error(R"({"header":{"revision":"-3"}})"), "header.revision: must be more than 0");
  EXPECT_EQ(error(R"({"header":3})"), "header.revision: must be more than 0");
  EXPECT_NE(error("[]").find("must be an object"), std::string::npos);
  EXPECT_NE(error("").find("is not JSON"), std::string::npos);
  EXPECT_EQ(with(R"("kvs":{})"), "kvs: must be an array, got an object");
  EXPECT_EQ(with(R"("kvs":[3])"), "kvs: must be an object, got a number");
  EXPECT_EQ(with(R"("kvs":[{"key":"a","mod_revision":"1"}])"), "kvs.key: must be base64");
  EXPECT_EQ(with(R"("kvs":[{"mod_revision":"1"}])"), "kvs.key: is missing");
  EXPECT_EQ(with(R"("kvs":[{"key":"YQ=="}])"), "kvs.mod_revision: must be more than 0");
  EXPECT_EQ(with(R"("more":"yes")"), "more: must be a boolean, got a string");
  for (const char* number : {R"("1x")", R"("")", R"(" 1")", R"("+1")", R"("9223372036854775808")",
                             "1.5", "true", R"("1e3")", "[]"}) {
    EXPECT_NE(with(std::string(R"("kvs":[{"key":"YQ==","mod_revision":)") + number + "}]")
                  .find("kvs.mod_revision: must be a whole number"),
              std::string::npos)
        << number;
  }
  EXPECT_NE(with(R"("a":)" + std::string(100000, '[')).find("nested deeper"), std::string::npos);
}

TEST(EtcdJson, OtherAnswers) {
  const auto txn = read_etcd_txn("{" + kHeader + R"(,"succeeded":true,"responses":[{}]})");
  ASSERT_TRUE(txn);
  EXPECT_TRUE(txn->succeeded);
  EXPECT_EQ(txn->revision, 7);
  EXPECT_FALSE(read_etcd_txn("{" + kHeader + "}")->succeeded);
  EXPECT_FALSE(read_etcd_txn(R"({"succeeded":true})"));
  EXPECT_EQ(read_etcd_grant("{" + kHeader + R"(,"ID":"4111120186912800009","TTL":"5"})"),
            4111120186912800009);
  EXPECT_FALSE(read_etcd_grant("{" + kHeader + "}"));
  EXPECT_EQ(read_etcd_keep_alive(R"({"result":{"ID":"123","TTL":"4"}})"), 4);
  EXPECT_EQ(read_etcd_keep_alive(R"({"result":{"ID":"123"}})"), 0);
  EXPECT_FALSE(read_etcd_keep_alive(R"({"result":{}})"));
  EXPECT_FALSE(read_etcd_keep_alive(R"({"error":"x"})"));
  EXPECT_EQ(*read_etcd_token(R"({"token":"abc.17"})"), "abc.17");
  for (const char* bad :
       {R"({"token":""})", "{}", R"({"token":"a\r\nX: y"})", R"({"token":"a b"})", "secret"}) {
    const auto token = read_etcd_token(bad);
    ASSERT_FALSE(token) << bad;
    EXPECT_EQ(token.error().text().find("secret"), std::string::npos);
  }
}

TEST(EtcdJson, Errors) {
  const auto said = read_etcd_error(R"({"error":"e","message":"etcdserver: no leader","code":14})");
  EXPECT_EQ(said.code, 14);
  EXPECT_EQ(said.message, "etcdserver: no leader");
  const auto streamed =
      read_etcd_error(R"({"error":{"grpc_code":16,"http_code":401,"message":"m"}})");
  EXPECT_EQ(streamed.code, 16);
  EXPECT_EQ(streamed.message, "m");
  for (const char* other :
       {"Not Found\n", "", "{}", R"({"code":"x"})", R"({"code":-1})", R"({"error":[]})"})
    EXPECT_EQ(read_etcd_error(other).code, 0) << other;
  EXPECT_EQ(read_etcd_error("Not Found\r\nmore").message, "Not Found");
  const auto long_one =
      read_etcd_error(R"({"message":"\u001b\n)" + std::string(5000, 'x') + R"(","code":2})");
  EXPECT_LT(long_one.message.size(), 210U);
  EXPECT_EQ(long_one.message.substr(0, 3), "??x");
}

// Every text that a change of a byte or a cut makes of a good one is read or refused.
TEST(EtcdJson, DamagedTextsAreReadOrRefused) {
  const std::string good = R"({"result":{)" + kHeader +
                           R"(,"created":true,"events":[{"type":"DELETE","kv":{"key":"YQ==",)"
                           R"("mod_revision":"7"}}],"compact_revision":"1"}})";
  ASSERT_TRUE(read_etcd_watch(good));
  std::mt19937 random(3);
  for (size_t cut = 0; cut < good.size(); ++cut) EXPECT_FALSE(read_etcd_watch(good.substr(0, cut)));
  for (int round = 0; round < 20000; ++round) {
    std::string text = good;
    for (size_t i = random() % 3 + 1; i > 0; --i)
      text[random() % text.size()] = static_cast<char>(random());
    const auto line = read_etcd_watch(text);
    for (const EtcdEvent& event : line ? line->message.events : std::vector<EtcdEvent>{})
      ASSERT_GT(event.kv.mod_revision, 0);
    (void)read_etcd_page(text);
    (void)read_etcd_error(text);
  }
}

}  // namespace
}  // namespace guideway
