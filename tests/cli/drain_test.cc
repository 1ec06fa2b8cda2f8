// SPDX-License-Identifier: Apache-2.0
// `guideway backend drain`, `enable` and `disable` against a fake control plane.
#include <gtest/gtest.h>

#include <regex>

#include "tests/cli/command_fixture.h"

namespace guideway::test {
namespace {

constexpr const char* kAdopted = R"({"revision":12,"changed":true,"adopted":true,"generation":17})";
constexpr const char* kRunning = " (revision 12, running as generation 17)\n";
constexpr const char* kGet = "GET /v1/pools/web";
constexpr const char* kPut = "PUT /v1/pools/web/backends/10.0.0.7?wait=adopted";

// Pool web with one backend in this mode.
std::string pool(const std::string& mode, const std::string& until = "null", uint64_t packets = 0) {
  return R"({"name":"web","backends":[{"address":"10.0.0.7","weight":100,"mode":")" + mode +
         R"(","drain_until":)" + until + R"(,"packets":)" + std::to_string(packets) +
         R"(},{"address":"10.0.0.8","weight":100,"mode":"enabled"}]})";
}

const std::string kDraining = pool("draining", R"("2099-11-23T12:10:00Z")");

TEST_F(Command, DrainSaysWhatHappens) {
  server.answer(kGet, 200, pool("enabled"));
  server.then(kGet, 200, kDraining);
  server.answer(kPut, 200, kAdopted);
  expect(ask({"backend", "drain", "web", "10.0.0.7"}), 0,
         "draining web 10.0.0.7: new flows go elsewhere; disabled in 10 min, at "
         "2099-11-23T12:10:00Z, unless enabled before" +
             std::string(kRunning),
         "");
  EXPECT_EQ(
      server.requests(),
      (Strings{kGet, std::string(kPut) + R"( {"deadline_s":600,"mode":"draining"})", kGet, kGet}));
}

TEST_F(Command, DrainDeadlines) {
  server.answer(kGet, 200, kDraining);
  server.answer(kPut, 200, kAdopted);
  const std::pair<const char*, const char*> table[] = {
      {"90s", "90"}, {"2h", "7200"}, {"1500ms", "2"}, {"168h", "604800"}, {"0", "0"}};
  for (const auto& [typed, seconds] : table) {
    EXPECT_EQ(ask({"backend", "drain", "web", "10.0.0.7", "--deadline", typed}).exit_code, 0);
    Strings requests = server.requests();
    const std::string put =
        std::string(kPut) + R"( {"deadline_s":)" + seconds + R"(,"mode":"draining"})";
    EXPECT_NE(std::find(requests.begin(), requests.end(), put), requests.end()) << put;
  }
  EXPECT_EQ(
      ask({"backend", "drain", "web", "10.0.0.7", "--deadline", "0"}).out,
      "draining web 10.0.0.7: new flows go elsewhere; it drains until it is enabled, disabled or "
      "removed" +
          std::string(kRunning));
}

TEST_F(Command, ABareNumberIsNoDuration) {
  expect(ask({"backend", "drain", "web", "10.0.0.7", "--deadline", "10"}), 2, "",
         "guideway: --deadline: '10' has no unit (10ms, 10s, 10m or 10h)\n"
         "  see `guideway backend drain --help`\n");
  EXPECT_EQ(server.requests(), Strings{});
}

TEST_F(Command, OrdersAddNoBackend) {
  server.answer(kGet, 200, pool("enabled"));
  for (const char* order : {"drain", "enable", "disable"}) {
    expect(ask({"backend", order, "web", "10.0.0.99"}), 1, "",
           "guideway: pools.web.backends.10.0.0.99: pool web has no such backend\n"
           "  hint: `guideway backend list web` lists them; to add it: `guideway backend add web "
           "10.0.0.99`\n");
  }
  EXPECT_EQ(server.requests(), (Strings{kGet, kGet, kGet}));
}

TEST_F(Command, EnableAndDisable) {
  server.answer(kGet, 200, kDraining);
  server.answer(kPut, 200, kAdopted);
  expect(ask({"backend", "enable", "web", "10.0.0.7"}), 0,
         "pool web: backend 10.0.0.7 enabled" + std::string(kRunning), "");
  EXPECT_EQ(server.requests().back(), std::string(kPut) + R"( {"mode":"enabled"})");
  expect(ask({"backend", "disable", "web", "10.0.0.7"}), 0,
         "pool web: backend 10.0.0.7 disabled: no flow goes to it" + std::string(kRunning), "");
  EXPECT_EQ(server.requests().end()[-2], std::string(kPut) + R"( {"mode":"disabled"})");
  server.answer(kPut, 200, R"({"revision":12,"changed":false,"adopted":true,"generation":17})");
  expect(ask({"backend", "disable", "web", "10.0.0.7"}), 0,
         "pool web: backend 10.0.0.7 unchanged" + std::string(kRunning), "");
}

