// SPDX-License-Identifier: Apache-2.0
// The http prober against servers on loopback that answer well, badly, slowly, without end.
#include "controlplane/http_prober.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "controlplane/unique_fd.h"
#include "tests/controlplane/test_network.h"

namespace guideway {
namespace {

using Kind = Outcome::Kind;

// One connection after the other; `serve` gets each with what was asked.
class Server {
 public:
  using Serve = std::function<void(int fd, const std::string& request)>;

  explicit Server(Serve serve, bool v6 = false) : serve_(std::move(serve)) {
    listener_.reset(socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_addr = in6addr_loopback;
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* address = v6 ? reinterpret_cast<sockaddr*>(&six) : reinterpret_cast<sockaddr*>(&four);
    socklen_t size = v6 ? sizeof six : sizeof four;
    EXPECT_EQ(bind(listener_.get(), address, size), 0);
    EXPECT_EQ(listen(listener_.get(), 16), 0);
    EXPECT_EQ(getsockname(listener_.get(), address, &size), 0);
    port = ntohs(v6 ? six.sin6_port : four.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~Server() {
    stopping_ = true;
    thread_.join();
  }

  uint16_t port = 0;
  std::atomic<bool> stopping_{false};

 private:
  void run() {
    while (!stopping_) {
      pollfd poll_fd{listener_.get(), POLLIN, 0};
      if (poll(&poll_fd, 1, 10) <= 0) continue;
      const UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!fd) continue;
      std::string request;
      char buffer[4096];
      while (request.find("\r\n\r\n") == request.npos) {
        const ssize_t n = recv(fd.get(), buffer, sizeof buffer, 0);
        if (n <= 0) break;
        request.append(buffer, static_cast<size_t>(n));
      }
      serve_(fd.get(), request);
    }
  }

  Serve serve_;
  UniqueFd listener_;
  std::thread thread_;
};

bool put(int fd, const std::string& text) {
  return send(fd, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

class HttpProberTest : public testing::Test {
 protected:
  HttpProberTest() {
    auto made = HttpProber::create([this](HttpAnswer answer) {
      const std::lock_guard lock(mutex_);
      answers_[answer.token] = std::move(answer.outcome);
      came_.notify_all();
    });
    prober_ = std::move(*made);
  }

  static Probe probe(uint16_t port, uint32_t timeout_ms = 5000) {
    Probe probe;
    probe.kind = ProbeKind::http;
    probe.port = port;
    probe.path = "/healthz";
    probe.timeout_ms = timeout_ms;
    return probe;
  }
  uint64_t start(const Probe& probe, const char* address = "127.0.0.1") {
    prober_->start({7, ++tokens_, *Address::parse(address), probe});
    return tokens_;
  }
  Outcome wait(uint64_t token) {
    std::unique_lock lock(mutex_);
    const bool there =
        came_.wait_for(lock, std::chrono::seconds(20), [&] { return answers_.count(token) != 0; });
    EXPECT_TRUE(there);
    return answers_[token];
  }
  Outcome ask(const Probe& probe, const char* address = "127.0.0.1") {
    return wait(start(probe, address));
  }
  Outcome ask_for(const std::string& answer) {
    Server server([&](int fd, const std::string&) { put(fd, answer); });
    return ask(probe(server.port));
  }

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  std::map<uint64_t, Outcome> answers_;
  uint64_t tokens_ = 0;

 protected:
  std::unique_ptr<HttpProber> prober_;  // ends first
};

TEST_F(HttpProberTest, SaysWhatItIsToldTo) {
  std::string got;
  Server server([&](int fd, const std::string& request) {
    got = request;
    put(fd, "HTTP/1.1 204 No Content\r\n\r\n");
  });
  Probe plain = probe(server.port);
  plain.path = "/a/../b?c=%20#d";
  setenv("http_proxy", "http://127.0.0.1:1/", 1);
  const Outcome outcome = ask(plain);
  unsetenv("http_proxy");
  EXPECT_EQ(outcome.kind, Kind::alive);
  EXPECT_GT(outcome.rtt_us, 0u);
  EXPECT_GT(outcome.decided_ns, outcome.sent_ns);
  EXPECT_EQ(got.substr(0, got.find("\r\n")), "GET /a/../b?c=%20#d HTTP/1.1");
  EXPECT_NE(got.find("\r\nHost: 127.0.0.1:" + std::to_string(server.port) + "\r\n"), got.npos);
  EXPECT_NE(got.find("\r\nUser-Agent: guideway/" GW_VERSION "\r\n"), got.npos);
  EXPECT_NE(got.find("\r\nConnection: close\r\n"), got.npos);

  plain.host = "www.example";
  EXPECT_EQ(ask(plain).kind, Kind::alive);
  EXPECT_NE(got.find("\r\nHost: www.example\r\n"), got.npos);
}

TEST_F(HttpProberTest, Ipv6) {
  Server server([](int fd, const std::string&) { put(fd, "HTTP/1.1 200 OK\r\n\r\nwell"); }, true);
  EXPECT_EQ(ask(probe(server.port), "::1").kind, Kind::alive);
}

TEST_F(HttpProberTest, TheStatusDecides) {
  int asked = 0;
  Server server([&](int fd, const std::string& request) {
    ++asked;
    const std::string path = request.substr(4, request.find(' ', 4) - 4);
    put(fd, "HTTP/1.1 " + path.substr(1) + " X\r\nLocation: /500\r\nContent-Length: 0\r\n\r\n");
  });
  for (const int status : {200, 204, 299, 301, 302, 399}) {
    Probe one = probe(server.port);
    one.path = "/" + std::to_string(status);
    EXPECT_EQ(ask(one).kind, Kind::alive) << status;
  }
  EXPECT_EQ(asked, 6) << "no redirect is followed";
  for (const int status : {400, 404, 500, 503}) {
    Probe one = probe(server.port);
    one.path = "/" + std::to_string(status);
    const Outcome outcome = ask(one);
    EXPECT_EQ(outcome.kind, Kind::bad);
    EXPECT_EQ(outcome.detail, "GET " + one.path + ": status " + std::to_string(status));
  }
}

TEST_F(HttpProberTest, WhatIsNoHttpIsBad) {
  for (const std::string& answer :
       {std::string(), std::string("HTTP"), std::string("SSH-2.0-OpenSSH_9.2\r\n"),
        std::string(5000, '\0'), std::string("HTTP/1.1 abc\r\n\r\n"),
        std::string("HTTP/9.9 200 OK\r\n\r\n"), std::string("\r\n\r\n\r\n"),
        std::string("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
        std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        std::string("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n")}) {
    const Outcome outcome = ask_for(answer);
    EXPECT_EQ(outcome.kind, Kind::bad) << answer.substr(0, 40);
    EXPECT_EQ(outcome.detail.rfind("GET /healthz: ", 0), 0u) << outcome.detail;
  }
  EXPECT_EQ(ask_for("").detail, "GET /healthz: closed without an answer");
}

TEST_F(HttpProberTest, OfAnEndlessBodyItReadsTheBeginning) {
  size_t sent = 0;
  Server server([&](int fd, const std::string&) {
    put(fd, "HTTP/1.1 200 OK\r\n\r\n");
    while (sent < 1u << 30 && put(fd, std::string(4096, 'x'))) sent += 4096;
  });
  EXPECT_EQ(ask(probe(server.port)).kind, Kind::alive);
  EXPECT_LT(sent, 64u << 20) << "what socket buffers hold, and no more";
}

TEST_F(HttpProberTest, AnEndlessHeaderIsBad) {
  Server server([&](int fd, const std::string&) {
    put(fd, "HTTP/1.1 200 OK\r\n");
    while (put(fd, "X-Long: " + std::string(1000, 'x') + "\r\n")) {
    }
  });
  const Outcome outcome = ask(probe(server.port));
  EXPECT_EQ(outcome.kind, Kind::bad);
  EXPECT_EQ(outcome.detail, "GET /healthz: a header of more than 64 KiB");
}

TEST_F(HttpProberTest, SlowAnswersAreNotWaitedFor) {
  std::atomic<bool> done{false};
  const auto hold = [&](int fd, const std::string& first) {
    put(fd, first);
    while (!done) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  Server silent([&](int fd, const std::string&) { hold(fd, ""); });
  Server partial([&](int fd, const std::string&) { hold(fd, "HTTP/1.1 200 OK\r\n\r\nx"); });
  Server loris([&](int fd, const std::string&) {
    while (!done && put(fd, "H")) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  });
  Outcome outcome = ask(probe(silent.port, 100));
  EXPECT_EQ(outcome.kind, Kind::bad);
  EXPECT_EQ(outcome.detail, "GET /healthz: connected, but no answer within 100 ms");
  EXPECT_GE(outcome.decided_ns - outcome.sent_ns, 99'000'000u);
  EXPECT_EQ(ask(probe(partial.port, 100)).detail,
            "GET /healthz: connected, but status 200 and not the whole answer within 100 ms");
  EXPECT_EQ(ask(probe(loris.port, 100)).kind, Kind::bad);
  done = true;
}

TEST_F(HttpProberTest, RefusedIsRefused) {
  uint16_t port = 0;
  {
    Server server([](int, const std::string&) {});
    port = server.port;
  }
  const Outcome outcome = ask(probe(port));
  EXPECT_EQ(outcome.kind, Kind::refused);
  EXPECT_EQ(outcome.detail, "GET /healthz: connection refused");
}

TEST_F(HttpProberTest, ManyAtATime) {
  std::atomic<bool> go{false};
  std::vector<std::unique_ptr<Server>> servers;
  std::vector<uint64_t> tokens;
  for (int i = 0; i < 20; ++i) {
    servers.push_back(std::make_unique<Server>([&](int fd, const std::string&) {
      while (!go) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      put(fd, "HTTP/1.1 200 OK\r\n\r\n");
    }));
    tokens.push_back(start(probe(servers.back()->port)));
  }
  go = true;
  for (const uint64_t token : tokens) EXPECT_EQ(wait(token).kind, Kind::alive);
}

TEST_F(HttpProberTest, EndsWithRequestsUnderWay) {
  Server server([](int fd, const std::string&) {
    char c;
    (void)!recv(fd, &c, 1, 0);
  });
  for (int i = 0; i < 5; ++i) start(probe(server.port, 60'000));
  prober_.reset();
}

// In a network of its own: a host that does not answer, and one to which there is no way.
TEST(HttpProberAway, SilentAndUnreachable) {
  const auto network = TestNetwork::create();
  if (!network) GTEST_SKIP() << "needs root";
  ASSERT_TRUE(network->run("ip addr add 10.0.0.11/24 dev eth1"));
  std::mutex mutex;
  std::condition_variable came;
  std::map<uint64_t, Outcome> answers;
  auto prober = HttpProber::create([&](HttpAnswer answer) {
    const std::lock_guard lock(mutex);
    answers[answer.token] = answer.outcome;
    came.notify_all();
  });
  ASSERT_TRUE(prober);
  Probe probe;
  probe.kind = ProbeKind::http;
  probe.port = 80;
  probe.path = "/";
  probe.timeout_ms = 200;
  (*prober)->start({1, 1, *Address::parse("10.0.0.99"), probe});
  (*prober)->start({2, 2, *Address::parse("192.0.2.1"), probe});
  std::unique_lock lock(mutex);
  ASSERT_TRUE(came.wait_for(lock, std::chrono::seconds(20), [&] { return answers.size() == 2; }));
  EXPECT_EQ(answers[1].kind, Kind::silent);
  EXPECT_EQ(answers[2].kind, Kind::unsure);
  EXPECT_EQ(answers[2].detail, "GET /: Network is unreachable");
}

}  // namespace
}  // namespace guideway
