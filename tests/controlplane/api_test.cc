// SPDX-License-Identifier: Apache-2.0
#include "controlplane/api.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "controlplane/event_loop.h"
#include "controlplane/http_server.h"
#include "tests/controlplane/fake_control.h"
#include "tests/controlplane/unix_client.h"

namespace guideway {
namespace {

using nlohmann::json;
using test::http;
using test::http_text;
using test::HttpAnswer;
using test::UnixClient;

struct Bad {
  int status;
  const char* method;
  const char* target;
  const char* body;
  const char* field;
  const char* message;
};

class ApiTest : public testing::Test {
 protected:
  static constexpr int64_t kNow = 1795435200;  // 2026-11-23T12:00:00Z

  ApiTest() {
    char name[] = "/tmp/guideway-api-XXXXXX";
    directory_ = mkdtemp(name);
    config_.path = directory_ + "/run/control.sock";
    loop_ = std::move(EventLoop::create().value());
    api_ = std::make_unique<Api>(*loop_, control_, std::chrono::milliseconds(200),
                                 [] { return kNow; });
    thread_ = std::thread([this] { loop_->run(); });
    // Until it runs, in_loop() is undecided.
    loop_->call([] {});
  }

  ~ApiTest() override {
    server_.reset();
    loop_->stop();
    thread_.join();
    std::filesystem::remove_all(directory_);
  }

  void start() {
    auto server = HttpServer::start(
        config_, [this](const HttpRequest& request) { return api_->handle(request); },
        Api::http_error_body);
    ASSERT_TRUE(server) << server.error().text();
    server_ = std::move(*server);
  }

  HttpAnswer call(const std::string& method, const std::string& target,
                  const std::string& body = "", const std::string& headers = "") {
    return http(config_.path, method, target, body, headers);
  }

  // The answer's JSON; the status must be as said.
  json expect(int status, const std::string& method, const std::string& target,
              const std::string& body = "", const std::string& headers = "") {
    HttpAnswer answer = call(method, target, body, headers);
    EXPECT_EQ(answer.status, status) << method << " " << target << " " << answer.body;
    return json::parse(answer.body, nullptr, false);
  }

  void expect_error(int status, const std::string& method, const std::string& target,
                    const std::string& body, const std::string& field, const std::string& message) {
    json answer = expect(status, method, target, body);
    ASSERT_TRUE(answer.contains("error")) << answer;
    EXPECT_EQ(answer["error"]["field"], field) << method << " " << target;
    EXPECT_EQ(answer["error"]["message"], message) << method << " " << target;
    EXPECT_TRUE(answer["error"]["hint"].is_string());
  }

  void make_web() {
    expect(
        200, "PUT", "/v1/intent",
        R"({"pools":{"web":{"forwarding":"ipip","backends":{"10.0.0.21":{},"10.0.0.22":{"weight":300}}}},
               "services":{"203.0.113.10:443/tcp":{"pool":"web"}}})");
  }