TEST_F(Command, WhoDrainsTheLastOneIsWarned) {
  const std::string alone =
      R"({"name":"web","backends":[{"address":"10.0.0.7","weight":100,"mode":"draining"},{"address":"10.0.0.8","weight":0,"mode":"enabled"}]})";
  server.answer(kGet, 200, alone);
  server.answer(kPut, 200, kAdopted);
  EXPECT_EQ(ask({"backend", "drain", "web", "10.0.0.7"}).err,
            "warning: nobody is left in pool web: its new flows are dropped\n"
            "  see `guideway pool show web`\n");
}

// What `drain --wait` prints after its first line.
class DrainWait : public Command {
 protected:
  DrainWait() {
    server.answer(kGet, 200, pool("enabled"));
    server.then(kGet, 200, kDraining);  // for the first line
    server.then(kGet, 200, kDraining);  // who is left
    server.then(kGet, 200, kDraining);
    server.answer(kPut, 200, kAdopted);
  }
  void expect_end(int exit_code, const std::string& out, const std::string& err) {
    expect(ask({"backend", "drain", "web", "10.0.0.7", "--wait"}), exit_code,
           "draining web 10.0.0.7: new flows go elsewhere; disabled in 10 min, at "
           "2099-11-23T12:10:00Z, unless enabled before" +
               std::string(kRunning) + out,
           err);
  }
};

TEST_F(DrainWait, UntilItIsDisabled) {
  server.then(kGet, 200, pool("disabled"));
  expect_end(0, "drained web 10.0.0.7: it is disabled\n", "");
  EXPECT_EQ(server.requests().size(), 6u);
}

TEST_F(DrainWait, ADeadlineThatIsOverCutsWhatIsThere) {
  server.then(kGet, 200, pool("draining", R"("2020-01-01T00:00:00Z")"));
  server.then(kGet, 200, pool("disabled"));
  expect_end(
      0, "web 10.0.0.7 is disabled: its time was over, and what connections it still had are cut\n",
      "");
}

TEST_F(DrainWait, RemovedIsAnEnd) {
  server.then(kGet, 200, R"({"name":"web","backends":[]})");
  expect_end(0, "web 10.0.0.7 is removed\n", "");
}

TEST_F(DrainWait, SoIsARemovedPool) {
  server.then(kGet, 404,
              R"({"error":{"field":"pools.web","message":"there is no such pool","hint":""}})");
  expect_end(0, "web 10.0.0.7 is removed\n", "");
}

TEST_F(DrainWait, EnabledByAnotherIsAFailure) {
  server.then(kGet, 200, pool("enabled"));
  expect_end(1, "",
             "guideway: web 10.0.0.7 is not drained: somebody enabled it again\n"
             "  hint: `journalctl -u guideway-controlplane -n 50` says who\n");
}

TEST_F(DrainWait, ARefusalIsAFailure) {
  server.then(kGet, 500, R"({"error":{"field":"","message":"broken","hint":""}})");
  expect_end(1, "", "guideway: broken\n");
}

TEST_F(DrainWait, JsonIsTheAnswerOfTheChange) {
  server.answer(kGet, 200, pool("enabled"));
  server.then(kGet, 200, kDraining);
  server.then(kGet, 200, pool("disabled"));
  expect(ask({"--json", "backend", "drain", "web", "10.0.0.7", "--wait"}), 0,
         std::string(kAdopted) + "\n", "");
}

// On a terminal, one line that is written again and again; both streams end up in `out`.
TEST_F(DrainWait, OnATerminalItCountsPackets) {
  for (uint64_t packets : {100u, 200u, 300u, 400u, 500u, 600u, 700u}) {
    server.then(kGet, 200, pool("draining", R"("2099-11-23T12:10:00Z")", packets));
  }
  server.then(kGet, 200, pool("disabled"));
  std::string out =
      run({"script", "-qec",
           guideway() + " --socket " + server.socket() + " backend drain web 10.0.0.7 --wait",
           "/dev/null"},
          {"TERM=xterm", "NO_COLOR=1"})
          .out;
  EXPECT_NE(out.find("\r\033[Kweb 10.0.0.7: counting packets, disabled in "), std::string::npos)
      << out;
  EXPECT_TRUE(std::regex_search(
      out, std::regex("\r\033\\[Kweb 10.0.0.7: [1-9][0-9]* packets/s still go to it, disabled in")))
      << out;
  EXPECT_NE(out.find("\r\033[Kdrained web 10.0.0.7: it is disabled\r\n"), std::string::npos) << out;
}

}  // namespace
}  // namespace guideway::test
