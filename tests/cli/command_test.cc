// SPDX-License-Identifier: Apache-2.0
// The real program against a fake control plane: what it asks, prints and returns.
#include <gtest/gtest.h>

#include "tests/cli/command_fixture.h"

namespace guideway::test {
namespace {

constexpr const char* kAdopted = R"({"revision":12,"changed":true,"adopted":true,"generation":17})";
constexpr const char* kUnchanged =
    R"({"revision":12,"changed":false,"adopted":true,"generation":17})";
constexpr const char* kStored = R"({"revision":12,"changed":true,"adopted":false,"generation":16})";
constexpr const char* kPool =
    R"({"name":"web","forwarding":"l2","table_slots":65537,"digest":"9f00112233445566","services":1,)"
    R"("backends":[{"address":"10.0.0.21","weight":100,"state":"up","reason":"","share":0.6667,)"
    R"("slots":43691,"next_hop":{"interface":"eth1","gateway":null,"mac":"02:00:00:00:00:21",)"
    R"("mtu":1500},"packets":9,"bytes":540},{"address":"2001:db8::7","weight":50,)"
    R"("state":"no_next_hop","reason":"no route to 2001:db8::7","share":0.3333,"slots":21846,)"
    R"("next_hop":null,"packets":0,"bytes":0}]})";

TEST_F(Command, BackendAddSaysWhatRuns) {
  server.answer("GET /v1/pools/web", 200, kPool);
  server.answer("PUT /v1/pools/web/backends/10.0.0.7?wait=adopted", 200, kAdopted);
  expect(ask({"backend", "add", "web", "10.0.0.7", "--weight", "50"}), 0,
         "pool web: backend 10.0.0.7 added (revision 12, running as generation 17)\n", "");
  EXPECT_EQ(server.requests(),
            (Strings{"GET /v1/pools/web",
                     R"(PUT /v1/pools/web/backends/10.0.0.7?wait=adopted {"weight":50})"}));
}

TEST_F(Command, BackendAddTwiceIsUnchanged) {
  server.answer("GET /v1/pools/web", 200, kPool);
  server.answer("PUT /v1/pools/web/backends/10.0.0.21?wait=adopted", 200, kUnchanged);
  expect(ask({"backend", "add", "web", "10.0.0.21"}), 0,
         "pool web: backend 10.0.0.21 unchanged (revision 12, running as generation 17)\n", "");
  EXPECT_EQ(server.requests().back(), "PUT /v1/pools/web/backends/10.0.0.21?wait=adopted {}");
}

TEST_F(Command, BackendAddOfAKnownOneSaysWhatChanged) {
  server.answer("GET /v1/pools/web", 200, kPool);
  server.answer("PUT /v1/pools/web/backends/2001:DB8::7?wait=adopted", 200, kAdopted);
  expect(ask({"backend", "add", "web", "2001:DB8::7", "--weight", "10"}), 0,
         "pool web: backend 2001:db8::7 changed: weight 50 -> 10 (revision 12, running as "
         "generation 17)\n",
         "");
}

TEST_F(Command, NotAdoptedInTimeIsAWarning) {
  server.answer("DELETE /v1/pools/web/backends/10.0.0.21?wait=adopted", 200, kStored);
  expect(ask({"backend", "remove", "web", "10.0.0.21"}), 0,
         "pool web: backend 10.0.0.21 removed (revision 12, not adopted yet)\n",
         "guideway: warning: revision 12 is stored, but the dataplane has not adopted it in time; "
         "it runs generation 16\n  hint: `guideway status` says why\n");
  expect(ask({"--json", "backend", "remove", "web", "10.0.0.21"}), 0, std::string(kStored) + "\n",
         "guideway: warning: revision 12 is stored, but the dataplane has not adopted it in time; "
         "it runs generation 16\n  hint: `guideway status` says why\n");
}

TEST_F(Command, NoWaitDoesNotWait) {
  server.answer("DELETE /v1/pools/web/backends/10.0.0.21", 200, kStored);
  expect(ask({"backend", "remove", "web", "10.0.0.21", "--no-wait"}), 0,
         "pool web: backend 10.0.0.21 removed (revision 12, not waited for)\n", "");
}

TEST_F(Command, BackendWeightAddsNoBackend) {
  server.answer("GET /v1/pools/web", 200, kPool);
  expect(ask({"backend", "weight", "web", "10.0.0.99", "5"}), 1, "",
         "guideway: pools.web.backends.10.0.0.99: pool web has no such backend\n"
         "  hint: `guideway backend list web` lists them; to add it: `guideway backend add web "
         "10.0.0.99`\n");
  EXPECT_EQ(server.requests(), Strings{"GET /v1/pools/web"});
}

TEST_F(Command, BackendWeight) {
  server.answer("GET /v1/pools/web", 200, kPool);
  server.answer("PUT /v1/pools/web/backends/10.0.0.21?wait=adopted", 200, kAdopted);
  expect(ask({"backend", "weight", "web", "10.0.0.21", "0"}), 0,
         "pool web: backend 10.0.0.21 changed: weight 100 -> 0 (revision 12, running as generation "
         "17)\n",
         "");
}

TEST_F(Command, TheServersRefusalIsPrinted) {
  server.answer("GET /v1/pools/web", 200, kPool);
  server.answer("PUT /v1/pools/web/backends/10.0.0.7?wait=adopted", 400,
                R"({"error":{"field":"pools.web.backends.10.0.0.7.weight",)"
                R"("message":"must be 0 to 65535, got -1","hint":"0 takes it out of the table"}})");
  expect(ask({"backend", "add", "web", "10.0.0.7", "--weight", "-1"}), 1, "",
         "guideway: pools.web.backends.10.0.0.7.weight: must be 0 to 65535, got -1\n"
         "  hint: 0 takes it out of the table\n");
}

TEST_F(Command, ARefusalWithoutJsonIsARefusal) {
  server.answer("GET /v1/status", 502, "<html>gateway</html>");
  expect(ask({"status"}), 1, "", "guideway: the control plane answered HTTP 502\n");
}

TEST_F(Command, JsonIsTheServersOwn) {
  std::string odd = R"({ "pools" : [ ],"new_field":1.50 })";
  server.answer("GET /v1/pools", 200, odd);
  expect(ask({"--json", "pool", "list"}), 0, odd + "\n", "");
  expect(ask({"pool", "list", "--json"}), 0, odd + "\n", "");
  std::string error = R"({"error":{"field":"pools.x","message":"no such pool","hint":""}})";
  server.answer("GET /v1/pools/x", 404, error);
  expect(ask({"--json", "pool", "show", "x"}), 1, error + "\n",
         "guideway: pools.x: no such pool\n");
}

TEST_F(Command, PoolAddRemove) {
  server.answer("PUT /v1/pools/web?wait=adopted", 200, kAdopted);
  server.answer("DELETE /v1/pools/web?wait=adopted", 409,
                R"({"error":{"field":"pools.web","message":"still used by 203.0.113.10:443/tcp",)"
                R"("hint":"remove the service first"}})");
  expect(ask({"pool", "add", "web", "--forwarding", "ipip", "--table-slots", "251"}), 0,
         "pool web added (revision 12, running as generation 17)\n", "");
  EXPECT_EQ(server.requests().back(),
            R"(PUT /v1/pools/web?wait=adopted {"forwarding":"ipip","table_slots":251})");
  server.answer("GET /v1/pools/web", 200, kPool);
  expect(ask({"pool", "add", "web", "--forwarding", "ipip", "--table-slots", "251"}), 0,
         "pool web changed: forwarding l2 -> ipip; table slots 65537 -> 251 (revision 12, running "
         "as generation 17)\n",
         "");
  expect(ask({"pool", "remove", "web"}), 1, "",
         "guideway: pools.web: still used by 203.0.113.10:443/tcp\n"
         "  hint: remove the service first\n");
}

TEST_F(Command, PoolsMayBeNamedLikeCommands) {
  for (const char* name : {"status", "add", "pool", "list"}) {
    server.answer(std::string("PUT /v1/pools/") + name + "?wait=adopted", 200, kAdopted);
    Outcome outcome = ask({"pool", "add", name, "--forwarding", "l2"});
    EXPECT_EQ(outcome.exit_code, 0) << name << outcome.err;
  }
}

TEST_F(Command, PoolListAndShow) {
  server.answer("GET /v1/pools", 200, std::string("{\"pools\":[") + kPool + "]}");
  std::string table =
      "POOL  FORWARDING  SLOTS  SERVICES  BACKENDS\n"
      "web   l2          65537         1  2 backends: 1 up, 1 no_next_hop\n";
  expect(ask({"pool", "list"}), 0, table, "");
  server.answer("GET /v1/pools", 200, std::string("[") + kPool + "]");
  expect(ask({"pool", "list"}), 0, table, "");
  server.answer("GET /v1/pools", 200, "[]");
  expect(ask({"pool", "list"}), 0,
         "no pools; add one: guideway pool add NAME --forwarding l2|ipip|gue\n", "");

  server.answer("GET /v1/pools/web", 200, kPool);
  std::string backends =
      "BACKEND      WEIGHT  STATE         SHARE  SLOTS  PACKETS  BYTES  NEXT HOP, OR WHY NOT\n"
      "10.0.0.21       100  up           66.7 %  43691        9    540  eth1, 02:00:00:00:00:21, "
      "MTU 1500\n"
      "2001:db8::7      50  no_next_hop  33.3 %  21846        0      0  no route to 2001:db8::7\n";
  expect(ask({"backend", "list", "web"}), 0, backends, "");
  Outcome shown = ask({"pool", "show", "web"});
  EXPECT_EQ(shown.out.substr(0, shown.out.find('\n')),
            "POOL web  l2, 65537 slots, 1 service, 2 backends: 1 up, 1 no_next_hop, table "
            "9f00112233445566");
}

TEST_F(Command, ServiceAddRemoveList) {
  const std::string path = "/v1/services/%5B2001:db8::10%5D:443%2Ftcp";
  server.answer("PUT " + path + "?wait=adopted", 200, kAdopted);
  server.answer("DELETE " + path + "?wait=adopted", 200, kAdopted);
  expect(ask({"service", "add", "[2001:db8::10]:443/tcp", "--pool", "web"}), 0,
         "service [2001:db8::10]:443/tcp added, pool web (revision 12, running as generation "
         "17)\n",
         "");
  EXPECT_EQ(server.requests().back(), "PUT " + path + R"(?wait=adopted {"pool":"web"})");
  server.answer("GET " + path, 200, R"({"service":"[2001:db8::10]:443/tcp","pool":"old"})");
  expect(ask({"service", "add", "[2001:db8::10]:443/tcp", "--pool", "web"}), 0,
         "service [2001:db8::10]:443/tcp changed: pool old -> web (revision 12, running as "
         "generation 17)\n",
         "");
  expect(ask({"service", "remove", "[2001:db8::10]:443/tcp"}), 0,
         "service [2001:db8::10]:443/tcp removed (revision 12, running as generation 17)\n", "");
  server.answer("GET /v1/services", 200,
                R"([{"service":"203.0.113.10:443/tcp","pool":"web","state":"degraded",)"
                R"("reason":"1 of 2 backends is up","packets":12,"bytes":720}])");
  expect(ask({"service", "list"}), 0,
         "SERVICE               POOL  STATE     PACKETS  BYTES  REASON\n"
         "203.0.113.10:443/tcp  web   degraded       12    720  1 of 2 backends is up\n",
         "");
}

TEST_F(Command, Explain) {
  server.answer(
      "GET /v1/explain?client=198.51.100.7:40000&service=203.0.113.10:443%2Ftcp", 200,
      R"({"client":"198.51.100.7:40000","service":"203.0.113.10/tcp","pool":"web",)"
      R"("forwarding":"ipip","hash":"0x0123456789abcdef","slot":4711,"slots":65537,)"
      R"("hops":[{"role":"owner","address":"10.0.0.21","state":"up","takes":true,"reason":""},)"
      R"({"role":"stand-in","address":"10.0.0.23","state":"up","takes":false,)"
      R"("reason":"later in the list"}],"backend":"10.0.0.21",)"
      R"("next_hop":{"interface":"eth1","gateway":"10.0.0.1","mac":"02:00:00:00:00:01","mtu":1500},)"
      R"("generation":17,"revision":12,"why":"10.0.0.21 owns slot 4711 and is up"})");
  expect(ask({"explain", "198.51.100.7:40000", "203.0.113.10:443/tcp"}), 0,
         "198.51.100.7:40000 to 203.0.113.10:443/tcp: 10.0.0.21\n"
         "  because 10.0.0.21 owns slot 4711 and is up\n"
         "\n"
         "service   203.0.113.10/tcp\n"
         "pool      web, ipip\n"
         "slot      4711 of 65537, hash 0x0123456789abcdef\n"
         "next hop  eth1 via 10.0.0.1, 02:00:00:00:00:01, MTU 1500\n"
         "image     generation 17, revision 12\n"
         "\n"
         "HOP  BACKEND    ROLE      STATE  TAKES IT  REASON\n"
         "  0  10.0.0.21  owner     up     yes\n"
         "  1  10.0.0.23  stand-in  up     no        later in the list\n",
         "");
}

TEST_F(Command, AFullDiskIsNoSuccess) {
  server.answer("GET /v1/pools", 200, "[]");
  Outcome outcome = run(
      {"/bin/sh", "-c", guideway() + " --socket " + server.socket() + " pool list > /dev/full"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.err, "guideway: cannot write to the standard output\n");
}

}  // namespace
}  // namespace guideway::test
