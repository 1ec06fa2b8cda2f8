// SPDX-License-Identifier: Apache-2.0
// Wrong command lines, sockets without a control plane, terminals.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "tests/cli/fake_server.h"
#include "tests/cli/program.h"

namespace guideway::test {
namespace {

using Strings = std::vector<std::string>;

TEST(Unreachable, SaysWhichSocketWhyAndWhatToType) {
  TemporaryFolder folder;
  std::string socket = folder.path + "/none.sock";
  Outcome outcome = run({guideway(), "--socket", socket, "status"});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err,
            "guideway: cannot reach the control plane at " + socket +
                ": No such file or directory\n"
                "  hint: is the daemon started? `systemctl status guideway-controlplane`; another "
                "socket: --socket or GUIDEWAY_SOCKET\n");
  outcome = run({guideway(), "--json", "status"}, {"GUIDEWAY_SOCKET=" + socket});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_EQ(outcome.out.rfind(R"({"error":{"field":"","hint":"is the daemon started?)", 0), 0u)
      << outcome.out;
  outcome = run({guideway(), "--socket", std::string(200, 'x'), "pool", "list"});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_NE(outcome.err.find("File name too long"), std::string::npos) << outcome.err;
}

TEST(Unreachable, ADeadDaemonsSocket) {
  TemporaryFolder folder;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string path = folder.path + "/dead.sock";
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  close(fd);
  Outcome outcome = run({guideway(), "--socket", path, "pool", "list"});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_EQ(outcome.err,
            "guideway: cannot reach the control plane at " + path +
                ": Connection refused\n"
                "  hint: the daemon that made this socket is gone: `systemctl restart "
                "guideway-controlplane`, its last words: `journalctl -u guideway-controlplane -n "
                "50`\n");
}

struct UsageCase {
  Strings arguments;
  std::string err;
};

TEST(Usage, ErrorsAreTwoAndHelpful) {
  const UsageCase cases[] = {
      {{}, "guideway: A subcommand is required\n  see `guideway --help`\n"},
      {{"staus"},
       "guideway: no such command: guideway staus\n  did you mean `guideway status`?\n"
       "  see `guideway --help`\n"},
      {{"pool", "ad"},
       "guideway: no such command: guideway pool ad\n  did you mean `guideway pool add`?\n"
       "  see `guideway pool --help`\n"},
      {{"frobnicate"}, "guideway: no such command: guideway frobnicate\n  see `guideway --help`\n"},
      {{"pool", "add", "web"},
       "guideway: --forwarding is required\n  see `guideway pool add --help`\n"},
      {{"pool", "add", "web", "--forwarding", "gre"},
       "guideway: --forwarding: gre not in {l2,ipip,gue}\n  see `guideway pool add --help`\n"},
      {{"backend", "weight", "web", "10.0.0.1", "much"},
       "guideway: Could not convert: WEIGHT = much\n  see `guideway backend weight --help`\n"},
      {{"status", "now"},
       "guideway: The following argument was not expected: now\n  see `guideway status --help`\n"},
  };
  for (const UsageCase& wrong : cases) {
    Strings arguments = wrong.arguments;
    arguments.insert(arguments.begin(), guideway());
    Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.err, wrong.err);
  }
}

TEST(Usage, HelpAndVersionAreNoErrors) {
  for (const Strings& arguments : {Strings{"--help"}, {"--version"}, {"pool", "add", "--help"}}) {
    Strings line = arguments;
    line.insert(line.begin(), guideway());
    Outcome outcome = run(line);
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_NE(outcome.out, "");
    EXPECT_EQ(outcome.err, "");
  }
}

// A terminal, by util-linux's script(1).
std::string on_a_terminal(const std::string& socket, const std::string& no_colour) {
  return run({"script", "-qec", guideway() + " --socket " + socket + " pool list", "/dev/null"},
             {no_colour, "TERM=xterm"})
      .out;
}

TEST(Colour, OnATerminalOnlyAndNotWithNoColor) {
  FakeServer server;
  server.answer("GET /v1/pools", 200, R"([{"name":"web","forwarding":"l2","backends":[]}])");
  EXPECT_NE(on_a_terminal(server.socket(), "NO_COLOR=").find("\033["), std::string::npos);
  EXPECT_EQ(on_a_terminal(server.socket(), "NO_COLOR=1").find("\033["), std::string::npos);
  Outcome piped = run({guideway(), "--socket", server.socket(), "pool", "list"});
  EXPECT_EQ(piped.out.find("\033["), std::string::npos);
}

}  // namespace
}  // namespace guideway::test
