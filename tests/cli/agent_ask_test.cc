// SPDX-License-Identifier: Apache-2.0
// `guideway agent run --key` as a backend runs it, asked by a node's client.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <future>
#include <sstream>

#include "controlplane/agent_client.h"
#include "controlplane/cli/agent.h"
#include "tests/bpf/private_network.h"
#include "tests/controlplane/loop_thread.h"

namespace guideway::cli {
namespace {

struct Shown {
  int exit_code;
  std::string out, err;
};

Shown shown(int (*command)(const Context&, const AgentOptions&), const AgentOptions& options,
            bool json = false) {
  std::ostringstream out, err;
  Context context(out, err);
  context.json = json;
  const int exit_code = command(context, options);
  return {exit_code, out.str(), err.str()};
}

class AgentAsked : public PrivateNetwork {
 protected:
  void SetUp() override {
    PrivateNetwork::SetUp();
    if (IsSkipped()) return;
    add_veth("gw0", "gw1");
    shell("ip addr add 10.0.0.21/24 dev gw0 && ip addr add 203.0.113.10/32 dev lo");
    options_.interface = "gw0";
    options_.allow = {"10.0.0.0/24"};
    options_.key = testing::TempDir() + "agent-asked-" + std::to_string(getpid());
    write_key(shown(agent_key, {}).out, 0600);
  }
  void TearDown() override { std::remove(options_.key.c_str()); }

  void write_key(const std::string& text, mode_t mode) {
    std::ofstream(options_.key) << text;
    ASSERT_EQ(chmod(options_.key.c_str(), mode), 0);
  }

  AgentOptions options_;
};

TEST_F(AgentAsked, PrintsKeys) {
  const Shown key = shown(agent_key, {});
  EXPECT_EQ(key.exit_code, kOk);
  EXPECT_EQ(key.out.size(), 65u);
  EXPECT_NE(key.out, shown(agent_key, {}).out);
  EXPECT_EQ(shown(agent_key, {}, true).out.substr(0, 8), R"({"key":")");
}

TEST_F(AgentAsked, RefusesAWrongKeyFileBeforeItAttaches) {
  write_key("secret", 0600);
  Shown run = shown(agent_run, options_);
  EXPECT_EQ(run.exit_code, kRefused);
  EXPECT_EQ(run.err, "guideway: " + options_.key +
                         ": holds 6 bytes; a key is 64 and more hex digits, or 32 to 64 bytes "
                         "((umask 077; guideway agent key >FILE))\n");
  write_key(shown(agent_key, {}).out, 0644);
  run = shown(agent_run, options_);
  EXPECT_EQ(run.exit_code, kRefused);
  EXPECT_NE(run.err.find("(chmod 600 " + options_.key + ")"), std::string::npos) << run.err;
  EXPECT_EQ(shown(agent_status, {}).exit_code, kRefused) << "nothing is attached";
}

TEST_F(AgentAsked, OptionsThatDoNotGoTogether) {
  AgentOptions options = options_;
  options.once = true;
  EXPECT_EQ(shown(agent_run, options).exit_code, kUsage);
  options = options_;
  options.listen = "6081";
  EXPECT_EQ(shown(agent_run, options).exit_code, kUsage);
  options.listen = "[::]:6081";
  options.key = "";
  EXPECT_EQ(shown(agent_run, options).err, "guideway: --listen: needs --key\n");
}

TEST_F(AgentAsked, CountsThisHostsSockets) {
  const pid_t child = fork();
  if (child == 0) {
    std::ofstream log("/dev/null");
    Context context(log, log);
    _exit(agent_run(context, options_));
  }
  // Three connections to the VIP.
  sockaddr_in vip{};
  vip.sin_family = AF_INET;
  vip.sin_port = htons(443);
  std::memcpy(&vip.sin_addr, Address::parse("203.0.113.10")->v4(), 4);
  const auto* name = reinterpret_cast<const sockaddr*>(&vip);
  UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(listener.get(), name, sizeof vip), 0);
  ASSERT_EQ(listen(listener.get(), 8), 0);
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(connect(clients.back().get(), name, sizeof vip), 0);
  }

  LoopThread loop;
  std::unique_ptr<AgentClient> client = loop([&] {
    return std::move(
        *AgentClient::create(loop.loop(), AgentKey::load(options_.key).value(), kAgentPort));
  });
  const Address backend = *Address::parse("10.0.0.21");
  Result<AgentAnswer> answer = fail("", "not asked");
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  // Refused until the agent is there.
  while (!answer && std::chrono::steady_clock::now() < until) {
    std::promise<AgentClient::Answers> promise;
    loop([&] {
      client->ask(1, {*ServiceKey::parse("203.0.113.10:443/tcp")}, {{backend, {{0, 0xffffffff}}}},
                  [&](AgentClient::Answers answers) { promise.set_value(std::move(answers)); });
    });
    answer = promise.get_future().get().at(backend);
  }
  EXPECT_TRUE(answer) << answer.error().text();
  if (answer) {
    EXPECT_EQ(answer->sockets, 3u);
    EXPECT_EQ(answer->second_chances, 0u);
    EXPECT_EQ(answer->version, GW_VERSION);
  }
  loop([&] { client.reset(); });
  kill(child, SIGTERM);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kOk) << status;
}

}  // namespace
}  // namespace guideway::cli
