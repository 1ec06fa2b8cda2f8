// SPDX-License-Identifier: Apache-2.0
// The node's end against real agents' servers, many of them, in a network namespace of their own.
#include "controlplane/agent_client.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <cstring>
#include <future>
#include <numeric>

#include "controlplane/cli/agent_server.h"
#include "tests/bpf/private_network.h"
#include "tests/controlplane/loop_thread.h"

namespace guideway {
namespace {

using cli::AgentHost;
using cli::AgentListen;
using cli::AgentServer;

const AgentKey kKey{std::string(32, 'k') + "1"};
const AgentKey kOther{std::string(32, 'k') + "2"};

Address address(const std::string& text) {
  return *Address::parse(text);
}

class AgentClientTest : public PrivateNetwork {
 protected:
  void SetUp() override {
    PrivateNetwork::SetUp();
    if (IsSkipped()) return;
    // Made after the move into the namespace: threads stay where they began.
    loop_ = std::make_unique<LoopThread>();
    agents_ = std::make_unique<LoopThread>();
    client_ = create({});
  }
  void TearDown() override {
    if (!loop_) return;
    (*loop_)([this] { client_.reset(); });
    (*agents_)([this] { servers_.clear(); });
  }

  std::unique_ptr<AgentClient> create(AgentClientLimits limits) {
    return (*loop_)(
        [&] { return std::move(*AgentClient::create(loop_->loop(), kKey, kAgentPort, limits)); });
  }
  // Answers with the number of ranges that it was asked about.
  void serve(const Address& where, const AgentKey& key = kKey) {
    const AgentHost host{.sockets = [this](const AgentRequest& request) -> Result<uint64_t> {
                           ++requests_;
                           last_ = request;
                           return request.ranges.size();
                         },
                         .second_chances = [] { return uint64_t{77}; }};
    (*agents_)([&] {
      auto server =
          AgentServer::create(agents_->loop(), key, AgentListen{where, kAgentPort}, host, {});
      ASSERT_TRUE(server) << server.error().text();
      servers_.push_back(std::move(*server));
    });
  }
  // Takes connections (the kernel does), and says nothing.
  UniqueFd pretend(const Address& where) {
    UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(kAgentPort);
    std::memcpy(&name.sin_addr, where.v4(), 4);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name), 0);
    EXPECT_EQ(listen(fd.get(), 8), 0);
    return fd;
  }

  std::future<AgentClient::Answers> start(AgentClient& client,
                                          std::vector<AgentQuestion> questions) {
    auto promise = std::make_shared<std::promise<AgentClient::Answers>>();
    auto future = promise->get_future();
    (*loop_)([&] {
      auto within = std::make_shared<bool>(true);
      client.ask(99, services_, std::move(questions), [=, this](AgentClient::Answers answers) {
        EXPECT_TRUE(loop_->loop().in_loop());
        EXPECT_FALSE(*within);
        promise->set_value(std::move(answers));
      });
      *within = false;
    });
    return future;
  }
  AgentClient::Answers ask(std::vector<AgentQuestion> questions) {
    return start(*client_, std::move(questions)).get();
  }
  std::string error(const Address& backend) {
    const AgentClient::Answers answers = ask({{backend, {}}});
    const Result<AgentAnswer>& answer = answers.at(backend);
    return answer ? "" : answer.error().text();
  }

  std::vector<ServiceKey> services_ = {*ServiceKey::parse("203.0.113.10:443/tcp"),
                                       *ServiceKey::parse("203.0.113.10:53/udp"),
                                       *ServiceKey::parse("203.0.113.10:53/tcp")};
  std::unique_ptr<LoopThread> loop_;
  std::unique_ptr<LoopThread> agents_;
  std::unique_ptr<AgentClient> client_;
  std::vector<std::unique_ptr<AgentServer>> servers_;
  std::atomic<unsigned> requests_{0};
  AgentRequest last_;
};