  std::string directory_;
  HttpServer::Config config_;
  test::FakeControl control_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Api> api_;
  std::thread thread_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(ApiTest, ALifeOfAPool) {
  start();
  json answer = expect(200, "PUT", "/v1/pools/web", R"({"forwarding":"l2"})");
  EXPECT_EQ(answer, json::parse(R"({"revision":1,"changed":true,"adopted":true,"generation":1})"));
  answer = expect(200, "PUT", "/v1/pools/web", R"({"forwarding":"l2"})");
  EXPECT_EQ(answer, json::parse(R"({"revision":1,"changed":false,"adopted":true,"generation":1})"));
  expect(200, "PUT", "/v1/pools/web/backends/10.0.0.21");
  expect(200, "PUT", "/v1/pools/web/backends/10.0.0.99", R"({"weight":300})");
  expect(200, "PUT", "/v1/services/203.0.113.10:443/tcp", R"({"pool":"web"})");
  answer = expect(200, "GET", "/v1/intent");
  EXPECT_EQ(answer, json::parse(R"({"revision":4,"flow_seed":"0000000000000001",
    "pools":{"web":{"forwarding":"l2","table_slots":65537,"probe":null,"slow_start_ms":0,"hold_s":86400,
      "backends":{"10.0.0.21":{"weight":100,"mode":"enabled"},
                  "10.0.0.99":{"weight":300,"mode":"enabled"}}}},
    "services":{"203.0.113.10:443/tcp":{"pool":"web"}}})"));
  answer = expect(200, "GET", "/v1/pools/web");
  EXPECT_EQ(answer["services"], 1);
  EXPECT_EQ(answer["digest"].get<std::string>().size(), 16u);
  EXPECT_EQ(answer["backends"][0]["state"], "up");
  EXPECT_EQ(answer["backends"][0]["next_hop"]["interface"], "eth1");
  EXPECT_NEAR(answer["backends"][0]["share"], 0.25, 0.001);
  EXPECT_EQ(answer["backends"][1]["state"], "no_next_hop");
  EXPECT_EQ(answer["backends"][1]["reason"], "no route to 10.0.0.99");
  EXPECT_EQ(answer["backends"][1]["next_hop"], nullptr);
  answer = expect(200, "GET", "/v1/services/203.0.113.10:443/tcp");
  EXPECT_EQ(answer["state"], "degraded");
  EXPECT_EQ(answer["reason"], "1 of 2 backends of pool web are up");
  EXPECT_EQ(expect(200, "GET", "/v1/services")["services"][0], answer);
  EXPECT_EQ(expect(200, "GET", "/v1/pools")["pools"].size(), 1u);
  EXPECT_EQ(expect(200, "GET", "/v1/status")["services"].size(), 1u);
  expect_error(409, "DELETE", "/v1/pools/web", "", "pools.web",
               "is used by service 203.0.113.10:443/tcp");
  expect(200, "DELETE", "/v1/services/203.0.113.10:443/tcp");
  expect(200, "DELETE", "/v1/pools/web/backends/10.0.0.99");
  expect(200, "DELETE", "/v1/pools/web");
  EXPECT_EQ(expect(200, "GET", "/v1/intent")["revision"], 7);
  EXPECT_NE(control_.last_who.find("pid " + std::to_string(getpid())), std::string::npos);
}

TEST_F(ApiTest, TheNodeInServiceAndOut) {
  start();
  EXPECT_EQ(expect(200, "GET", "/v1/node"),
            json::parse(R"({"mode":"normal","state":"normal","quiet":false})"));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(expect(200, "PUT", "/v1/node", R"({"mode":"drained"})"),
              json::parse(R"({"mode":"drained","state":"draining","quiet":false})"));
  }
  control_.mode = {NodeMode::drained, true};
  EXPECT_EQ(expect(200, "GET", "/v1/node"),
            json::parse(R"({"mode":"drained","state":"drained","quiet":true})"));
  control_.store_fails = true;
  expect_error(500, "PUT", "/v1/node", R"({"mode":"normal"})", "/state/node.json",
               "cannot be written: No space left on device");
  control_.store_fails = false;
  EXPECT_EQ(expect(200, "PUT", "/v1/node", R"({"mode":"normal"})")["state"], "normal");
  expect_error(400, "PUT", "/v1/node", "{}", "mode", "is missing");
  expect_error(400, "PUT", "/v1/node", R"({"mode":"draining"})", "mode",
               "must be normal or drained, got \"draining\"");
  expect_error(400, "PUT", "/v1/node", R"({"mode":"normal","for":1})", "for", "unknown key");
  expect_error(405, "DELETE", "/v1/node", "", "", "DELETE is not possible here");
}

TEST_F(ApiTest, WholeIntentWithDryRun) {
  start();
  const std::string body = R"({"pools":{"web":{"forwarding":"ipip","backends":{"10.0.0.21":{}}}}})";
  json answer = expect(200, "PUT", "/v1/intent?dry_run=1", body);
  EXPECT_EQ(answer, json::parse(R"({"revision":0,"changed":false,"adopted":false,"generation":0,
    "differences":[{"op":"add","what":"pool web","from":null,"to":"ipip, 65537 slots, 1 backend"}]})"));
  EXPECT_EQ(expect(200, "GET", "/v1/intent")["revision"], 0);
  answer = expect(200, "PUT", "/v1/intent", body);
  EXPECT_EQ(answer["changed"], true);
  EXPECT_EQ(answer["differences"].size(), 1u);
  answer = expect(200, "PUT", "/v1/intent", body);
  EXPECT_EQ(answer["changed"], false);
  EXPECT_EQ(answer["differences"], json::array());
  // What GET says can be sent back, until something changes.
  std::string whole = call("GET", "/v1/intent").body;
  expect(200, "PUT", "/v1/intent", whole);
  expect(200, "PUT", "/v1/pools/web", R"({"table_slots":251})");
  expect_error(409, "PUT", "/v1/intent", whole, "revision", "the intent is at revision 2, not 1");
  // Nor is it refused when it is so already.
  expect(200, "PUT", "/v1/pools/web", R"({"table_slots":65537})");
  answer = expect(200, "PUT", "/v1/intent", whole);
  EXPECT_EQ(answer["changed"], false);
  EXPECT_EQ(answer["revision"], 3);
}

TEST_F(ApiTest, ABackupIsRestoredIntoANewNodeOnly) {
  start();
  const std::string backup =
      R"({"revision":12,"flow_seed":"fedcba9876543210","pools":{"web":{"forwarding":"l2"}}})";
  json answer = expect(200, "PUT", "/v1/intent", backup);
  EXPECT_EQ(answer["changed"], true);
  EXPECT_EQ(answer["revision"], 1);
  EXPECT_EQ(loop_->call([&] { return control_.intent()->flow_seed; }), 0xfedcba9876543210u);
  EXPECT_EQ(expect(200, "GET", "/v1/intent")["flow_seed"], "fedcba9876543210");
  // Again: nothing to do.
  EXPECT_EQ(expect(200, "PUT", "/v1/intent", backup)["changed"], false);
  expect_error(409, "PUT", "/v1/intent", R"({"flow_seed":"fedcba9876543211","pools":{}})",
               "flow_seed", "this node has another one, and another would move its flows");
  answer = expect(200, "PUT", "/v1/intent", R"({"flow_seed":"FEDCBA9876543210","pools":{}})");
  EXPECT_EQ(answer["revision"], 2);
  for (const char* seed : {"1", "\"\"", "\"fedcba987654321\"", "\"fedcba98765432100\"",
                           "\"fedcba987654321g\"", "\"-edcba9876543210\"", "null"}) {
    answer =
        expect(400, "PUT", "/v1/intent", R"({"pools":{},"flow_seed":)" + std::string(seed) + "}");
    EXPECT_EQ(answer["error"]["field"], "flow_seed");
  }
}

TEST_F(ApiTest, ProbesAndSlowStart) {
  start();
  make_web();
  const json tcp = json::parse(
      R"({"kind":"tcp","port":443,"interval_ms":10,"timeout_ms":10,"fall":3,"rise":2})");
  expect(200, "PUT", "/v1/pools/web",
         R"({"probe":{"kind":"tcp","port":443,"interval_ms":10},"slow_start_ms":30000})");
  json web = expect(200, "GET", "/v1/intent")["pools"]["web"];
  EXPECT_EQ(web["probe"], tcp);
  EXPECT_EQ(web["slow_start_ms"], 30000);
  json shown = expect(200, "GET", "/v1/pools/web");
  EXPECT_EQ(shown["probe"], tcp);
  EXPECT_EQ(shown["slow_start_ms"], 30000);
  // Of a pool, what is absent stays.
  json answer = expect(200, "PUT", "/v1/pools/web", R"({"forwarding":"ipip"})");
  EXPECT_EQ(answer["changed"], false);
  // What GET says can be sent back.
  answer = expect(200, "PUT", "/v1/intent", call("GET", "/v1/intent").body);
  EXPECT_EQ(answer["changed"], false);
  // Of the whole intent, what is absent has its default.
  answer = expect(200, "PUT", "/v1/intent?dry_run=1", R"({"pools":{"web":{"forwarding":"ipip",
    "backends":{"10.0.0.21":{},"10.0.0.22":{"weight":300}}}},
    "services":{"203.0.113.10:443/tcp":{"pool":"web"}}})");
  EXPECT_EQ(answer["differences"], json::parse(R"([
    {"op":"change","what":"pool web probe",
     "from":"tcp:443 every 10 ms, time-out 10 ms, fall 3, rise 2","to":"none"},
    {"op":"change","what":"pool web slow start","from":"30 s","to":"none"}])"));
  expect(200, "PUT", "/v1/pools/web", R"({"probe":null,"slow_start_ms":0})");
  EXPECT_EQ(expect(200, "GET", "/v1/pools/web")["probe"], nullptr);
}

