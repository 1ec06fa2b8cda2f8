// SPDX-License-Identifier: Apache-2.0
// The agent's server against peers that follow the protocol, and peers that do not.
#include "controlplane/cli/agent_server.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cstring>
#include <optional>
#include <random>

#include "controlplane/cli/agent.h"
#include "tests/controlplane/loop_thread.h"

namespace guideway::cli {
namespace {

const AgentKey kKey{std::string(32, 'k') + "1"};

sockaddr_in loopback(uint8_t last, uint16_t port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  const uint8_t bytes[4] = {127, 0, 0, last};
  std::memcpy(&name.sin_addr, bytes, 4);
  return name;
}

// A blocking connection, from 127.0.0.`from`.
class Peer {
 public:
  explicit Peer(uint16_t port, uint8_t from = 1) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval limit{.tv_sec = 20, .tv_usec = 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    const sockaddr_in source = loopback(from, 0);
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<const sockaddr*>(&source), sizeof source), 0);
    const sockaddr_in to = loopback(1, port);
    EXPECT_EQ(connect(fd_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  }

  const AgentChallenge& greet() {
    std::string bytes(kAgentChallengeBytes, '\0');
    EXPECT_EQ(recv(fd_.get(), bytes.data(), bytes.size(), MSG_WAITALL), ssize_t(bytes.size()));
    challenge_ = AgentChallenge::parse(bytes).value();
    return challenge_;
  }
  // False if the other end has closed.
  bool say(std::string_view bytes) {
    return send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == ssize_t(bytes.size());
  }
  void no_more() { shutdown(fd_.get(), SHUT_WR); }
  // All up to the end of the connection.
  std::string rest() {
    std::string out;
    char buffer[4096];
    ssize_t n;
    while ((n = recv(fd_.get(), buffer, sizeof buffer, 0)) > 0)
      out.append(buffer, static_cast<size_t>(n));
    EXPECT_TRUE(n == 0 || errno == ECONNRESET) << strerror(errno);
    return out;
  }
  // A whole, right exchange; the challenge has been read.
  Result<AgentAnswer> ask(const AgentRequest& request) {
    const auto message = seal_request(kKey, challenge_, write_agent_request(request));
    say(message->bytes);
    const std::string answer = rest();
    const AgentFrame frame = AgentFrame::of(answer, kAgentAnswerMax);
    if (!genuine_answer(kKey, challenge_, message->mac, frame)) return fail("", "not genuine");
    return read_agent_answer(frame.body);
  }

 private:
  UniqueFd fd_;
  AgentChallenge challenge_;
};

class AgentServerTest : public testing::Test {
 protected:
  ~AgentServerTest() override {
    loop_([this] { server_.reset(); });
  }
  void start(AgentServerLimits limits = {}) {
    const AgentHost host{.sockets = [this](const AgentRequest& request) -> Result<uint64_t> {
                           if (fails_) return fail("sockets", "cannot be counted");
                           return request.ranges.size();
                         },
                         .second_chances = [] { return uint64_t{77}; }};
    loop_([&] {
      auto server =
          AgentServer::create(loop_.loop(), kKey, *AgentListen::parse("127.0.0.1:0"), host, limits);
      ASSERT_TRUE(server) << server.error().text();
      server_ = std::move(*server);
    });
    port_ = server_->port();
    request_.backend = *Address::parse("127.0.0.1");
    request_.ranges = {{1, 2}, {5, 6}, {9, 9}};
  }
  AgentServerCounters counters() {
    return loop_([this] { return server_->counters(); });
  }
  bool ends_with(const AgentServerCounters& wanted) {
    return loop_.eventually(
        [&, this] { return server_->counters() == wanted && server_->connections() == 0; });
  }
  std::string sealed(const AgentChallenge& challenge) {
    return seal_request(kKey, challenge, write_agent_request(request_))->bytes;
  }

