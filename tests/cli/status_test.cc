// SPDX-License-Identifier: Apache-2.0
// `guideway status` of a healthy node, of a sick one, and of a large one.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "dataplane/abi.h"
#include "tests/cli/fake_server.h"
#include "tests/cli/program.h"

namespace guideway::test {
namespace {

using Json = nlohmann::json;

Json backend(const std::string& address, const std::string& state, const std::string& reason) {
  Json next_hop;
  if (state == "up") {
    next_hop = {
        {"interface", "eth1"}, {"gateway", nullptr}, {"mac", "02:00:00:00:00:21"}, {"mtu", 1500}};
  }
  return {{"address", address},
          {"weight", 100},
          {"state", state},
          {"reason", reason},
          {"share", 0.3333},
          {"slots", 21846},
          {"next_hop", next_hop},
          {"packets", state == "up" ? 49 : 0},
          {"bytes", state == "up" ? 2940 : 0}};
}

Json healthy() {
  return Json::parse(R"({"node":{"name":"edge-1","version":"0.1.0","pid":1,
      "started":"2026-11-22T21:00:00Z"},
    "revision":12,
    "dataplane":{"connected":true,"alive":true,"pid":7,"epoch":3,"workers":1,"generation":17,
      "revision":12,"ports":[{"index":0,"interface":"eth1","mac":"02:00:00:00:00:01","mtu":1500,
      "up":true}],"refused":null,"problem":null},
    "counters":{"received":100,"verdicts":{"forwarded":98,"no_service":2,"fragment":0}},
    "services":[{"service":"203.0.113.10:443/tcp","pool":"web","state":"ready","reason":"",
      "packets":98,"bytes":5880}],
    "pools":[{"name":"web","forwarding":"ipip","table_slots":65537,"digest":"9f00112233445566",
      "services":1,"backends":[]}]})");
}

std::string status_of(const Json& answer, int exit_code = 0) {
  FakeServer server;
  server.answer("GET /v1/status", 200, answer.dump());
  Outcome outcome = run({guideway(), "--socket", server.socket(), "status"});
  EXPECT_EQ(outcome.exit_code, exit_code);
  EXPECT_EQ(outcome.err, "");
  return outcome.out;
}

Json seen(uint64_t nodes, const std::vector<std::string>& down_on,
          const std::vector<std::string>& blind_on = {}) {
  return {{"nodes", nodes}, {"down_on", down_on}, {"blind_on", blind_on}};
}

TEST(Status, TellsWhereInTheClusterABackendIsDown) {
  struct {
    const char* state;
    Json seen;
    std::string problem, detail;
  } cases[] = {
      {"up", nullptr, "", "eth1, 02:"},
      {"up", seen(3, {}), "", "  eth1, 02:"},
      {"up", seen(3, {"n2"}), "up here, down on n2 only\n", "down on n2 only; eth1"},
      {"up", seen(3, {"n2", "n3"}), "up here, down on n2, n3\n", "down on n2, n3; eth1"},
      {"up", seen(3, {}, {"n3"}), "up here, blind on n3\n", "blind on n3; eth1"},
      {"down", nullptr, "down: silent\n", "  silent"},
      {"down", seen(3, {"n1"}), "down on n1 only: silent\n", "down on n1 only; silent"},
      {"down", seen(2, {"n1", "n2"}), "down on all nodes: silent\n", "down on all nodes; silent"},
      {"down", seen(4, {"n1", "n2"}, {"n3"}), "down on n1, n2; blind on n3: silent\n",
       "down on n1, n2; blind on n3; silent"},
      {"down", seen(9, {"n1", "n2", "n3", "n4", "n5", "n6"}),
       "down on n1, n2, n3, n4 and 2 more: silent\n", "n4 and 2 more; silent"},
      {"no_next_hop", seen(3, {"n1"}), "no_next_hop, down on n1 only: silent\n",
       "down on n1 only; silent"},
  };
  for (const auto& one : cases) {
    Json status = healthy();
    Json item = backend("10.0.0.7", one.state, "silent");
    item["seen"] = one.seen;
    status["pools"][0]["backends"] = Json::array({item});
    const std::string out = status_of(status);
    const std::string line = "  ! pool web: backend 10.0.0.7 ";
    if (one.problem.empty()) {
      EXPECT_EQ(out.find(line), std::string::npos) << out;
    } else {
      EXPECT_NE(out.find(line + one.problem), std::string::npos) << out;
    }
    EXPECT_NE(out.find(one.detail), std::string::npos) << out;
  }
}

TEST(Status, OfALargePoolThoseThatAreDownElsewhereAreShown) {
  Json status = healthy();
  Json& backends = status["pools"][0]["backends"];
  for (int i = 1; i <= 50; ++i) {
    backends.push_back(backend("10.0.0." + std::to_string(i), "up", ""));
    backends.back()["seen"] =
        seen(2, i == 30 ? std::vector<std::string>{"n2"} : std::vector<std::string>{});
  }
  const std::string out = status_of(status);
  EXPECT_NE(out.find("  10.0.0.30 "), std::string::npos) << out;
  EXPECT_EQ(out.find("  10.0.0.31 "), std::string::npos) << out;
}

