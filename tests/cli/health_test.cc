// SPDX-License-Identifier: Apache-2.0
// Probes and slow start of `guideway pool add|set`, and how health looks in `pool show` and
// `status`.
#include <gtest/gtest.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "controlplane/time_text.h"
#include "tests/cli/command_fixture.h"

namespace guideway::test {
namespace {

using Json = nlohmann::json;

constexpr const char* kAdopted = R"({"revision":12,"changed":true,"adopted":true,"generation":17})";
constexpr const char* kRunning = " (revision 12, running as generation 17)\n";
constexpr const char* kGet = "GET /v1/pools/web";
constexpr const char* kPut = "PUT /v1/pools/web?wait=adopted";

class PoolProbe : public Command {
 protected:
  PoolProbe() { server.answer(kPut, 200, kAdopted); }

  void exists(const std::string& probe) {
    server.answer(kGet, 200,
                  R"({"name":"web","forwarding":"ipip","table_slots":65537,"slow_start_ms":0,)"
                  R"("probe":)" +
                      probe + R"(,"backends":[]})");
  }
  void expect_put(Strings arguments, const std::string& body, const std::string& said) {
    expect(ask(std::move(arguments)), 0, "pool web " + said + kRunning, "");
    EXPECT_EQ(server.requests().back(), std::string(kPut) + " " + body);
  }
};

constexpr const char* kTcp =
    R"({"kind":"tcp","port":443,"interval_ms":100,"timeout_ms":100,"fall":3,"rise":2})";

TEST_F(PoolProbe, AddTakesAWholeProbe) {
  expect_put(
      {"pool", "add", "web", "--forwarding", "ipip", "--probe", "tcp:443", "--probe-interval",
       "10ms", "--probe-timeout", "50ms", "--fall", "4", "--rise", "1", "--slow-start", "30s"},
      R"({"forwarding":"ipip","probe":{"fall":4,"interval_ms":10,"kind":"tcp","port":443,)"
      R"("rise":1,"timeout_ms":50},"slow_start_ms":30000})",
      "added, probe tcp:443 every 10 ms, time-out 50 ms, fall 4, rise 1");
}

TEST_F(PoolProbe, FormsOfAProbe) {
  exists("null");
  const std::pair<const char*, const char*> table[] = {
      {"none", R"({"kind":"none"})"},
      {"icmp", R"({"kind":"icmp"})"},
      {"tcp:443", R"({"kind":"tcp","port":443})"},
      {"udp:53", R"({"kind":"udp","port":53})"},
      {"http:8080", R"({"kind":"http","port":8080})"},
      {"http:8080/healthz?a=b:c", R"({"kind":"http","path":"/healthz?a=b:c","port":8080})"},
      {"tcp:0", R"({"kind":"tcp","port":0})"},  // for the server to refuse
      {"tcp:65536", R"({"kind":"tcp","port":65536})"},
  };
  for (const auto& [typed, probe] : table) {
    EXPECT_EQ(ask({"pool", "set", "web", "--probe", typed}).exit_code, 0) << typed;
    EXPECT_EQ(server.requests().back(), std::string(kPut) + R"( {"probe":)" + probe + "}");
  }
  for (const char* wrong : {"", "tcp", "tcp:", "tcp:x", "tcp:443/", "icmp:1", "sctp:7", "none:1",
                            "http:8080healthz", "tcp:-1", "TCP:443", "http:/healthz"}) {
    const size_t before = server.requests().size();
    expect(ask({"pool", "set", "web", "--probe", wrong}), 2, "",
           "guideway: --probe: '" + std::string(wrong) +
               "' is none of none, icmp, tcp:PORT, udp:PORT or http:PORT[/PATH]\n"
               "  see `guideway pool set --help`\n");
    EXPECT_EQ(server.requests().size(), before);
  }
}

TEST_F(PoolProbe, SetBeginsANewProbeOrChangesDetails) {
  exists(kTcp);
  expect_put({"pool", "set", "web", "--probe", "udp:54", "--probe-query", "echo"},
             R"({"probe":{"kind":"udp","port":54,"query":"echo"}})",
             "changed: probe tcp:443 every 100 ms, time-out 100 ms, fall 3, rise 2 -> udp:54 by "
             "echo every 100 ms, time-out 100 ms, fall 3, rise 2");
  expect_put({"pool", "set", "web", "--probe-interval", "1s", "--fall", "5"},
             R"({"probe":{"fall":5,"interval_ms":1000,"kind":"tcp","port":443,"rise":2,)"
             R"("timeout_ms":100}})",
             "changed: probe interval 100 ms -> 1 s; fall 3 -> 5");
  expect_put({"pool", "set", "web", "--probe", "tcp:80", "--probe-timeout", "2s"},
             R"({"probe":{"kind":"tcp","port":80,"timeout_ms":2000}})",
             "changed: probe port 443 -> 80; probe time-out 100 ms -> 2 s");
  expect_put({"pool", "set", "web", "--probe", "none", "--slow-start", "1h"},
             R"({"probe":{"kind":"none"},"slow_start_ms":3600000})",
             "changed: probe tcp:443 every 100 ms, time-out 100 ms, fall 3, rise 2 -> none; slow "
             "start none -> 1 h");
  expect_put({"pool", "set", "web", "--forwarding", "l2", "--table-slots", "251"},
             R"({"forwarding":"l2","table_slots":251})",
             "changed: forwarding ipip -> l2; table slots 65537 -> 251");
  exists(R"({"kind":"http","port":80,"path":"/a","host":"","interval_ms":1000,"timeout_ms":1000,)"
         R"("fall":3,"rise":2})");
  expect_put({"pool", "set", "web", "--probe-host", "a.b"},
             R"({"probe":{"fall":3,"host":"a.b","interval_ms":1000,"kind":"http","path":"/a",)"
             R"("port":80,"rise":2,"timeout_ms":1000}})",
             "changed: probe host none -> a.b");
}

TEST_F(PoolProbe, DetailsNeedAProbe) {
  exists("null");
  expect(ask({"pool", "set", "web", "--fall", "5"}), 1, "",
         "guideway: pools.web.probe: there is none whose details could be set\n"
         "  hint: say which: --probe none, icmp, tcp:PORT, udp:PORT or http:PORT[/PATH]\n");
  EXPECT_EQ(server.requests(), Strings{kGet});
}

TEST_F(PoolProbe, SetAddsNoPool) {
  server.answer("GET /v1/pools/wbe", 404,
                R"({"error":{"field":"pools.wbe","message":"there is no such pool","hint":""}})");
  expect(ask({"pool", "set", "wbe", "--forwarding", "l2"}), 1, "",
         "guideway: pools.wbe: there is no such pool\n");
  expect(ask({"pool", "set", "web"}), 2, "",
         "guideway: nothing to set\n  see `guideway pool set --help`\n");
  EXPECT_EQ(server.requests(), Strings{"GET /v1/pools/wbe"});
}

TEST_F(PoolProbe, DurationsNeedUnits) {
  for (const char* option : {"--probe-interval", "--probe-timeout", "--slow-start"}) {
    expect(ask({"pool", "set", "web", option, "10"}), 2, "",
           "guideway: " + std::string(option) +
               ": '10' has no unit (10ms, 10s, 10m or 10h)\n  see `guideway pool set --help`\n");
  }
}

// Whole minutes are shown of what is older than one: a test's age is never close to the next.
std::string ago(int64_t seconds) {
  return utc_text(int64_t{std::time(nullptr)} - seconds).substr(0, 19) + ".123456Z";
}

Json backend(const char* address, const char* state, const char* reason) {
  return {{"address", address},
          {"weight", 100},
          {"mode", "enabled"},
          {"drain_until", nullptr},
          {"state", state},
          {"reason", reason},
          {"since", nullptr},
          {"share_now", std::string(state) == "up" ? 1.0 : 0.0},
          {"rtt_us", nullptr},
          {"share", 0.2},
          {"slots", 13107},
          {"next_hop", {{"interface", "eth1"}, {"gateway", nullptr}, {"mac", ""}, {"mtu", 1500}}},
          {"packets", 9},
          {"bytes", 540}};
}

Json web(const Json& backends, const char* condition, const char* reason) {
  return {{"name", "web"},
          {"forwarding", "ipip"},
          {"table_slots", 65537},
          {"digest", ""},
          {"services", 1},
          {"probe", Json::parse(kTcp)},
          {"slow_start_ms", 30000},
          {"health", {{"state", condition}, {"reason", reason}, {"since", ago(200)}}},
          {"backends", backends}};
}

TEST_F(Command, PoolShowTellsHealth) {
  Json up = backend("10.0.0.21", "up", "2 probes answered");
  up["since"] = ago(7500);
  up["rtt_us"] = 212;
  Json slow = backend("10.0.0.22", "up", "2 probes answered");
  slow["since"] = ago(-60);  // by a clock ahead of ours
  slow["rtt_us"] = 1349;
  slow["share_now"] = 0.25;
  Json down = backend("10.0.0.23", "down", "3 probes without an answer within 10 ms");
  down["since"] = ago(200);
  down["rtt_us"] = 43'000;
  down["successes"] = 3;
  down["successes_needed"] = 8;
  Json draining = backend("10.0.0.24", "draining", "by order");
  draining["mode"] = "draining";
  draining["drain_until"] = "2020-11-23T12:10:00Z";
  Json fallen = backend("10.0.0.25", "down", "refused");
  fallen["mode"] = "draining";
  Json disabled = backend("10.0.0.26", "disabled", "by order");
  disabled["mode"] = "disabled";
  Json unknown = backend("10.0.0.27", "unknown", "no probe has been answered yet");
  unknown["blind"] = true;
  server.answer(
      kGet, 200,
      web({up, slow, down, draining, fallen, disabled, unknown}, "blind", "no edge on eth1")
          .dump());
  Outcome outcome = ask({"pool", "show", "web"});
  EXPECT_EQ(
      outcome.out,
      R"(POOL web  ipip, 65537 slots, 1 service, 7 backends: 2 up, 1 disabled, 2 down, 1 draining, 1 unknown
  probe tcp:443 every 100 ms, time-out 100 ms, fall 3, rise 2; slow start 30 s
  BLIND for 3m: no edge on eth1
  BACKEND    WEIGHT  STATE      SINCE     RTT   SHARE  SLOTS  PACKETS  BYTES  NEXT HOP, OR WHY NOT
  10.0.0.21     100  up        2h ago  212 us  20.0 %  13107        9    540  eth1, MTU 1500
  10.0.0.22     100  up        0s ago  1.3 ms  20.0 %  13107        9    540  slow start: 25 % of its slots; eth1, MTU 1500
  10.0.0.23     100  down      3m ago   43 ms  20.0 %  13107        9    540  3 probes without an answer within 10 ms; 3 of 8 answers in a row to be up
  10.0.0.24     100  draining                  20.0 %  13107        9    540  disabled in 0s, at 2020-11-23T12:10:00Z
  10.0.0.25     100  down                      20.0 %  13107        9    540  refused; draining; without a deadline
  10.0.0.26     100  disabled                  20.0 %  13107        9    540  by order
  10.0.0.27     100  unknown                   20.0 %  13107        9    540  no probe has been answered yet; blind: judged as before
)");
}

TEST_F(Command, PanicIsShouted) {
  Json down = backend("10.0.0.23", "down", "refused");
  down["share_now"] = 1.0;
  const Json pool = web(Json::array({down}), "panic", "none of 1 backend is up");
  server.answer(kGet, 200, pool.dump());
  std::string out = ask({"pool", "show", "web"}).out;
  EXPECT_NE(out.find("\n  PANIC for 3m: none of 1 backend is up\n"), std::string::npos) << out;
  EXPECT_NE(out.find("refused; keeps its slots in the panic\n"), std::string::npos) << out;
  server.answer("GET /v1/pools", 200, Json{{"pools", Json::array({pool})}}.dump());
  expect(ask({"pool", "list"}), 0,
         "POOL  FORWARDING  SLOTS  SERVICES  HEALTH  BACKENDS\n"
         "web   ipip        65537         1  PANIC   1 backend: 1 down\n",
         "");
}

TEST_F(Command, StatusTellsAlarmsAndNotOrders) {
  Json draining = backend("10.0.0.21", "draining", "by order");
  Json disabled = backend("10.0.0.22", "disabled", "by order");
  Json status = {
      {"revision", 12},
      {"dataplane",
       {{"connected", true},
        {"alive", true},
        {"revision", 12},
        {"generation", 17},
        {"pid", 7},
        {"epoch", 3},
        {"workers", 1},
        {"flows", 123},
        {"flows_max", 65536}}},
      {"services",
       {{{"service", "203.0.113.10:443/tcp"},
         {"pool", "web"},
         {"state", "down"},
         {"reason", "panic: 0 of 1 backends of pool web are up"}}}},
      {"pools", Json::array({web({draining, disabled}, "panic", "none of 1 backend is up")})}};
  server.answer("GET /v1/status", 200, status.dump());
  std::string out = ask({"status"}).out;
  EXPECT_EQ(out.substr(0, out.find("\n\n")),
            R"(PROBLEMS: 2
  ! pool web: PANIC: none of 1 backend is up
  ! service 203.0.113.10:443/tcp: down, pool web: panic: 0 of 1 backends of pool web are up)");
  EXPECT_NE(out.find("start 3, flow table 123 of 65536\n"), std::string::npos) << out;
  status["pools"] = Json::array({web({draining, disabled}, "normal", "")});
  status["services"] = Json::array();
  server.answer("GET /v1/status", 200, status.dump());
  out = ask({"status"}).out;
  EXPECT_EQ(out.find("PROBLEMS"), std::string::npos) << out;
}

}  // namespace
}  // namespace guideway::test