TEST_F(ApiTest, DrainEnableDisable) {
  start();
  make_web();
  const std::string backend = "/v1/pools/web/backends/10.0.0.22";
  auto stored = [&] { return expect(200, "GET", "/v1/intent")["pools"]["web"]["backends"]; };
  auto shown = [&] { return expect(200, "GET", "/v1/pools/web")["backends"][1]; };
  expect(200, "PUT", backend, R"({"mode":"draining"})");
  EXPECT_EQ(control_.last_what, "draining backend web 10.0.0.22");
  EXPECT_EQ(
      stored()["10.0.0.22"],
      json::parse(R"({"weight":300,"mode":"draining","drain_until":"2026-11-23T12:10:00Z"})"));
  EXPECT_EQ(shown()["mode"], "draining");
  EXPECT_EQ(shown()["state"], "draining");
  EXPECT_EQ(shown()["drain_until"], "2026-11-23T12:10:00Z");
  // In the same second it is the same; another deadline is a change.
  EXPECT_EQ(expect(200, "PUT", backend, R"({"mode":"draining"})")["changed"], false);
  expect(200, "PUT", backend, R"({"mode":"draining","deadline_s":1,"weight":200})");
  EXPECT_EQ(stored()["10.0.0.22"]["drain_until"], "2026-11-23T12:00:01Z");
  EXPECT_EQ(stored()["10.0.0.22"]["weight"], 200);
  // A document that knows nothing of the drain does not end it.
  json answer = expect(200, "PUT", "/v1/intent", R"({"pools":{"web":{"forwarding":"ipip",
    "backends":{"10.0.0.21":{},"10.0.0.22":{"weight":300}}}},"services":{}})");
  EXPECT_EQ(stored()["10.0.0.22"]["drain_until"], "2026-11-23T12:00:01Z");
  expect(200, "PUT", backend, R"({"mode":"draining","deadline_s":0})");
  EXPECT_EQ(stored()["10.0.0.22"]["drain_until"], nullptr);
  EXPECT_EQ(shown()["drain_until"], nullptr);
  expect(200, "PUT", backend, R"({"mode":"disabled"})");
  EXPECT_EQ(stored()["10.0.0.22"], json::parse(R"({"weight":300,"mode":"disabled"})"));
  EXPECT_EQ(shown()["state"], "disabled");
  answer = expect(200, "PUT", backend, R"({"mode":"enabled"})");
  EXPECT_EQ(answer["changed"], true);
  EXPECT_EQ(shown()["state"], "up");
  EXPECT_EQ(expect(200, "PUT", backend, R"({"mode":"enabled"})")["changed"], false);
  expect_error(404, "PUT", "/v1/pools/web/backends/10.0.0.23", R"({"mode":"draining"})",
               "pools.web.backends.10.0.0.23", "there is no such backend");
  expect(200, "PUT", "/v1/pools/web/backends/10.0.0.23", R"({"mode":"disabled"})");
}