TEST_F(AgentClientTest, BothFamiliesAndMapped) {
  serve(address("::"));
  for (const char* backend : {"::1", "127.0.0.1", "127.0.0.9"}) {
    const AgentClient::Answers answers = ask({{address(backend), {{1, 2}, {4, 5}}}});
    ASSERT_EQ(answers.size(), 1u);
    const Result<AgentAnswer>& answer = answers.at(address(backend));
    ASSERT_TRUE(answer) << answer.error().text();
    EXPECT_EQ(answer->sockets, 2u);
    EXPECT_EQ(answer->second_chances, 77u);
    EXPECT_EQ(answer->version, GW_VERSION);
    EXPECT_EQ(last_.backend, address(backend));
    EXPECT_EQ(last_.flow_seed, 99u);
    EXPECT_EQ(last_.services, (std::vector<ServiceKey>{services_[0], services_[2]})) << "no UDP";
  }
}

TEST_F(AgentClientTest, NothingAskedIsAnsweredToo) {
  EXPECT_TRUE(ask({}).empty());
}

TEST_F(AgentClientTest, ErrorsSayWhy) {
  const Address other = address("127.0.0.2");
  EXPECT_EQ(error(other),
            "agent 127.0.0.2: connection refused (is `guideway agent run --key FILE` running "
            "there?)");
  EXPECT_EQ(error(address("198.51.100.1")),
            "agent 198.51.100.1: cannot be reached: Network is unreachable");
  serve(other, kOther);
  EXPECT_EQ(error(other),
            "agent 127.0.0.2: wrong key: no answer to our request: closed ([agents] key_file and "
            "the agent's --key must be the same)");
  serve(address("127.0.0.4"));
  // Somebody on the way makes one backend's connection end at another.
  shell(
      "nft 'add table ip t; add chain ip t o { type nat hook output priority -100; }; "
      "add rule ip t o ip daddr 127.0.0.3 dnat to 127.0.0.4'");
  EXPECT_EQ(error(address("127.0.0.3")),
            "agent 127.0.0.3: it refused: the request is for 127.0.0.3, but came to 127.0.0.4 (an "
            "agent answers at its backend's own address only)");
}