TEST(Status, TellsOfANodeThatTookItselfOut) {
  Json status = healthy();
  status["cluster"] = Json::parse(
      R"({"state":"member","id":"1","endpoint":"e","problem":"","last_contact":null,"elected":"n1",
      "refused":{"/guideway/live/views/n3":"has format 9"},"nodes":[
      {"name":"n1","alive":true,"self":true,"generation":1,"behind":0,"down":0,"out":[]},
      {"name":"n2","alive":true,"self":false,"generation":1,"behind":0,"down":3,"out":["web"]},
      {"name":"n3","alive":true,"self":false,"generation":1,"behind":0,"down":null,"out":[]}]})");
  const std::string out = status_of(status);
  EXPECT_NE(out.find("  ! node n2: it alone cannot reach backends of web, so it has withdrawn "
                     "their VIPs"),
            std::string::npos)
      << out;
  EXPECT_NE(out.find("/guideway/live/views/n3 has format 9"), std::string::npos) << out;
  EXPECT_NE(out.find("SEES DOWN"), std::string::npos) << out;
  EXPECT_NE(out.find("  n2    OUT"), std::string::npos) << out;
}

TEST(Status, TellsHowVipsAreAnnounced) {
  Json status = healthy();
  status["vips"] = Json::parse(
      R"([{"vip":"203.0.113.10","announce":"reduced","reason":"pool web is in panic"},
          {"vip":"203.0.113.11","announce":"normal","reason":""}])");
  std::string text = status_of(status);
  EXPECT_NE(text.find("\n  ! VIP 203.0.113.10: announcement reduced: pool web is in "
                      "panic\n"),
            std::string::npos)
      << text;
  status["node"]["mode"] = "drained";
  status["node"]["state"] = "draining";
  EXPECT_NE(status_of(status).find("\n  ! node: draining -> guideway node enable\n"),
            std::string::npos);
}

TEST(Status, OfADataplaneThatIsAVersionBehind) {
  Json status = healthy();
  status["dataplane"]["layout"] = GW_LAYOUT;
  EXPECT_EQ(status_of(status).find("layout"), std::string::npos);
  status["dataplane"]["layout"] = 3;
  EXPECT_NE(status_of(status).find("generation 17, revision 12, image layout 3 (the dataplane is a "
                                   "version behind), 1 worker"),
            std::string::npos);
}

TEST(Status, OfAHealthyNode) {
  Json status = healthy();
  status["pools"][0]["backends"] = {backend("10.0.0.21", "up", ""), backend("10.0.0.22", "up", "")};
  EXPECT_EQ(status_of(status),
            R"(NODE       edge-1  guideway 0.1.0, pid 1, started 2026-11-22T21:00:00Z, revision 12
DATAPLANE  alive  generation 17, revision 12, 1 worker, pid 7, start 3

PORT  INTERFACE  MAC                 MTU  LINK
   0  eth1       02:00:00:00:00:01  1500  up

SERVICE               POOL  STATE  PACKETS  BYTES  REASON
203.0.113.10:443/tcp  web   ready       98   5880

POOL web  ipip, 65537 slots, 1 service, 2 backends: 2 up, table 9f00112233445566
  BACKEND    WEIGHT  STATE   SHARE  SLOTS  PACKETS  BYTES  NEXT HOP, OR WHY NOT
  10.0.0.21     100  up     33.3 %  21846       49   2940  eth1, 02:00:00:00:00:21, MTU 1500
  10.0.0.22     100  up     33.3 %  21846       49   2940  eth1, 02:00:00:00:00:21, MTU 1500

PACKETS  100 received
  VERDICT     PACKETS        MEANING
  forwarded        98        sent to a backend
  no_service        2  DROP  for a VIP, but no service has this protocol and port
)");
}

TEST(Status, ProblemsComeFirst) {
  Json status = healthy();
  status["dataplane"]["revision"] = 11;
  status["dataplane"]["refused"] = {{"generation", 18}, {"reason", "hop 7 is no backend"}};
  status["dataplane"]["ports"][0]["up"] = false;
  status["services"][0]["state"] = "degraded";
  status["services"][0]["reason"] = "1 of 3 backends is up";
  status["pools"][0]["backends"] = {
      backend("10.0.0.21", "up", ""),
      backend("10.0.0.22", "no_next_hop", "10.0.0.22 does not answer ARP on eth1"),
      backend("10.0.0.23", "no_weight", "")};
  std::string out = status_of(status);
  EXPECT_EQ(out.substr(0, out.find("\n\n")),
            R"(PROBLEMS: 5
  ! dataplane: refused generation 18: hop 7 is no backend
  ! dataplane: runs revision 11, wanted is 12
  ! port eth1: down -> ip link set dev eth1 up
  ! service 203.0.113.10:443/tcp: degraded, pool web: 1 of 3 backends is up
  ! pool web: backend 10.0.0.22 no_next_hop: 10.0.0.22 does not answer ARP on eth1)");
  EXPECT_NE(out.find("DATAPLANE  alive  generation 17, revision 11 (wanted: 12)"),
            std::string::npos);
  EXPECT_NE(out.find("3 backends: 1 up, 1 no_next_hop, 1 no_weight"), std::string::npos);
}

