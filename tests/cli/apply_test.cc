// SPDX-License-Identifier: Apache-2.0
// `guideway apply` against a fake control plane.
#include <gtest/gtest.h>

#include "tests/cli/command_fixture.h"

namespace guideway::test {
namespace {

constexpr const char* kIntent =
    "[pools.web]\nforwarding = \"l2\"\n[pools.web.backends]\n"
    "\"10.0.0.21\" = { weight = -1 }\n";
constexpr const char* kDifferences =
    R"("differences":[{"op":"add","what":"pool web","from":null,"to":"l2, 65537 slots"},)"
    R"({"op":"remove","what":"service 203.0.113.9/udp","from":"pool dns","to":null},)"
    R"({"op":"change","what":"pool api backend 10.0.0.5 weight","from":"100","to":"50"}]})";

TEST_F(Command, ApplyPrintsTheDifferences) {
  std::string edge = file("edge.toml", kIntent);
  server.answer("PUT /v1/intent?dry_run=1", 200,
                R"({"revision":11,"changed":false,"adopted":true,"generation":16,)" +
                    std::string(kDifferences));
  std::string lines =
      "+ pool web: l2, 65537 slots\n"
      "- service 203.0.113.9/udp: pool dns\n"
      "~ pool api backend 10.0.0.5 weight: 100 -> 50\n";
  expect(ask({"apply", edge, "--dry-run"}), 0,
         lines + "3 differences; dry run, nothing was changed\n", "");
  EXPECT_EQ(server.requests().back(),
            R"(PUT /v1/intent?dry_run=1 {"pools":{"web":{"backends":{"10.0.0.21":{"weight":-1}},)"
            R"("forwarding":"l2"}}})");
  server.answer("PUT /v1/intent?wait=adopted", 200,
                R"({"revision":12,"changed":true,"adopted":true,"generation":17,)" +
                    std::string(kDifferences));
  expect(ask({"apply", edge}), 0,
         lines + "3 differences applied (revision 12, running as generation 17)\n", "");
  expect(ask({"apply", "-"}, kIntent), 0,
         lines + "3 differences applied (revision 12, running as generation 17)\n", "");
}

TEST_F(Command, ApplyOfTheSameSaysSo) {
  std::string edge = file("edge.toml", kIntent);
  for (const char* query : {"?wait=adopted", "?dry_run=1"}) {
    server.answer(std::string("PUT /v1/intent") + query, 200,
                  R"({"revision":12,"changed":false,"adopted":true,"generation":17,)"
                  R"("differences":[]})");
  }
  expect(ask({"apply", edge}), 0, "nothing changes (revision 12, running as generation 17)\n", "");
  expect(ask({"apply", edge, "--dry-run"}), 0, "nothing changes\n", "");
}

TEST_F(Command, ApplyShowsTheLineOfARefusal) {
  std::string edge = file("edge.toml", kIntent);
  server.answer("PUT /v1/intent?wait=adopted", 400,
                R"({"error":{"field":"pools.web.backends.10.0.0.21.weight",)"
                R"("message":"must be 0 to 65535, got -1","hint":""}})");
  expect(ask({"apply", edge}), 1, "",
         "guideway: " + edge +
             ":4:26: pools.web.backends.10.0.0.21.weight: must be 0 to 65535, "
             "got -1\n");
  edge = file("unknown.toml", "[pools.web]\nforwarding = \"l2\"\nwieght = 3\n");
  server.answer("PUT /v1/intent?wait=adopted", 400,
                R"({"error":{"field":"pools.web.wieght","message":"unknown field",)"
                R"("hint":"known here: forwarding, table_slots, backends"}})");
  expect(ask({"apply", edge}), 1, "",
         "guideway: " + edge +
             ":3:10: pools.web.wieght: unknown field\n"
             "  hint: known here: forwarding, table_slots, backends\n");
}

TEST_F(Command, ApplyOfABadFileAsksNobody) {
  std::string bad = file("bad.toml", "[pools.web]\nforwarding = ipip\n");
  Outcome outcome = ask({"apply", bad});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.err.rfind("guideway: " + bad + ":2:15: ", 0), 0u) << outcome.err;
  expect(ask({"apply", folder.path + "/none.toml"}), 1, "",
         "guideway: " + folder.path + "/none.toml: cannot read it: No such file or directory\n");
  expect(ask({"apply", file("empty.toml", "")}), 1, "",
         "guideway: " + folder.path +
             "/empty.toml: has neither [pools] nor [services]\n"
             "  hint: to remove all pools and services, say so with two empty tables\n");
  EXPECT_EQ(server.requests(), Strings{});
}

}  // namespace
}  // namespace guideway::test