TEST_F(ApiTest, Events) {
  start();
  EXPECT_EQ(expect(200, "GET", "/v1/events"), json::parse(R"({"events":[],"next":0,"limit":100})"));
  EXPECT_EQ(expect(200, "GET", "/v1/events?since=18446744073709551615&limit=10000"),
            json::parse(R"({"events":[],"next":18446744073709551615,"limit":10000})"));
  expect_error(405, "PUT", "/v1/events", "", "", "PUT is not possible here");
  const Bad table[] = {
      {400, "GET", "/v1/events?limit=0", "", "limit", "must be 1 to 10000, got 0"},
      {400, "GET", "/v1/events?limit=10001", "", "limit", "must be 1 to 10000, got 10001"},
      {400, "GET", "/v1/events?limit=", "", "limit", "must be 1 to 10000, got \"\""},
      {400, "GET", "/v1/events?since=-1", "", "since",
       "must be 0 to 18446744073709551615, got \"-1\""},
      {400, "GET", "/v1/events?since=1x", "", "since",
       "must be 0 to 18446744073709551615, got \"1x\""},
      {400, "GET", "/v1/events?since=18446744073709551616", "", "since",
       "must be 0 to 18446744073709551615, got \"18446744073709551616\""},
      {400, "GET", "/v1/events?since=1&since=2", "", "since", "is given twice"},
      {400, "GET", "/v1/events?pool=web", "", "pool", "unknown query parameter"},
  };
  for (const Bad& bad : table) {
    expect_error(bad.status, bad.method, bad.target, bad.body, bad.field, bad.message);
  }
}

TEST_F(ApiTest, WaitForAdoption) {
  start();
  control_.adopts = false;
  json answer = expect(200, "PUT", "/v1/pools/a?wait=adopted", R"({"forwarding":"l2"})");
  EXPECT_EQ(answer["adopted"], false);
  UnixClient client(config_.path);
  client.send(http_text("PUT", "/v1/pools/b?wait=adopted", R"({"forwarding":"l2"})"));
  // The request has come so far when its revision is there; then the dataplane answers.
  while (loop_->call([&] { return control_.intent()->revision; }) != 2u) std::this_thread::yield();
  loop_->call([&] { control_.adopt(); });
  answer = json::parse(client.receive().body);
  EXPECT_EQ(answer, json::parse(R"({"revision":2,"changed":true,"adopted":true,"generation":1})"));
}

