// SPDX-License-Identifier: Apache-2.0
// What the client does about servers that fail: which requests it sends again, which not, and what
// it says.
#include "controlplane/etcd_calls.h"

#include <gtest/gtest.h>

#include "tests/controlplane/etcd_test_client.h"
#include "tests/controlplane/fake_etcd.h"

namespace guideway {
namespace {

using std::chrono::milliseconds;
using Peer = FakeEtcd::Peer;
using Request = FakeEtcd::Request;

constexpr const char* kRange = "/v3/kv/range";
constexpr const char* kTxn = "/v3/kv/txn";
constexpr const char* kAuthenticate = "/v3/auth/authenticate";

const std::string kGood = R"({"header":{"revision":"7","cluster_id":"1"},"succeeded":true})";
const std::string kNoLeader = R"({"message":"etcdserver: no leader","code":14})";
const std::string kTimedOut = R"({"message":"etcdserver: request timed out","code":14})";
const std::string kBadToken = R"({"message":"etcdserver: invalid auth token","code":16})";

bool good(const Request&, const Peer& peer) {
  return peer.answer(kGood);
}
bool silent(const Request&, const Peer& peer) {
  peer.wait_for_end();
  return false;
}
FakeEtcd::Serve always(const std::string& body, const std::string& status = "200 OK") {
  return [=](const Request&, const Peer& peer) { return peer.answer(body, status); };
}

EtcdConfig config_of(std::vector<std::string> endpoints) {
  EtcdConfig config;
  config.endpoints = std::move(endpoints);
  config.request_timeout = milliseconds(300);
  return config;
}
// Where nobody listens.
std::string nowhere() {
  return FakeEtcd(good).url;
}

TEST(EtcdCalls, AnotherEndpointIfThereIsNoConnection) {
  FakeEtcd second(good);
  const std::string first = nowhere();
  TestClient client(config_of({first, second.url}));
  EXPECT_EQ(client.endpoint(), first);
  const auto put = client.put("a", "b");
  ASSERT_TRUE(put) << put.error().text;
  EXPECT_EQ(client.endpoint(), second.url);
  EXPECT_EQ(client.problem(), "");
  ASSERT_TRUE(client.put("a", "c"));
  EXPECT_EQ(second.count(kTxn), 2U);
}

TEST(EtcdCalls, NobodyThere) {
  const std::string first = nowhere(), second = nowhere();
  TestClient client(config_of({first, second}));
  const auto put = client.put("a", "b");
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().kind, EtcdFailure::unreachable);
  EXPECT_EQ(put.error().text, first + ": Connection refused; " + second + ": Connection refused");
  EXPECT_EQ(client.problem(), put.error().text);
  EXPECT_EQ(client.range("a").error().kind, EtcdFailure::unreachable);
}

// libcurl would send it again by itself: the connection was kept from an earlier request.
TEST(EtcdCalls, ATxnIsNotSentTwiceWhenItsConnectionBreaks) {
  std::atomic<int> txns = 0;
  FakeEtcd first([&](const Request& request, const Peer& peer) {
    if (request.path == kTxn && ++txns >= 2) return false;
    return peer.answer(kGood);
  });
  FakeEtcd second(good);
  TestClient client(config_of({first.url, second.url}));
  ASSERT_TRUE(client.put("a", "1"));
  const auto put = client.put("a", "2");
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().kind, EtcdFailure::unknown);
  EXPECT_EQ(put.error().text, first.url + ": the connection broke before the answer");
  EXPECT_EQ(first.count(kTxn), 2U);
  EXPECT_EQ(second.count(kTxn), 0U);
  // Whoever asks next asks the other.
  ASSERT_TRUE(client.put("a", "3"));
  EXPECT_EQ(second.count(kTxn), 1U);
}

TEST(EtcdCalls, ARangeIsSentAgain) {
  FakeEtcd first([](const Request&, const Peer&) { return false; });
  FakeEtcd second(silent);
  FakeEtcd third(always("<html>", "502 Bad Gateway"));
  FakeEtcd fourth(always("not JSON"));
  FakeEtcd fifth(good);
  TestClient client(config_of({first.url, second.url, third.url, fourth.url, fifth.url}));
  const auto range = client.range("a");
  ASSERT_TRUE(range) << range.error().text;
  EXPECT_EQ(range->revision, 7);
}

TEST(EtcdCalls, WhatIsUnknownAboutATxn) {
  const std::pair<FakeEtcd::Serve, const char*> cases[] = {
      {silent, ": no answer in time"},
      {always("not JSON"), ": the answer to txn is none of etcd's: body: is not JSON"},
      {always(kTimedOut, "503 Unavailable"), ": etcdserver: request timed out"},
      {always("<html>", "502 Bad Gateway"), ": HTTP status 502: <html>"},
      {always(R"({"message":"etcdserver: mvcc: database space exceeded","code":8})", "400 No"),
       ": etcdserver: mvcc: database space exceeded"},
      {always(std::string(2 << 20, ' ')), ": txn: an answer of more than 1 MiB"},
  };
  for (const auto& [serve, text] : cases) {
    FakeEtcd first(serve), second(good);
    TestClient client(config_of({first.url, second.url}));
    const auto put = client.put("a", "b");
    ASSERT_FALSE(put) << text;
    EXPECT_EQ(put.error().kind, EtcdFailure::unknown) << text;
    EXPECT_TRUE(put.error().text.starts_with(first.url + text)) << put.error().text;
    EXPECT_EQ(second.count(kTxn), 0U) << text;
  }
}

