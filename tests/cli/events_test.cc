// SPDX-License-Identifier: Apache-2.0
// `guideway events` against a fake control plane.
#include <gtest/gtest.h>

#include "tests/cli/command_fixture.h"

namespace guideway::test {
namespace {

constexpr const char* kDown =
    R"({"number":7,"time":"2026-11-23T01:02:03.456789Z","pool":"web","backend":"10.0.0.21",)"
    R"("from":"up","to":"down","reason":"3 probes without an answer within 10 ms",)"
    R"("generation":18,"adopted_ms":2.125})";
constexpr const char* kPanic =
    R"({"number":8,"time":"2026-11-23T01:02:04.000001Z","pool":"web","backend":null,)"
    R"("from":"normal","to":"panic","reason":"none of 2 backends is up","generation":19,)"
    R"("adopted_ms":null})";
constexpr const char* kUp =
    R"({"number":9,"time":"2026-11-23T01:02:05.100000Z","pool":"api","backend":"2001:db8::7",)"
    R"("from":"unknown","to":"up","reason":"answered","generation":null,"adopted_ms":null})";

constexpr const char* kHeader =
    "NUMBER  TIME                      POOL      BACKEND          CHANGE                   IN "
    "FORCE  REASON\n";
constexpr const char* kDownRow =
    "     7  2026-11-23T01:02:03.456Z  web       10.0.0.21        up -> down                 2.1 "
    "ms  3 probes without an answer within 10 ms\n";
constexpr const char* kPanicRow =
    "     8  2026-11-23T01:02:04.000Z  web       the pool         normal -> panic           not "
    "yet  none of 2 backends is up\n";
constexpr const char* kUpRow =
    "     9  2026-11-23T01:02:05.100Z  api       2001:db8::7      unknown -> up                    "
    "  answered\n";

std::string answer(const Strings& events, uint64_t next) {
  std::string out = "{\"events\":[";
  for (const std::string& event : events) out += (out.back() == '[' ? "" : ",") + event;
  return out + "],\"next\":" + std::to_string(next) + "}";
}

std::string lines(const Strings& rows) {
  std::string out;
  for (const std::string& row : rows) out += row;
  return out;
}

constexpr const char* kBroken = R"({"error":{"field":"","message":"broken","hint":""}})";

TEST_F(Command, EventsAreATable) {
  server.answer("GET /v1/events?since=0&limit=100", 200, answer({kDown, kPanic, kUp}, 10));
  expect(ask({"events"}), 0, lines({kHeader, kDownRow, kPanicRow, kUpRow}), "");
  server.answer("GET /v1/events?since=8&limit=1", 200, answer({kUp}, 10));
  expect(ask({"events", "--since", "8", "--limit", "1"}), 0, lines({kHeader, kUpRow}), "");
  server.answer("GET /v1/events?since=0&limit=1", 200, answer({kUp}, 10));
  expect(ask({"events", "--limit", "1"}), 0,
         lines({kHeader, kUpRow, "(the newest 1; more: --limit N, up to 10000)\n"}), "");
}

TEST_F(Command, NoEvents) {
  server.answer("GET /v1/events?since=0&limit=100", 200, answer({}, 1));
  expect(ask({"events"}), 0, "no events since the control plane was started\n", "");
  server.answer("GET /v1/events?since=5&limit=100", 200, answer({}, 5));
  expect(ask({"events", "--since", "5"}), 0, "no events since number 5\n", "");
}

TEST_F(Command, EventsJsonAndRefusals) {
  const std::string body = answer({kDown}, 8);
  server.answer("GET /v1/events?since=0&limit=100", 200, body);
  expect(ask({"--json", "events"}), 0, body + "\n", "");
  server.answer("GET /v1/events?since=0&limit=0", 400,
                R"({"error":{"field":"limit","message":"must be 1 to 10000, got 0","hint":""}})");
  expect(ask({"events", "--limit", "0"}), 1, "", "guideway: limit: must be 1 to 10000, got 0\n");
  EXPECT_EQ(ask({"events", "--since", "yesterday"}).exit_code, 2);
}

// The header stands once, the columns stay where they are; a refusal ends it.
TEST_F(Command, EventsFollow) {
  server.answer("GET /v1/events?since=0&limit=10", 200, answer({kDown}, 8));
  server.answer("GET /v1/events?since=8&limit=10000", 200, answer({}, 8));
  server.then("GET /v1/events?since=8&limit=10000", 200, answer({kPanic, kUp}, 10));
  server.answer("GET /v1/events?since=10&limit=10000", 500, kBroken);
  expect(ask({"events", "--follow"}), 1, lines({kHeader, kDownRow, kPanicRow, kUpRow}),
         "guideway: broken\n");
}

TEST_F(Command, EventsFollowAsJsonLines) {
  server.answer("GET /v1/events?since=7&limit=2", 200, answer({kDown}, 8));
  server.answer("GET /v1/events?since=8&limit=10000", 200, answer({kPanic, kUp}, 10));
  server.answer("GET /v1/events?since=10&limit=10000", 500, kBroken);
  Outcome outcome = ask({"--json", "events", "--follow", "--since", "7", "--limit", "2"});
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 4);  // and the error
  EXPECT_EQ(outcome.out.rfind(R"({"adopted_ms":2.125,"backend":"10.0.0.21",)", 0), 0u)
      << outcome.out;
}

TEST_F(Command, EventsFollowOverARestartAndAGap) {
  server.answer("GET /v1/events?since=0&limit=10", 200, answer({}, 50));
  server.answer("GET /v1/events?since=50&limit=10000", 200, answer({}, 8));  // anew
  server.answer("GET /v1/events?since=0&limit=10000", 200, answer({kDown}, 8));
  server.answer("GET /v1/events?since=8&limit=10000", 200, answer({kUp}, 10));
  server.answer("GET /v1/events?since=10&limit=10000", 500, kBroken);
  expect(ask({"events", "--follow"}), 1, lines({kHeader, kDownRow, kUpRow}),
         "guideway: the control plane was started anew, its events begin again\n"
         "guideway: 1 event came too fast and is left out\n"
         "guideway: broken\n");
}

}  // namespace
}  // namespace guideway::test