  LoopThread loop_;
  std::unique_ptr<AgentServer> server_;
  uint16_t port_ = 0;
  AgentRequest request_;
  std::atomic<bool> fails_{false};
};

TEST_F(AgentServerTest, AnswersWhoHasTheKey) {
  start();
  Peer peer(port_);
  peer.greet();
  const Result<AgentAnswer> answer = peer.ask(request_);
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->sockets, 3u);
  EXPECT_EQ(answer->second_chances, 77u);
  EXPECT_EQ(answer->version, GW_VERSION);
  EXPECT_EQ(answer->boot_id.size(), 36u);
  EXPECT_GT(answer->started, 1'600'000'000);
  EXPECT_TRUE(ends_with({.answered = 1}));
}

TEST_F(AgentServerTest, SaysWhyItCannotTell) {
  start();
  fails_ = true;
  Peer peer(port_);
  peer.greet();
  EXPECT_EQ(peer.ask(request_).error().text(), "it refused: sockets: cannot be counted");
  Peer astray(port_);
  astray.greet();
  request_.backend = *Address::parse("127.0.0.2");
  EXPECT_EQ(astray.ask(request_).error().text(),
            "it refused: the request is for 127.0.0.2, but came to 127.0.0.1 (an agent answers at "
            "its backend's own address only)");
  Peer nonsense(port_);
  const auto message = seal_request(kKey, nonsense.greet(), "{");
  nonsense.say(message->bytes);
  EXPECT_NE(nonsense.rest().find("no JSON object"), std::string::npos);
  EXPECT_TRUE(ends_with({.refused = 3}));
}

TEST_F(AgentServerTest, TellsNothingWithoutTheKey) {
  start();
  Peer stranger(port_);
  const AgentKey other{std::string(32, 'k') + "2"};
  stranger.say(seal_request(other, stranger.greet(), write_agent_request(request_))->bytes);
  EXPECT_EQ(stranger.rest(), "");
  EXPECT_TRUE(ends_with({.wrong_key = 1}));
}

TEST_F(AgentServerTest, AReplayedRequestIsNone) {
  start();
  Peer first(port_);
  const std::string request = sealed(first.greet());
  first.say(request);
  EXPECT_NE(first.rest(), "");
  Peer second(port_);
  second.greet();
  second.say(request);
  EXPECT_EQ(second.rest(), "");
  EXPECT_TRUE(ends_with({.answered = 1, .wrong_key = 1}));
}

TEST_F(AgentServerTest, CutOffAtEachByte) {
  start();
  const size_t length = sealed({}).size();
  for (size_t cut = 0; cut < length; ++cut) {
    Peer peer(port_);
    const std::string request = sealed(peer.greet());
    peer.say(std::string_view(request).substr(0, cut));
    peer.no_more();
    ASSERT_EQ(peer.rest(), "") << cut;
  }
  EXPECT_TRUE(ends_with({.broken = length}));
}

TEST_F(AgentServerTest, ByteByByteIsWellToo) {
  start({.connections = 64, .timeout = std::chrono::seconds(20)});
  Peer peer(port_);
  for (const char c : sealed(peer.greet())) ASSERT_TRUE(peer.say({&c, 1}));
  EXPECT_NE(peer.rest(), "");
  EXPECT_TRUE(ends_with({.answered = 1}));
}

TEST_F(AgentServerTest, TooLongTooMuchAndRubbish) {
  start();
  Peer large(port_);
  large.greet();
  large.say(std::string("\0\x10\0\1", 4));
  EXPECT_EQ(large.rest(), "") << "closed at once, without the rest";
  Peer more(port_);
  more.say(sealed(more.greet()) + "x");
  EXPECT_EQ(more.rest(), "");
  std::mt19937 random(1);
  for (int i = 0; i < 100; ++i) {
    Peer peer(port_);
    peer.greet();
    std::string rubbish(1 + random() % 300, '\0');
    for (char& c : rubbish) c = static_cast<char>(random());
    peer.say(rubbish);
    peer.no_more();
    EXPECT_EQ(peer.rest(), "");
  }
  EXPECT_TRUE(loop_.eventually([&] { return server_->connections() == 0; }));
  EXPECT_EQ(counters().answered, 0u);
  EXPECT_EQ(counters().broken + counters().wrong_key, 102u);
}

TEST_F(AgentServerTest, TheLargestRequestIsTaken) {
  start({.connections = 64, .timeout = std::chrono::seconds(20)});
  request_.ranges.assign(kAgentRangesMax, {0xfffffffe, 0xffffffff});
  Peer peer(port_);
  peer.greet();
  const Result<AgentAnswer> answer = peer.ask(request_);
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->sockets, kAgentRangesMax);
}

TEST_F(AgentServerTest, WhoIsSlowLosesHisTime) {
  start({.connections = 64, .timeout = std::chrono::milliseconds(300)});
  Peer silent(port_, 2);
  silent.greet();
  Peer half(port_, 2);
  half.say(sealed(half.greet()).substr(0, 20));
  Peer quick(port_);
  quick.greet();
  EXPECT_TRUE(quick.ask(request_));
  EXPECT_EQ(silent.rest(), "");
  EXPECT_EQ(half.rest(), "");
  EXPECT_TRUE(ends_with({.answered = 1, .timed_out = 2}));
}

TEST_F(AgentServerTest, WhoTakesAllConnectionsCrowdsOutHimself) {
  start({.connections = 8, .timeout = std::chrono::seconds(60)});
  Peer honest(port_);
  honest.greet();
  std::vector<std::unique_ptr<Peer>> greedy;
  for (int i = 0; i < 50; ++i) {
    greedy.push_back(std::make_unique<Peer>(port_, uint8_t{2}));
    greedy.back()->greet();
  }
  EXPECT_EQ(loop_([this] { return server_->connections(); }), 8u);
  Peer later(port_, 3);
  later.greet();
  EXPECT_TRUE(honest.ask(request_)) << "was there first, and has not asked until now";
  EXPECT_TRUE(later.ask(request_));
  EXPECT_EQ(greedy[0]->rest(), "");
  greedy.clear();
  EXPECT_TRUE(loop_.eventually([&] { return server_->connections() == 0; }));
  EXPECT_EQ(counters().crowded_out, 44u);
}

TEST(AgentListenText, AddressAndPort) {
  for (const char* text : {"[::]:6081", "0.0.0.0:6081", "10.0.0.21:1", "[fd00::21]:65535"})
    EXPECT_EQ(AgentListen::parse(text).value().text(), text);
  EXPECT_EQ(AgentListen{}.text(), "[::]:6081") << "the default";
  for (const char* text :
       {"", ":", "6081", ":6081", "10.0.0.21", "10.0.0.21:", "10.0.0.21:x", "10.0.0.21:65536",
        "10.0.0.21:-1", "10.0.0.21:1 ", "[10.0.0.21]:1", "::1:6081", "[::1:6081", "host:6081"})
    EXPECT_FALSE(AgentListen::parse(text)) << text;
}

TEST_F(AgentServerTest, APortInUseIsAnError) {
  start();
  AgentListen same{*Address::parse("127.0.0.1"), port_};
  loop_([&] {
    const auto server = AgentServer::create(loop_.loop(), kKey, same, {}, {});
    ASSERT_FALSE(server);
    EXPECT_EQ(server.error().text(), same.text() +
                                         ": cannot be listened on: Address already in use (name "
                                         "another with --listen)");
  });
}

}  // namespace
}  // namespace guideway::cli