TEST(EtcdCalls, AMemberWithoutALeaderHasDoneNothing) {
  FakeEtcd first(always(kNoLeader, "503 Unavailable")), second(good);
  TestClient client(config_of({first.url, second.url}));
  ASSERT_TRUE(client.put("a", "b"));
  EXPECT_EQ(first.count(kTxn), 1U);
  EXPECT_NE(first.requests().at(0).head.find("Grpc-Metadata-hasleader: true"), std::string::npos);
}

TEST(EtcdCalls, AnElectionIsWaitedFor) {
  std::atomic<int> asked = 0;
  FakeEtcd only([&](const Request&, const Peer& peer) {
    return ++asked < 3 ? peer.answer(kNoLeader, "503 Unavailable") : peer.answer(kGood);
  });
  TestClient client(config_of({only.url}));
  const auto put = client.put("a", "b");
  ASSERT_TRUE(put) << put.error().text;
  EXPECT_EQ(asked, 3);
}

TEST(EtcdCalls, AnElectionWithoutEndIsNot) {
  FakeEtcd first(always(kNoLeader, "503 Unavailable")), second(silent);
  TestClient client(config_of({first.url, second.url}));
  const auto range = client.range("a");
  ASSERT_FALSE(range);
  EXPECT_EQ(range.error().kind, EtcdFailure::unreachable);
  EXPECT_NE(range.error().text.find(first.url + ": etcdserver: no leader"), std::string::npos);
  EXPECT_NE(range.error().text.find(second.url + ": no answer in time"), std::string::npos);
}

TEST(EtcdCalls, ARefusalIsToldAtOnce) {
  FakeEtcd first(always(R"({"message":"etcdserver: permission denied","code":7})", "403 No"));
  FakeEtcd second(good);
  TestClient client(config_of({first.url, second.url}));
  for (const auto& error : {client.put("a", "b").error(), client.range("a").error()}) {
    EXPECT_EQ(error.kind, EtcdFailure::refused);
    EXPECT_EQ(error.text, first.url + ": etcdserver: permission denied");
  }
  EXPECT_EQ(second.requests().size(), 0U);
  EXPECT_EQ(client.problem(), first.url + ": etcdserver: permission denied");
}

TEST(EtcdCalls, AnswersWithoutEndAreCutOff) {
  FakeEtcd only([](const Request&, const Peer& peer) {
    peer.begin();
    const std::string piece(1 << 20, ' ');
    while (peer.send(piece)) continue;
    return false;
  });
  TestClient client(config_of({only.url}));
  const auto kept = client.keep_alive(1);
  ASSERT_FALSE(kept);
  EXPECT_EQ(kept.error().text, only.url + ": keepalive: an answer of more than 1 MiB");
  // 1,000 keys do not fit, nor 125, 15, 1.
  const auto range = client.range("a");
  ASSERT_FALSE(range);
  EXPECT_EQ(range.error().text, only.url + ": range: an answer of more than 64 MiB");
  EXPECT_EQ(only.count(kRange), 4U);
}

TEST(EtcdCalls, PagesThatDoNotGoOn) {
  const auto page = [](const std::string& kvs) {
    return R"({"header":{"revision":"7"},"more":true,"kvs":[)" + kvs + "]}";
  };
  const std::string a = R"({"key":"YQ==","mod_revision":"1"})";
  const std::string b = R"({"key":"Yg==","mod_revision":"1"})";
  for (const std::string& kvs : {a, a + "," + a, b, std::string()}) {
    FakeEtcd only(always(page(kvs)));
    TestClient client(config_of({only.url}));
    const auto range = client.range("a");
    ASSERT_FALSE(range) << kvs;
    EXPECT_NE(range.error().text.find("the answer to range is none of etcd's"), std::string::npos);
    EXPECT_LE(only.count(kRange), 2U);
  }
}