TEST_F(ApiTest, Explain) {
  start();
  make_web();
  json answer =
      expect(200, "GET", "/v1/explain?client=198.51.100.7:40000&service=203.0.113.10:443/tcp");
  EXPECT_EQ(answer["service"], "203.0.113.10:443/tcp");
  EXPECT_EQ(answer["pool"], "web");
  EXPECT_EQ(answer["slots"], 65537);
  ASSERT_EQ(answer["hops"].size(), 2u);
  EXPECT_EQ(answer["hops"][0]["role"], "owner");
  EXPECT_EQ(answer["hops"][0]["takes"], true);
  EXPECT_EQ(answer["hops"][1]["role"], "stand-in");
  EXPECT_EQ(answer["hops"][1]["reason"], "later in the list");
  EXPECT_EQ(answer["backend"], answer["hops"][0]["address"]);
  EXPECT_EQ(answer["why"], answer["backend"].get<std::string>() + " owns slot " +
                               std::to_string(answer["slot"].get<int>()) + " and takes new flows");
  // The same flow, its owner gone: the stand-in takes it. 10.0.0.99 cannot be reached.
  expect(200, "PUT", "/v1/pools/web",
         R"({"backends":{"10.0.0.21":{"weight":1},"10.0.0.99":{"weight":65535}}})");
  answer = expect(200, "GET", "/v1/explain?client=198.51.100.7:40000&service=203.0.113.10:443/tcp");
  EXPECT_EQ(answer["hops"][0]["state"], "no_next_hop");
  EXPECT_EQ(answer["hops"][0]["reason"], "no route to 10.0.0.99");
  EXPECT_EQ(answer["backend"], "10.0.0.21");
  EXPECT_EQ(answer["why"],
            "10.0.0.99, the owner of slot " + std::to_string(answer["slot"].get<int>()) +
                ", takes no new flows (no route to 10.0.0.99); its stand-in 10.0.0.21 does");
  expect(200, "PUT", "/v1/services/203.0.113.11/tcp", R"({"pool":"web"})");
  answer =
      expect(200, "GET", "/v1/explain?client=198.51.100.7:40000&service=203.0.113.11:8443/tcp");
  EXPECT_EQ(answer["service"], "203.0.113.11/tcp");
  expect_error(404, "GET", "/v1/explain?client=198.51.100.7:40000&service=203.0.113.9:443/tcp", "",
               "service", "there is no service 203.0.113.9:443/tcp");
  expect_error(400, "GET", "/v1/explain?client=198.51.100.7:40000&service=203.0.113.11/tcp", "",
               "service", "name the port of the packet");
  expect_error(400, "GET", "/v1/explain?client=198.51.100.7&service=203.0.113.10:443/tcp", "",
               "client", "must be an address and a port, got '198.51.100.7'");
  expect_error(400, "GET", "/v1/explain?client=[fd00::1]:1&service=203.0.113.10:443/tcp", "",
               "client", "fd00::1 is IPv6, but the VIP is IPv4");
}

