// SPDX-License-Identifier: Apache-2.0
// A test that runs the real program against a fake control plane.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/cli/fake_server.h"
#include "tests/cli/program.h"

namespace guideway::test {

using Strings = std::vector<std::string>;

class Command : public testing::Test {
 protected:
  // Runs `guideway` with the fake's socket.
  Outcome ask(Strings arguments, const std::string& input = "") {
    arguments.insert(arguments.begin(), {guideway(), "--socket", server.socket()});
    return run(arguments, {}, input);
  }
  void expect(const Outcome& outcome, int exit_code, const std::string& out,
              const std::string& err) {
    EXPECT_EQ(outcome.exit_code, exit_code);
    EXPECT_EQ(outcome.out, out);
    EXPECT_EQ(outcome.err, err);
  }
  std::string file(const std::string& name, const std::string& text) {
    return folder.write(name, text);
  }

  FakeServer server;
  TemporaryFolder folder;
};

}  // namespace guideway::test