TEST(EtcdClientConfig, WhatIsRefused) {
  auto loop = std::move(*EventLoop::create());
  const auto error = [&](EtcdConfig config) {
    const auto made = EtcdClient::create(*loop, std::move(config));
    return made ? "none" : made.error().text();
  };
  const auto with = [&](std::vector<std::string> endpoints) {
    EtcdConfig config;
    config.endpoints = std::move(endpoints);
    return error(config);
  };
  EXPECT_EQ(with({"http://10.0.0.1:2379", "http://[::1]:2379", "http://etcd.example:1"}), "none");
  for (const char* bad : {"", "10.0.0.1:2379", "http://10.0.0.1", "http://10.0.0.1:2379/",
                          "http://10.0.0.1:2379/v3", "ftp://10.0.0.1:2379", "http://u@10.0.0.1:1",
                          "http://10.0.0.1:2379?a", "http://10.0.0.1:2379#a", "http://a:99999"})
    EXPECT_NE(with({bad}).find("is not one"), std::string::npos) << bad;
  EXPECT_NE(with({}).find("is empty"), std::string::npos);
  EXPECT_NE(with({"https://a:1", "http://a:1"}).find("mixed"), std::string::npos);
  EXPECT_NE(with({"https://a:1"}).find("ca_file: is needed"), std::string::npos);
  EtcdConfig config;
  config.endpoints = {"https://a:1"};
  config.ca_file = "/no/such/file";
  EXPECT_EQ(error(config), "/no/such/file: cannot be read");
  config.cert_file = config.ca_file;
  EXPECT_NE(error(config).find("go together"), std::string::npos);
  config = {};
  config.endpoints = {"http://a:1"};
  config.ca_file = "/etc/hostname";
  EXPECT_NE(error(config).find("are http"), std::string::npos);
  config.ca_file.clear();
  config.password = "secret";
  EXPECT_EQ(error(config), "user: is empty");
}

class EtcdToken : public testing::Test {
 protected:
  EtcdToken() {
    config_ = config_of({server_.url});
    config_.user = "guideway";
    config_.password = "open sesame";
  }
  bool serve(const Request& request, const Peer& peer) {
    if (request.path == kAuthenticate) {
      if (refuses_password_)
        return peer.answer(
            R"({"message":"etcdserver: authentication failed, open sesame is wrong","code":3})",
            "400 No");
      if (no_auth_)
        return peer.answer(R"({"message":"etcdserver: authentication is not enabled","code":9})",
                           "412 No");
      return peer.answer(R"({"token":"token.)" + std::to_string(++tokens_) + "\"}");
    }
    const size_t at = request.head.find("Authorization: token.");
    const int token = at == request.head.npos ? 0 : std::stoi(request.head.substr(at + 21));
    if (token < valid_from_) return peer.answer(kBadToken, "401 Unauthorized");
    return peer.answer(kGood);
  }

  std::atomic<int> tokens_ = 0, valid_from_ = 1;
  std::atomic<bool> refuses_password_ = false, no_auth_ = false;
  FakeEtcd server_{
      [this](const Request& request, const Peer& peer) { return serve(request, peer); }};
  EtcdConfig config_;
};

TEST_F(EtcdToken, IsFetchedOnceForAll) {
  TestClient client(config_);
  std::atomic<int> answers = 0;
  std::promise<void> all;
  client.run([&](EtcdClient& etcd) {
    for (int i = 0; i < 10; ++i)
      etcd.range("a", [&](const auto& range) {
        EXPECT_TRUE(range);
        if (++answers == 10) all.set_value();
      });
  });
  ASSERT_EQ(all.get_future().wait_for(kTestPatience), std::future_status::ready);
  EXPECT_EQ(tokens_, 1);
}

TEST_F(EtcdToken, IsRenewedAndTheRequestRepeated) {
  TestClient client(config_);
  ASSERT_TRUE(client.put("a", "b"));
  valid_from_ = 2;
  ASSERT_TRUE(client.put("a", "b"));
  EXPECT_EQ(server_.count(kTxn), 3U);
  EXPECT_EQ(tokens_, 2);
}

TEST_F(EtcdToken, IsRenewedOnceOnly) {
  valid_from_ = 1000;
  TestClient client(config_);
  const auto put = client.put("a", "b");
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().kind, EtcdFailure::refused);
  EXPECT_EQ(put.error().text, server_.url + ": etcdserver: invalid auth token");
  EXPECT_EQ(tokens_, 2);
}

TEST_F(EtcdToken, AWrongPasswordIsToldAndNotShown) {
  refuses_password_ = true;
  TestClient client(config_);
  const auto put = client.put("a", "b");
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().kind, EtcdFailure::refused);
  EXPECT_EQ(put.error().text,
            server_.url +
                ": authentication as guideway: etcdserver: authentication failed, "
                "*** is wrong");
  EXPECT_EQ(client.problem(), put.error().text);
  EXPECT_EQ(server_.count(kTxn), 0U);
}

TEST_F(EtcdToken, IsNotNeededWithoutAuthentication) {
  no_auth_ = true;
  valid_from_ = 0;
  TestClient client(config_);
  ASSERT_TRUE(client.put("a", "b"));
  ASSERT_TRUE(client.put("a", "b"));
  EXPECT_EQ(server_.count(kAuthenticate), 1U);
  // Then it is switched on.
  no_auth_ = false;
  valid_from_ = 1;
  ASSERT_TRUE(client.put("a", "b"));
}

}  // namespace
}  // namespace guideway