TEST_F(ApiTest, BadRequestsSayWhatIsWrong) {
  start();
  make_web();
  const Bad table[] = {
      {404, "GET", "/", "", "", "there is nothing at /"},
      {404, "PUT", "/v1/nothing", "{}", "", "there is nothing at /v1/nothing"},
      {404, "GET", "/v1/pools/web/backend", "", "", "there is nothing at /v1/pools/web/backend"},
      {405, "POST", "/v1/pools/web", "{}", "", "POST is not possible here"},
      {405, "PUT", "/v1/status", "{}", "", "PUT is not possible here"},
      {405, "DELETE", "/v1/intent", "", "", "DELETE is not possible here"},
      {405, "GET", "/v1/pools/web/backends/10.0.0.21", "", "", "GET is not possible here"},
      {405, "OPTIONS", "/v1/pools", "", "", "OPTIONS is not possible here"},
      {404, "GET", "/v1/pools/wb", "", "pools.wb", "there is no such pool"},
      {404, "DELETE", "/v1/pools/wb", "", "pools.wb", "there is no such pool"},
      {404, "PUT", "/v1/pools/wb/backends/10.0.0.1", "", "pools.wb", "there is no such pool"},
      {404, "DELETE", "/v1/pools/web/backends/10.0.0.1", "", "pools.web.backends.10.0.0.1",
       "there is no such backend"},
      {404, "GET", "/v1/services/203.0.113.11:443/tcp", "", "services.203.0.113.11:443/tcp",
       "there is no such service"},
      {400, "PUT", "/v1/services/203.0.113.11:443/tcp", R"({"pool":"wb"})",
       "services.203.0.113.11:443/tcp.pool", "there is no pool 'wb'"},
      {400, "PUT", "/v1/services/203.0.113.11:443", "", "services.203.0.113.11:443",
       "a service ends in /tcp or /udp"},
      {400, "PUT", "/v1/pools/web/backends/10.0.0.7", R"({"weight":-1})",
       "pools.web.backends.10.0.0.7.weight", "must be 0 to 65535, got -1"},
      {400, "PUT", "/v1/pools/web/backends/10.0.0.300", "", "pools.web.backends.10.0.0.300",
       "is not an IPv4 or IPv6 address"},
      {400, "PUT", "/v1/pools/w%20b", "{}", "pools.w b",
       "a pool name is 1 to 63 of A-Z a-z 0-9 _ . -, a letter or digit first"},
      {400, "PUT", "/v1/pools/new", "{}", "pools.new.forwarding", "is needed for a new pool"},
      {400, "PUT", "/v1/pools/web", R"({"table_slots":65536})", "pools.web.table_slots",
       "must be a prime, got 65536"},
      {400, "PUT", "/v1/pools/web", R"({"probe":{"kind":"tcp","port":443,"interval_ms":0}})",
       "pools.web.probe.interval_ms", "must be 1 to 60000, got 0"},
      {400, "PUT", "/v1/pools/web", R"({"probe":{"kind":"http","port":80,"path":"healthz"}})",
       "pools.web.probe.path",
       "must be a slash and at most 254 more characters of printable ASCII, without blanks and "
       "'#'"},
      {400, "PUT", "/v1/intent",
       R"({"pools":{"web":{"forwarding":"l2","probe":{"kind":"icmp","fall":0}}}})",
       "pools.web.probe.fall", "must be 1 to 100, got 0"},
      {400, "PUT", "/v1/pools/web/backends/10.0.0.21", R"({"mode":"drained"})",
       "pools.web.backends.10.0.0.21.mode",
       "must be \"enabled\", \"draining\" or \"disabled\", got \"drained\""},
      {400, "PUT", "/v1/pools/web?wait=done", "{}", "wait", "must be adopted, got \"done\""},
      {400, "PUT", "/v1/pools/web?wait=adopted&wait=done", "{}", "wait", "is given twice"},
      {400, "PUT", "/v1/pools/web?dry_run=1", "{}", "dry_run", "unknown query parameter"},
      {400, "GET", "/v1/status?all=1", "", "all", "unknown query parameter"},
      {400, "PUT", "/v1/intent?dry_run=yes", "{}", "dry_run", "must be 0 or 1, got \"yes\""},
      {400, "PUT", "/v1/intent", R"({"pools":{},"pools":{}})", "pools", "is given twice"},
  };
  for (const Bad& bad : table) {
    expect_error(bad.status, bad.method, bad.target, bad.body, bad.field, bad.message);
  }
  EXPECT_EQ(expect(200, "GET", "/v1/intent")["revision"], 1);
}

TEST_F(ApiTest, AStoreThatFailsIs500AndChangesNothing) {
  start();
  control_.store_fails = true;
  expect_error(500, "PUT", "/v1/pools/web", R"({"forwarding":"l2"})", "/state/intent.json",
               "cannot be written: No space left on device");
  EXPECT_EQ(expect(200, "GET", "/v1/pools")["pools"], json::array());
}

TEST_F(ApiTest, Metrics) {
  start();
  make_web();
  HttpAnswer answer = call("GET", "/metrics");
  EXPECT_EQ(answer.status, 200);
  for (const char* line : {"guideway_revision 1\n", "guideway_dataplane_alive 0\n",
                           "guideway_verdicts_total{verdict=\"forwarded\"} 0\n",
                           "guideway_service_packets_total{service=\"203.0.113.10:443/tcp\"} 3\n",
                           "guideway_backend_bytes_total{pool=\"web\",backend=\"10.0.0.21\"} 60\n",
                           "guideway_backends{pool=\"web\",state=\"up\"} 2\n"}) {
    EXPECT_NE(answer.body.find(line), std::string::npos) << line << answer.body;
  }
}

