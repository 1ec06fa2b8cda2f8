// SPDX-License-Identifier: Apache-2.0
// scripts/completion/guideway.bash in a real bash: what it offers after a given line.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <regex>
#include <set>
#include <sstream>

#include "tests/cli/fake_server.h"
#include "tests/cli/program.h"

namespace guideway::test {
namespace {

using Words = std::set<std::string>;

// As bash does on TAB at the end of `line`. The program is found by PATH, as on a user's machine.
Words offered(const std::string& line, const std::string& socket = "/nonexistent") {
  std::string folder = std::filesystem::path(guideway()).parent_path();
  const char* script = std::getenv("GUIDEWAY_COMPLETION");
  std::string bash = std::string("source '") + (script == nullptr ? "" : script) +
                     "' || exit 1\n"
                     "COMP_LINE=$1; COMP_POINT=${#1}; COMPREPLY=()\n"
                     "_guideway\n"
                     "printf '%s\\n' \"${COMPREPLY[@]}\"\n";
  std::string path = "PATH=" + folder + ":/usr/bin:/bin";
  Outcome outcome =
      run({"/bin/bash", "-c", bash, "bash", line}, {path, "GUIDEWAY_SOCKET=" + socket});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  Words words;
  std::istringstream lines(outcome.out);
  for (std::string word; std::getline(lines, word);) {
    word.erase(word.find_last_not_of(' ') + 1);
    if (!word.empty()) words.insert(word);
  }
  return words;
}

// The words that `guideway PATH --help` documents: subcommands, or long options.
Words documented(const std::vector<std::string>& path, bool options) {
  std::vector<std::string> line = {guideway()};
  line.insert(line.end(), path.begin(), path.end());
  line.push_back("--help");
  std::string help = run(line).out;
  Words words;
  if (options) {
    std::regex option("\n  (?:-\\w,)?(--[a-z-]+)");
    for (std::sregex_iterator at(help.begin(), help.end(), option), end; at != end; ++at) {
      words.insert((*at)[1]);
    }
    return words;
  }
  size_t section = help.find("Subcommands:");
  if (section == std::string::npos) return words;
  std::string list = help.substr(section);
  std::regex command("\n  ([a-z]+) ");
  for (std::sregex_iterator at(list.begin(), list.end(), command), end; at != end; ++at) {
    words.insert((*at)[1]);
  }
  return words;
}

std::string joined(const std::vector<std::string>& path) {
  std::string line = "guideway ";
  for (const std::string& word : path) line += word + " ";
  return line;
}

TEST(Completion, OffersEveryCommandAndOptionThatThereIs) {
  EXPECT_EQ(documented({}, false).count("status"), 1u);
  std::vector<std::vector<std::string>> paths = {{}};
  for (size_t i = 0; i < paths.size(); ++i) {
    std::vector<std::string> path = paths[i];
    Words commands = documented(path, false);
    if (!commands.empty()) {
      EXPECT_EQ(offered(joined(path)), commands) << joined(path);
    }
    Words options = offered(joined(path) + "--");
    for (const std::string& option : documented(path, true)) {
      if (option != "--version" || path.empty()) {
        EXPECT_EQ(options.count(option), 1u) << joined(path) << option;
      }
    }
    for (const std::string& command : commands) {
      paths.push_back(path);
      paths.back().push_back(command);
    }
  }
  EXPECT_GT(paths.size(), 15u);
}

TEST(Completion, FinishesWords) {
  EXPECT_EQ(offered("guideway st"), Words{"status"});
  EXPECT_EQ(offered("guideway --json --socket /x pool a"), Words{"add"});
  EXPECT_EQ(offered("guideway pool add web --forwarding "), (Words{"l2", "ipip", "gue"}));
  EXPECT_EQ(offered("guideway pool add web --forwarding i"), Words{"ipip"});
  EXPECT_EQ(offered("guideway pool set web --probe "),
            (Words{"none", "icmp", "tcp:", "udp:", "http:"}));
  EXPECT_EQ(offered("guideway pool set web --probe ht"), Words{"http:"});
  EXPECT_EQ(offered("guideway pool add web --probe-query "), (Words{"dns", "echo"}));
  EXPECT_EQ(offered("guideway backend drain web --deadline "), Words{});
  EXPECT_EQ(offered("guideway backend d"), (Words{"drain", "disable"}));
  EXPECT_EQ(offered("guideway nonsense "), Words{});
}

TEST(Completion, AsksForNames) {
  FakeServer server;
  server.answer("GET /v1/pools", 200, R"([{"name":"web","forwarding":"l2"}, {"name": "api"}])");
  server.answer("GET /v1/pools/web", 200,
                R"({"name":"web","backends":[{"address":"10.0.0.21","next_hop":{"mac":"02:00"}},)"
                R"({"address":"2001:db8::7"}]})");
  server.answer("GET /v1/services", 200,
                R"([{"service":"203.0.113.10:443/tcp","pool":"web"},)"
                R"({"service":"203.0.113.10:80/tcp","pool":"web"}])");
  const std::string& socket = server.socket();
  EXPECT_EQ(offered("guideway pool show ", socket), (Words{"web", "api"}));
  EXPECT_EQ(offered("guideway pool remove w", socket), Words{"web"});
  EXPECT_EQ(offered("guideway service add 203.0.113.10:443/tcp --pool ", socket),
            (Words{"web", "api"}));
  EXPECT_EQ(offered("guideway backend weight web ", socket), (Words{"10.0.0.21", "2001:db8::7"}));
  EXPECT_EQ(offered("guideway backend remove --no-wait web 10", socket), Words{"10.0.0.21"});
  EXPECT_EQ(offered("guideway backend drain --deadline 5m web ", socket),
            (Words{"10.0.0.21", "2001:db8::7"}));
  EXPECT_EQ(offered("guideway service remove 203", socket),
            (Words{"203.0.113.10:443/tcp", "203.0.113.10:80/tcp"}));
  // bash breaks words at ':' and wants only what follows it.
  EXPECT_EQ(offered("guideway service remove 203.0.113.10:4", socket), Words{"443/tcp"});
  EXPECT_EQ(offered("guideway explain 198.51.100.7:40000 203.0.113.10:8", socket), Words{"80/tcp"});
  // Named on the line: this socket, not the one of the environment.
  EXPECT_EQ(offered("guideway --socket " + socket + " pool show "), (Words{"web", "api"}));
  EXPECT_EQ(offered("guideway pool show "), Words{});
}

TEST(Completion, OffersFilesForApply) {
  TemporaryFolder folder;
  folder.write("edge.toml", "");
  folder.write("edgy/x", "");
  EXPECT_EQ(offered("guideway apply " + folder.path + "/edg"),
            (Words{folder.path + "/edge.toml", folder.path + "/edgy/"}));
}

}  // namespace
}  // namespace guideway::test