TEST_F(AgentClientTest, StrangersAtThePort) {
  // Each says something else, and closes.
  const std::string challenge(AgentChallenge::fresh()->view());
  const std::pair<std::string, std::string> cases[] = {
      {"", "no challenge: closed (it has too many connections, or is no agent)"},
      {challenge.substr(0, 39),
       "no challenge: closed (it has too many connections, or is no agent)"},
      {"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "what answers there is no agent"},
      {challenge + std::string("\0\0\0\2{}", 6) + std::string(32, 'x'),
       "the answer is not signed with this node's key ([agents] key_file and the agent's --key "
       "must be the same)"},
      {challenge + std::string("\xff\xff\xff\xff", 4),
       "the answer is not signed with this node's key ([agents] key_file and the agent's --key "
       "must be the same)"},
      {challenge + std::string("\0\0\0\2{", 5), "half an answer: closed"},
  };
  const UniqueFd listener = pretend(address("127.0.0.5"));
  for (const auto& [words, why] : cases) {
    auto answers = start(*client_, {{address("127.0.0.5"), {{1, 2}}}});
    UniqueFd fd(accept(listener.get(), nullptr, nullptr));
    ASSERT_EQ(write(fd.get(), words.data(), words.size()), ssize_t(words.size()));
    shutdown(fd.get(), SHUT_WR);
    EXPECT_EQ(answers.get().at(address("127.0.0.5")).error().text(), "agent 127.0.0.5: " + why);
  }
}

TEST_F(AgentClientTest, TwentySilentOfTwoHundredTimeOutTogether) {
  std::vector<AgentQuestion> questions;
  for (int i = 1; i <= 180; ++i) {
    const Address backend = address("127.0.1." + std::to_string(i));
    serve(backend);
    questions.push_back({backend, std::vector<HashRange>(static_cast<size_t>(i), {1, 2})});
  }
  // Ten that take the connection and say nothing; ten of which nothing comes at all.
  add_veth("gw0", "gw1");
  shell("ip link set gw0 arp off && ip addr add 10.9.9.1/24 dev gw0");
  std::vector<UniqueFd> silent;
  for (int i = 1; i <= 10; ++i) {
    silent.push_back(pretend(address("127.0.2." + std::to_string(i))));
    questions.push_back({address("127.0.2." + std::to_string(i)), {}});
    questions.push_back({address("10.9.9." + std::to_string(100 + i)), {}});
  }
  const auto begin = std::chrono::steady_clock::now();
  const AgentClient::Answers answers = ask(questions);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  EXPECT_GE(took.count(), 2.0);
  EXPECT_LT(took.count(), 8.0) << "one after another it would be 40 s";
  std::cout << "200 agents, 20 silent: " << took.count() << " s\n";
  ASSERT_EQ(answers.size(), 200u);
  for (int i = 1; i <= 180; ++i) {
    const auto& answer = answers.at(address("127.0.1." + std::to_string(i)));
    ASSERT_TRUE(answer) << answer.error().text();
    EXPECT_EQ(answer->sockets, static_cast<uint64_t>(i));
  }
  for (int i = 1; i <= 10; ++i) {
    const std::string near = "127.0.2." + std::to_string(i);
    EXPECT_EQ(answers.at(address(near)).error().text(),
              "agent " + near + ": timed out: connected, but no answer within 2000 ms");
    const std::string far = "10.9.9." + std::to_string(100 + i);
    EXPECT_EQ(answers.at(address(far)).error().text(),
              "agent " + far + ": timed out: no connection within 2000 ms");
  }
}

TEST_F(AgentClientTest, MoreBackendsThanConnections) {
  auto narrow = create({.connections = 3, .timeout = std::chrono::milliseconds(20000)});
  serve(address("0.0.0.0"));
  std::vector<AgentQuestion> questions;
  for (int i = 1; i <= 100; ++i) {
    questions.push_back({address("127.0.3." + std::to_string(i)), {{1, 2}}});
    questions.push_back({address("127.0.4." + std::to_string(i)), {{1, 2}}});
  }
  auto first = start(*narrow, questions);
  auto second = start(*narrow, questions);
  for (auto* round : {&first, &second}) {
    const AgentClient::Answers answers = round->get();
    ASSERT_EQ(answers.size(), 200u);
    for (const auto& [backend, answer] : answers) EXPECT_TRUE(answer) << backend.text();
  }
  EXPECT_EQ(requests_, 400u);
  (*loop_)([&] { narrow.reset(); });
}

TEST_F(AgentClientTest, ALargeQuestionIsAskedInParts) {
  serve(address("127.0.0.1"));
  std::vector<HashRange> ranges(2 * kAgentRangesMax + 1, {1, 2});
  auto answers = ask({{address("127.0.0.1"), ranges}});
  ASSERT_TRUE(answers.at(address("127.0.0.1"))) << answers.begin()->second.error().text();
  EXPECT_EQ(answers.at(address("127.0.0.1"))->sockets, ranges.size());
  EXPECT_EQ(requests_, 3u);
  answers = ask({{address("127.0.0.1"), {{1, 2}}}, {address("127.0.0.1"), {{3, 4}, {5, 6}}}});
  EXPECT_EQ(answers.at(address("127.0.0.1"))->sockets, 3u) << "stands twice";
}

TEST_F(AgentClientTest, GoneWhileAskingItCallsNobody) {
  const UniqueFd silent = pretend(address("127.0.0.6"));
  serve(address("127.0.0.1"));
  auto never = start(*client_, {{address("127.0.0.6"), {}}});
  ask({{address("127.0.0.1"), {}}});
  (*loop_)([&] {
    client_->ask(1, services_, {}, [](auto) { FAIL(); });
    client_.reset();
  });
  EXPECT_THROW(never.get(), std::future_error);
}

}  // namespace
}  // namespace guideway