TEST_F(ApiTest, OddHttpIsAnswered) {
  start();
  make_web();
  const std::string backend = "/v1/pools/web/backends/10.0.0.21";
  // A keep-alive connection, HEAD, pipelining, chunks.
  UnixClient client(config_.path);
  client.send(http_text("GET", "/v1/intent") + http_text("PUT", backend, R"({"weight":5})") +
              http_text("DELETE", backend));
  EXPECT_EQ(client.receive().status, 200);
  EXPECT_EQ(client.receive().status, 200);
  EXPECT_EQ(client.receive().status, 200);
  client.send(http_text("HEAD", "/v1/intent"));
  EXPECT_EQ(client.receive(true).status, 200);
  client.send(http_text("PUT", backend, "", "Transfer-Encoding: chunked\r\n") +
              "e\r\n{\"weight\":300}\r\n0\r\n\r\n");
  EXPECT_EQ(client.receive().status, 200);
  // A client that asks first.
  UnixClient asking(config_.path);
  asking.send("PUT " + backend + " HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\n");
  EXPECT_EQ(asking.receive().status, 100);
  asking.send("{\"weight\":6}");
  EXPECT_EQ(asking.receive().status, 200);
  // Headers that would cut or pack the answer are passed over.
  const std::string long_range = "Range: bytes=" + std::string(4000, '1') + "-\r\n";
  EXPECT_EQ(call("GET", "/v1/intent", "", "Range: bytes=100000-200000,5-6\r\n").status, 200);
  EXPECT_EQ(call("GET", "/v1/intent", "", "Accept-Encoding: gzip, br\r\n").body[0], '{');
  EXPECT_NE(call("GET", "/v1/intent", "", long_range).status, 0);
  // No body where httplib would wait for one.
  EXPECT_EQ(call("PUT", "/v1/pools/web").status, 200);
}

