// SPDX-License-Identifier: Apache-2.0
// `guideway node`: what it asks, waits for, prints and returns.
#include <gtest/gtest.h>

#include "tests/cli/command_fixture.h"

namespace guideway::test {
namespace {

constexpr const char* kDraining = R"({"mode":"drained","state":"draining","quiet":false})";
constexpr const char* kBusy = R"({"mode":"drained","state":"drained","quiet":false})";
constexpr const char* kDrained = R"({"mode":"drained","state":"drained","quiet":true})";
constexpr const char* kNormal = R"({"mode":"normal","state":"normal","quiet":true})";
constexpr const char* kError =
    R"({"error":{"field":"/state/node.json","message":"cannot be written","hint":""}})";

TEST_F(Command, NodeDrain) {
  server.answer("PUT /v1/node", 200, kDraining);
  expect(ask({"node", "drain"}), 0, "node is draining: `guideway status` says when it is drained\n",
         "");
  EXPECT_EQ(server.requests(), (Strings{R"(PUT /v1/node {"mode":"drained"})"}));
  expect(ask({"--json", "node", "drain"}), 0, std::string(kDraining) + "\n", "");
}

TEST_F(Command, NodeDrainWaitsForQuiet) {
  server.answer("PUT /v1/node", 200, kDraining);
  server.answer("GET /v1/node", 200, kDrained);
  expect(ask({"node", "drain", "--wait"}), 0,
         "node drained: nothing is announced, and no traffic comes\n", "");
  server.answer("GET /v1/node", 200, kBusy);
  expect(ask({"node", "drain", "--wait", "--timeout", "1"}), 1, "",
         "guideway: not within 1 s: traffic still comes\n");
  server.answer("GET /v1/node", 200, kDraining);
  expect(ask({"node", "drain", "--wait", "--timeout", "1"}), 1, "",
         "guideway: not within 1 s: the node is draining\n");
}

TEST_F(Command, NodeEnableWaitsForAllVips) {
  server.answer("PUT /v1/node", 200, kNormal);
  server.answer("GET /v1/status", 200,
                R"({"vips":[{"vip":"203.0.113.10","announce":"normal","reason":""}]})");
  expect(ask({"node", "enable"}), 0, "node enabled\n", "");
  expect(ask({"node", "enable", "--wait"}), 0, "node enabled: all VIPs are announced\n", "");
  EXPECT_EQ(server.requests(), (Strings{R"(PUT /v1/node {"mode":"normal"})",
                                        R"(PUT /v1/node {"mode":"normal"})", "GET /v1/status"}));
  server.answer("GET /v1/status", 200,
                R"({"vips":[{"vip":"203.0.113.10","announce":"reduced","reason":"so it is"}]})");
  expect(ask({"node", "enable", "--wait", "--timeout", "1"}), 1, "",
         "guideway: not within 1 s: VIP 203.0.113.10 is reduced: so it is\n");
}

TEST_F(Command, NodeErrorsAreTold) {
  server.answer("PUT /v1/node", 500, kError);
  for (const char* what : {"drain", "enable"}) {
    expect(ask({"node", what, "--wait"}), 1, "", "guideway: /state/node.json: cannot be written\n");
  }
  EXPECT_EQ(ask({"node", "drain", "--timeout", "0"}).exit_code, 2);
  EXPECT_EQ(ask({"node"}).exit_code, 2);
}

}  // namespace
}  // namespace guideway::test