TEST(Status, WithoutADataplane) {
  Json status = healthy();
  status["dataplane"] = {{"connected", false},
                         {"alive", false},
                         {"generation", 0},
                         {"revision", 0},
                         {"ports", Json::array()},
                         {"refused", nullptr},
                         {"problem", "/run/guideway/dataplane.sock: No such file or directory"}};
  std::string out = status_of(status);
  EXPECT_EQ(out.substr(0, out.find("\n\n")),
            "PROBLEMS: 2\n"
            "  ! dataplane: not connected: /run/guideway/dataplane.sock: No such file or directory "
            "-> systemctl status guideway-dataplane\n"
            "  ! pool web: a service uses it, but it has no backends");
  EXPECT_NE(out.find("DATAPLANE  NOT CONNECTED  no image\n"), std::string::npos) << out;
}

TEST(Status, AHungDataplane) {
  Json status = healthy();
  status["dataplane"]["alive"] = false;
  std::string out = status_of(status);
  EXPECT_NE(out.find("  ! dataplane: connected, but the heartbeat of its workers stands still -> "
                     "systemctl restart guideway-dataplane\n"),
            std::string::npos)
      << out;
  EXPECT_NE(out.find("DATAPLANE  HUNG  generation 17"), std::string::npos) << out;
}

TEST(Status, OfALargePoolShowsWhatIsNotUp) {
  Json status = healthy();
  Json& backends = status["pools"][0]["backends"];
  for (int i = 0; i < 500; ++i) {
    std::string address = "10.0." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1);
    backends.push_back(backend(address, i % 50 == 7 ? "no_next_hop" : "up",
                               i % 50 == 7 ? "no route to " + address : ""));
  }
  std::string out = status_of(status);
  EXPECT_NE(out.find("500 backends: 490 up, 10 no_next_hop"), std::string::npos) << out;
  EXPECT_NE(out.find("  ! pool web: 2 more no_next_hop, of 500 backends\n"), std::string::npos);
  EXPECT_NE(out.find("  (the others are up: `guideway backend list web`)\n"), std::string::npos);
  EXPECT_NE(out.find("  10.0.0.8 "), std::string::npos);
  EXPECT_EQ(out.find("  10.0.0.9 "), std::string::npos);
}

TEST(Status, OfManyPoolsAndServicesStaysShort) {
  Json status = healthy();
  Json pool = status["pools"][0], service = status["services"][0];
  pool["backends"] = {backend("10.0.0.21", "up", "")};
  status["pools"] = Json::array();
  status["services"] = Json::array();
  for (int i = 0; i < 100; ++i) {
    pool["name"] = "p" + std::to_string(i);
    status["pools"].push_back(pool);
  }
  for (int i = 0; i < 1000; ++i) {
    service["service"] = "203.0.113.10:" + std::to_string(i + 1) + "/tcp";
    service["state"] = i == 500 ? "down" : "ready";
    status["services"].push_back(service);
  }
  status["pools"][7]["backends"] = {backend("10.0.0.22", "no_next_hop", "no route to 10.0.0.22")};
  std::string out = status_of(status);
  EXPECT_NE(out.find("SERVICES  1000, not ready: 1, shown: 1 (all: `guideway service list`)\n"),
            std::string::npos)
      << out;
  EXPECT_NE(out.find("POOLS  100, shown: 1 with backends that are not up (all: `guideway pool "
                     "list`)\n"),
            std::string::npos)
      << out;
  EXPECT_NE(out.find("POOL p7  "), std::string::npos);
  EXPECT_LT(std::count(out.begin(), out.end(), '\n'), 30);
}

// An answer of another version, or of something that is no control plane at all.
TEST(Status, OddAnswersDoNoHarm) {
  for (const char* text :
       {"{}", "[]", "null", "7", R"({"pools":{},"services":7,"counters":[],"dataplane":"x"})",
        R"({"node":[1],"pools":[1,{"backends":{"a":1}}],"services":[null],"revision":"x"})",
        R"({"counters":{"received":-1,"verdicts":{"new_one":5,"odd":"x"}}})"}) {
    std::string out = status_of(Json::parse(text));
    EXPECT_NE(out.find("DATAPLANE"), std::string::npos) << text;
  }
  FakeServer server;
  server.answer("GET /v1/status", 200, "hello");
  Outcome outcome = run({guideway(), "--socket", server.socket(), "status"});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_EQ(outcome.err, "guideway: the answer from " + server.socket() +
                             " is not JSON\n"
                             "  hint: is that the socket of guideway-controlplane?\n");
}

TEST(Status, NamesCannotDriveTheTerminal) {
  Json status = healthy();
  status["node"]["name"] = "a\033[2J";
  status["services"][0]["reason"] = "b\033[31m";
  status["dataplane"]["problem"] = "c\033]0;x\007";
  status["pools"][0]["name"] = "d\033[m";
  EXPECT_EQ(status_of(status).find('\033'), std::string::npos);
}

}  // namespace
}  // namespace guideway::test