TEST_F(ApiTest, MalformedHttpIsAnErrorInOurShape) {
  start();
  const std::string put = "PUT /v1/pools/web HTTP/1.1\r\n";
  const std::pair<std::string, int> table[] = {
      {"nonsense\r\n\r\n", 400},
      {"GET /v1/status\r\n\r\n", 400},
      {"BREW /v1/status HTTP/1.1\r\n\r\n", 400},
      {"GET /v1/status HTTP/9.9\r\n\r\n", 400},
      {put + "Content-Length: x\r\n\r\n{}", 400},
      {put + "Content-Length: -1\r\n\r\n{}", 400},
      {put + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400},
      {put + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400},
      {put + "Transfer-Encoding: gzip\r\n\r\n{}", 400},
      {put + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
      {put + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 400},
      {put + "Content-Type: multipart/form-data; boundary=a\r\nContent-Length: 2\r\n\r\n{}", 400},
      {"GET /" + std::string(3000, 'a') + " HTTP/1.1\r\n\r\n", 414},
      {"GET /" + std::string(9000, 'a') + " HTTP/1.1\r\n\r\n", 414},
      {"GET / HTTP/1.1\r\nX: " + std::string(9000, 'a') + "\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n" + std::string(100000, 'a'), 400},
      {std::string(100000, 'a'), 431},
      {std::string("GET /\0 HTTP/1.1\r\n\r\n", 19), 400},
  };
  for (const auto& [text, status] : table) {
    UnixClient client(config_.path);
    client.send(text);
    shutdown(client.fd(), SHUT_WR);
    HttpAnswer answer = client.receive();
    EXPECT_EQ(answer.status, status) << text.substr(0, 100);
    json body = json::parse(answer.body, nullptr, false);
    EXPECT_TRUE(body.is_object() && body.contains("error")) << answer.body;
    EXPECT_TRUE(client.hangs_up());
  }
  EXPECT_EQ(call("GET", "/v1/status").status, 200);
}

TEST_F(ApiTest, ABodyOverTheLimitIs413) {
  config_.body_max = 100000;
  start();
  const std::string body(200000, ' ');
  expect_error(413, "PUT", "/v1/intent", body, "", "the body is over 8 MiB");
  UnixClient chunked(config_.path);
  chunked.send(http_text("PUT", "/v1/intent", "", "Transfer-Encoding: chunked\r\n"));
  for (int i = 0; i < 20; ++i) chunked.send("2710\r\n" + std::string(10000, ' ') + "\r\n");
  chunked.send("0\r\n\r\n");
  EXPECT_EQ(chunked.receive().status, 413);
  UnixClient asking(config_.path);
  asking.send("PUT /v1/intent HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 200000\r\n\r\n");
  EXPECT_EQ(asking.receive().status, 413);
  expect(200, "PUT", "/v1/intent", std::string(99988, ' ') + R"({"pools":{}})");
}

TEST_F(ApiTest, TwoHundredAtOnce) {
  start();
  make_web();
  std::atomic<int> good{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 200; ++i) {
    clients.emplace_back([&, i] {
      UnixClient client(config_.path);
      for (int round = 0; round < 5; ++round) {
        bool write = round % 2 == 0;
        client.send(write
                        ? http_text("PUT", "/v1/pools/p" + std::to_string(i),
                                    "{\"forwarding\":\"" + std::string(round == 0 ? "l2" : "ipip") +
                                        "\",\"table_slots\":251}")
                        : http_text("GET", "/v1/pools/web"));
        if (client.receive().status == 200) ++good;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(good, 1000);
  EXPECT_EQ(expect(200, "GET", "/v1/intent")["pools"].size(), 201u);
}

TEST_F(ApiTest, SlowAndHalfOpenClientsBlockNobodyAndAreHungUpOn) {
  config_.read_timeout = std::chrono::milliseconds(300);
  config_.idle_timeout = std::chrono::milliseconds(300);
  start();
  std::vector<std::unique_ptr<UnixClient>> clients;
  for (int i = 0; i < 200; ++i) {
    clients.push_back(std::make_unique<UnixClient>(config_.path));
    ASSERT_TRUE(clients.back()->connected());
    if (i % 3 == 1) clients.back()->send("GET /v1/status HT");
    if (i % 3 == 2) {
      clients.back()->send("PUT /v1/intent HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{");
    }
  }
  EXPECT_EQ(call("GET", "/v1/status").status, 200);
  // One that sends a byte now and then gains no time by it.
  UnixClient dripping(config_.path);
  auto start_time = std::chrono::steady_clock::now();
  while (dripping.send("G") &&
         std::chrono::steady_clock::now() - start_time < std::chrono::seconds(20)) {
    pollfd item = {dripping.fd(), POLLIN, 0};
    if (poll(&item, 1, 20) > 0) break;
  }
  EXPECT_EQ(dripping.receive().status, 408);
  for (auto& client : clients) EXPECT_TRUE(client->hangs_up());
}

TEST_F(ApiTest, AClientThatDoesNotReadItsAnswerIsHungUpOn) {
  config_.write_timeout = std::chrono::milliseconds(300);
  config_.read_timeout = std::chrono::milliseconds(300);
  start();
  json pools;
  for (int i = 0; i < 3000; ++i) {
    pools["p" + std::to_string(i)] = {{"forwarding", "l2"}, {"table_slots", 251}};
  }
  expect(200, "PUT", "/v1/intent", json{{"pools", pools}}.dump());
  UnixClient deaf(config_.path);
  std::string requests;
  for (int i = 0; i < 100; ++i) requests += http_text("GET", "/v1/intent");
  deaf.send(requests);
  // Destroying the server waits for its threads: they must not hang on the deaf client.
  server_.reset();
}

TEST_F(ApiTest, TooManyClientsAreTold) {
  config_.threads_max = 2;
  config_.waiting_max = 2;
  config_.idle_timeout = std::chrono::seconds(20);
  start();
  std::vector<std::unique_ptr<UnixClient>> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(std::make_unique<UnixClient>(config_.path));
    // Silent clients hold both threads and both places; the others are told at once.
    if (i < 4) continue;
    EXPECT_EQ(clients.back()->receive().status, 503);
  }
}

TEST_F(ApiTest, TheSocketFile) {
  config_.mode = 0600;
  start();
  struct stat info = {};
  ASSERT_EQ(stat(config_.path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  auto second = HttpServer::start(config_, nullptr, nullptr);
  ASSERT_FALSE(second);
  EXPECT_EQ(
      second.error().text(),
      config_.path + ": another process listens here (stop it: a node has one control plane)");
  EXPECT_EQ(call("GET", "/v1/status").status, 200);
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(config_.path));
  // A stale one, as kill -9 leaves it.
  {
    UniqueFd stale(socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, config_.path.c_str(), config_.path.size() + 1);
    ASSERT_EQ(bind(stale.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  start();
  EXPECT_EQ(call("GET", "/v1/status").status, 200);
  server_.reset();
  std::ofstream(config_.path) << "precious";
  second = HttpServer::start(config_, nullptr, nullptr);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().text(), config_.path + ": is there already and is no socket");
  std::filesystem::remove(config_.path);
  config_.group = "no-such-group";
  second = HttpServer::start(config_, nullptr, nullptr);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().text(),
            "control.group: there is no group 'no-such-group' (groupadd --system no-such-group)");
}

}  // namespace
}  // namespace guideway
