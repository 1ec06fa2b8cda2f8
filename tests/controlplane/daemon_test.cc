// SPDX-License-Identifier: Apache-2.0
// The whole control plane in a network namespace, with a dataplane that only answers.
#include "controlplane/daemon.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/controlplane/fake_dataplane.h"
#include "tests/controlplane/test_network.h"
#include "tests/controlplane/unix_client.h"

namespace guideway {
namespace {

using nlohmann::json;
using test::FakeDataplane;
using test::http;

class DaemonTest : public testing::Test {
 protected:
  void SetUp() override {
    network_ = TestNetwork::create();
    if (network_ == nullptr) GTEST_SKIP() << "needs root";
    ASSERT_TRUE(network_->run("ip addr add 10.0.0.1/16 dev eth1"));
    ASSERT_TRUE(network_->peer("ip addr add 10.0.0.2/16 dev peer0"));
    ASSERT_TRUE(network_->peer("ip addr add 10.0.0.3/16 dev peer0"));
    char name[] = "/tmp/guideway-daemon-XXXXXX";
    directory_ = mkdtemp(name);
    config_.name = "test";
    config_.run_dir = directory_ + "/run";
    config_.state_dir = directory_ + "/state";
    config_.control_socket = config_.run_dir + "/control.sock";
    std::filesystem::create_directories(config_.run_dir);
  }

  void TearDown() override {
    stop();
    dataplane_.reset();
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
  }

  void start() {
    auto daemon = Daemon::start(config_, "");
    ASSERT_TRUE(daemon) << daemon.error().text();
    daemon_ = std::move(*daemon);
    started_ = std::chrono::steady_clock::now();
    thread_ = std::thread([this] { daemon_->run(); });
  }

  void stop() {
    if (daemon_ == nullptr) return;
    daemon_->stop();
    thread_.join();
    daemon_.reset();
  }

  void start_dataplane(uint64_t generation = 0, uint64_t revision = 0,
                       uint32_t layout = GW_LAYOUT) {
    dataplane_.reset();
    dataplane_ = std::make_unique<FakeDataplane>(config_.dataplane_socket(), "eth1", generation,
                                                 revision, layout);
  }

  json call(const std::string& method, const std::string& target, const std::string& body = "") {
    test::HttpAnswer answer = http(config_.control_socket, method, target, body);
    EXPECT_EQ(answer.status, 200) << method << " " << target << " " << answer.body;
    return json::parse(answer.body, nullptr, false);
  }

  // Asks again until the status is as wished; 20 s.
  template <typename Wish>
  json status_when(Wish wish) {
    auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (;;) {
      json status = call("GET", "/v1/status");
      if (wish(status)) return status;
      if (std::chrono::steady_clock::now() > until) {
        ADD_FAILURE() << "never came: " << status.dump(1);
        return status;
      }
      std::this_thread::yield();
    }
  }

  void make_web() {
    json answer =
        call("PUT", "/v1/intent?wait=adopted",
             R"({"pools":{"web":{"forwarding":"l2","backends":{"10.0.0.2":{},"10.0.0.3":{}}},
                                    "dns":{"forwarding":"l2","backends":{"10.0.0.2":{}}}},
                           "services":{"203.0.113.10:443/tcp":{"pool":"web"},"203.0.113.10:53/udp":{"pool":"dns"}}})");
    EXPECT_EQ(answer["changed"], true);
  }

  static const json& backend(const json& status, const char* pool, size_t index) {
    for (const json& one : status["pools"]) {
      if (one["name"] == pool) return one["backends"][index];
    }
    return status["pools"];
  }

  std::unique_ptr<TestNetwork> network_;
  std::string directory_;
  NodeConfig config_;
  std::unique_ptr<FakeDataplane> dataplane_;
  std::unique_ptr<Daemon> daemon_;
  std::thread thread_;
  std::chrono::steady_clock::time_point started_;
};

TEST_F(DaemonTest, AChangeIsAdoptedAndOnlyNewTablesAreSent) {
  start_dataplane();
  start();
  make_web();
  json status = status_when([](const json& s) {
    return s["dataplane"]["revision"] == 1 && s["services"][0]["state"] == "ready";
  });
  EXPECT_EQ(status["dataplane"]["connected"], true);
  EXPECT_EQ(status["dataplane"]["ports"][0]["interface"], "eth1");
  EXPECT_EQ(status["dataplane"]["ports"][0]["mac"], "02:00:00:00:00:01");
  EXPECT_EQ(status["dataplane"]["ports"][0]["up"], true);
  EXPECT_EQ(backend(status, "web", 0)["next_hop"]["mac"], "02:00:00:00:00:02");
  EXPECT_EQ(status["dataplane"]["problem"], nullptr);
  size_t tables = dataplane_->tables();
  EXPECT_EQ(tables, 2u);
  json answer = call("PUT", "/v1/pools/web/backends/10.0.0.3?wait=adopted", R"({"weight":7})");
  EXPECT_EQ(answer["adopted"], true);
  EXPECT_EQ(answer["revision"], 2);
  EXPECT_EQ(dataplane_->tables(), tables + 1);
  answer = call("PUT", "/v1/services/203.0.113.11:80/tcp?wait=adopted", R"({"pool":"web"})");
  EXPECT_EQ(answer["adopted"], true);
  EXPECT_EQ(dataplane_->tables(), tables + 1);
  // What changes nothing publishes nothing.
  size_t roots = dataplane_->roots().size();
  answer = call("PUT", "/v1/services/203.0.113.11:80/tcp?wait=adopted", R"({"pool":"web"})");
  EXPECT_EQ(answer["changed"], false);
  EXPECT_EQ(answer["adopted"], true);
  EXPECT_EQ(dataplane_->roots().size(), roots);
}

TEST_F(DaemonTest, ALostNextHopIsPublishedWithoutTables) {
  start_dataplane();
  start();
  make_web();
  status_when([](const json& s) { return s["services"][0]["state"] == "ready"; });
  size_t tables = dataplane_->tables();
  size_t roots = dataplane_->roots().size();
  ASSERT_TRUE(network_->run("ip route add unreachable 10.0.0.3/32"));
  json status =
      status_when([&](const json& s) { return backend(s, "web", 1)["state"] == "no_next_hop"; });
  EXPECT_EQ(backend(status, "web", 1)["reason"], "the route to 10.0.0.3 is unreachable");
  EXPECT_EQ(status["services"][0]["state"], "degraded");
  EXPECT_TRUE(dataplane_->wait_for_roots(roots + 1));
  EXPECT_EQ(dataplane_->tables(), tables);
  // explain agrees: whoever owns the slot, 10.0.0.2 takes the flow.
  json answer = call("GET", "/v1/explain?client=198.51.100.7:1&service=203.0.113.10:443/tcp");
  EXPECT_EQ(answer["backend"], "10.0.0.2");
}

TEST_F(DaemonTest, GenerationsOnlyGrow) {
  start();
  make_web();
  json status = call("GET", "/v1/status");
  EXPECT_EQ(status["dataplane"]["connected"], false);
  EXPECT_TRUE(status["dataplane"]["problem"].is_string());
  start_dataplane(100);
  ASSERT_TRUE(dataplane_->wait_for_roots(1));
  EXPECT_GT(dataplane_->roots()[0], 100u);
  uint64_t last = dataplane_->roots().back();
  stop();
  start();
  ASSERT_TRUE(dataplane_->wait_for_roots(dataplane_->roots().size() + 1));
  EXPECT_GT(dataplane_->roots().back(), last);
  last = dataplane_->roots().back();
  start_dataplane(5);
  ASSERT_TRUE(dataplane_->wait_for_roots(1));
  EXPECT_GT(dataplane_->roots()[0], last);
  EXPECT_EQ(call("GET", "/v1/intent")["revision"], 1);
}

TEST_F(DaemonTest, ARefusalIsShownAndOver) {
  start_dataplane();
  start();
  make_web();
  dataplane_->answer(FakeDataplane::Answer::refuse);
  call("DELETE", "/v1/services/203.0.113.10:53/udp");
  json status = status_when([](const json& s) { return !s["dataplane"]["refused"].is_null(); });
  EXPECT_EQ(status["dataplane"]["refused"]["reason"], "not to my taste");
  EXPECT_EQ(status["dataplane"]["revision"], 1);
  dataplane_->answer(FakeDataplane::Answer::adopt);
  json answer = call("DELETE", "/v1/pools/dns?wait=adopted");
  EXPECT_EQ(answer["adopted"], true);
  EXPECT_EQ(call("GET", "/v1/status")["dataplane"]["refused"], nullptr);
}

TEST_F(DaemonTest, ARefusedImageIsTriedAgain) {
  start_dataplane();
  start();
  make_web();
  status_when([](const json& s) { return s["services"][0]["state"] == "ready"; });
  dataplane_->answer(FakeDataplane::Answer::refuse);
  auto before = std::chrono::steady_clock::now();
  json answer = call("DELETE", "/v1/services/203.0.113.10:53/udp?wait=adopted");
  EXPECT_EQ(answer["adopted"], false);
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(4)) << "told at once";
  size_t roots = dataplane_->roots().size();
  ASSERT_TRUE(dataplane_->wait_for_roots(roots + 1));
  EXPECT_FALSE(call("GET", "/v1/status")["dataplane"]["refused"].is_null());
  dataplane_->answer(FakeDataplane::Answer::adopt);
  json status = status_when([](const json& s) { return s["dataplane"]["revision"] == 2; });
  EXPECT_EQ(status["dataplane"]["refused"], nullptr);
}

TEST_F(DaemonTest, ALostStateDirectoryIsNotPublished) {
  start();
  make_web();
  const std::string is_there =
      "ip route show table " + std::to_string(config_.route_table) + " | grep -q 203.0.113.10";
  ASSERT_TRUE(network_->run(is_there));
  stop();
  std::filesystem::remove_all(config_.state_dir);
  start_dataplane(7, 12);
  start();
  json status = status_when([](const json& s) { return s["dataplane"]["connected"] == true; });
  std::string problem = status["dataplane"]["problem"].is_string()
                            ? status["dataplane"]["problem"].get<std::string>()
                            : "";
  EXPECT_NE(problem.find("the dataplane runs revision 12"), std::string::npos) << problem;
  EXPECT_NE(problem.find(config_.state_dir + "/intent.json was missing or empty"),
            std::string::npos)
      << problem;
  json answer = call("PUT", "/v1/intent?wait=adopted", R"({"pools":{}})");
  EXPECT_EQ(answer["changed"], false);
  EXPECT_EQ(answer["adopted"], false);
  EXPECT_TRUE(dataplane_->roots().empty());
  EXPECT_TRUE(network_->run(is_there));
  EXPECT_EQ(status["dataplane"]["revision"], 12);
  make_web();
  ASSERT_TRUE(dataplane_->wait_for_roots(1));
  status = status_when([](const json& s) { return s["dataplane"]["revision"] == 1; });
  EXPECT_EQ(status["dataplane"]["problem"], nullptr);
}

TEST_F(DaemonTest, ABookThatCannotBeSavedStopsNoChange) {
  start_dataplane();
  start();
  make_web();
  const std::string in_the_way = config_.run_dir + "/counter-book.json.new";
  std::filesystem::create_directory(in_the_way);
  json answer = call("PUT", "/v1/services/203.0.113.11:80/tcp?wait=adopted", R"({"pool":"web"})");
  EXPECT_EQ(answer["adopted"], true);
  EXPECT_TRUE(call("GET", "/v1/status")["dataplane"]["problem"].is_string());
  size_t roots = dataplane_->roots().size();
  std::filesystem::remove(in_the_way);
  ASSERT_TRUE(dataplane_->wait_for_roots(roots + 1)) << "with totals of its own";
  status_when([](const json& s) { return s["dataplane"]["problem"].is_null(); });
}

TEST_F(DaemonTest, WithoutADataplaneNobodyWaits) {
  start_dataplane();
  start();
  make_web();
  dataplane_.reset();
  status_when([](const json& s) { return s["dataplane"]["connected"] == false; });
  std::this_thread::sleep_until(started_ + std::chrono::seconds(1));
  auto before = std::chrono::steady_clock::now();
  json answer = call("DELETE", "/v1/services/203.0.113.10:53/udp?wait=adopted");
  EXPECT_EQ(answer["adopted"], false);
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(4));
}

// The routes are those of the time before the upgrade of one of the two.
TEST_F(DaemonTest, BesideADataplaneOfAnotherLayoutTheAnnouncementIsHeld) {
  const auto announced = [] {
    return TestNetwork::output("ip -4 route show proto 203 | cut -d' ' -f2 | tr '\n' ' '");
  };
  start();
  make_web();
  stop();
  ASSERT_TRUE(network_->run("ip route add blackhole 203.0.113.10 proto 203 metric 100"));
  for (const uint32_t layout : {GW_LAYOUT_OLDEST - 1, GW_LAYOUT + 1}) {
    SCOPED_TRACE(layout);
    start_dataplane(9, 1, layout);
    start();
    const json status = status_when([](const json& s) {
      const json& said = s["dataplane"]["problem"];
      return s["vips"].size() == 1 && said.is_string() &&
             said.get<std::string>().find("image layouts") != std::string::npos;
    });
    const std::string problem = status["dataplane"]["problem"];
    const std::string older = layout < GW_LAYOUT ? "guideway-dataplane" : "guideway-controlplane";
    EXPECT_NE(problem.find("upgrade " + older + " and restart it"), std::string::npos) << problem;
    // Four times as long as a heartbeat may be silent.
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    while (std::chrono::steady_clock::now() < until) {
      ASSERT_EQ(announced(), "203.0.113.10 ");
    }
    call("PUT", "/v1/services/203.0.113.11:80/tcp", R"({"pool":"web"})");
    status_when([](const json& s) {
      return s["vips"].size() == 2 && s["vips"][0]["announce"] == "normal" &&
             s["vips"][1]["announce"] == "withdrawn";
    });
    EXPECT_EQ(announced(), "203.0.113.10 ") << "nothing is announced anew";
    call("DELETE", "/v1/services/203.0.113.11:80/tcp");
    stop();
    EXPECT_EQ(announced(), "203.0.113.10 ");
  }
  start();
  dataplane_.reset();
  status_when([](const json& s) {
    return s["vips"].size() == 1 && s["vips"][0]["announce"] == "withdrawn";
  });
  EXPECT_EQ(announced(), "");
}

TEST_F(DaemonTest, ADataplaneOfAnotherLayoutWithoutAnImageIsWithdrawn) {
  start();
  make_web();
  stop();
  ASSERT_TRUE(network_->run("ip route add blackhole 203.0.113.10 proto 203 metric 100"));
  start_dataplane(0, 0, GW_LAYOUT + 1);
  start();
  const json status = status_when([](const json& s) {
    return s["vips"].size() == 1 && s["vips"][0]["announce"] == "withdrawn";
  });
  const std::string problem = status["dataplane"]["problem"];
  EXPECT_NE(problem.find("nothing is forwarded"), std::string::npos) << problem;
}

TEST_F(DaemonTest, OneControlPlaneForADataplane) {
  start();
  NodeConfig other = config_;
  other.state_dir = directory_ + "/other";
  other.control_socket = directory_ + "/other.sock";
  auto second = Daemon::start(other, "");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().text(), config_.run_dir +
                                       ": is in use by another guideway-controlplane (a dataplane "
                                       "has one control plane: stop the other one first)");
  stop();
  EXPECT_TRUE(Daemon::start(other, ""));
}

TEST_F(DaemonTest, ARunningImageIsReplacedWhenNextHopsAreKnown) {
  start();
  make_web();
  stop();
  ASSERT_TRUE(network_->run("ip neigh flush dev eth1"));
  start_dataplane(9, 1);
  start();
  status_when([](const json& s) {
    return s["services"][0]["state"] == "ready" && s["dataplane"]["generation"] > 9;
  });
  EXPECT_EQ(dataplane_->roots().size(), 1u) << "one without next hops came first";
}

TEST_F(DaemonTest, ABurstIsOneImage) {
  start_dataplane();
  start();
  make_web();
  status_when([](const json& s) { return s["services"][0]["state"] == "ready"; });
  dataplane_->answer(FakeDataplane::Answer::hold);
  size_t before = dataplane_->roots().size();
  for (int weight = 1; weight <= 50; ++weight) {
    json answer = call("PUT", "/v1/pools/web/backends/10.0.0.3",
                       "{\"weight\":" + std::to_string(weight) + "}");
    EXPECT_EQ(answer["adopted"], false);
  }
  ASSERT_TRUE(dataplane_->wait_for_roots(before + 1));
  EXPECT_EQ(dataplane_->roots().size(), before + 1);
  dataplane_->release();
  json answer = call("PUT", "/v1/pools/web/backends/10.0.0.3?wait=adopted", R"({"weight":50})");
  EXPECT_EQ(answer["changed"], false);
  EXPECT_EQ(answer["adopted"], true);
  // The one held, the newest, and between them those whose tables were built meanwhile: on a busy
  // machine a few, not each of the 50.
  EXPECT_LE(dataplane_->roots().size(), before + 10);
}

TEST_F(DaemonTest, StateThatCannotBeReadStopsTheStart) {
  start();
  make_web();
  stop();
  std::filesystem::resize_file(config_.state_dir + "/intent.json", 100);
  auto daemon = Daemon::start(config_, "");
  ASSERT_FALSE(daemon);
  EXPECT_EQ(daemon.error().field, config_.state_dir + "/intent.json");
  EXPECT_EQ(std::filesystem::file_size(config_.state_dir + "/intent.json"), 100u);
}

// 1,000 services over 100 pools with 10,000 backends.
TEST_F(DaemonTest, Size) {
  start_dataplane();
  start();
  json pools;
  json services;
  for (int p = 0; p < 100; ++p) {
    json& pool = pools["p" + std::to_string(p)];
    pool = {{"forwarding", "ipip"}, {"backends", json::object()}};
    for (int b = 0; b < 100; ++b) {
      pool["backends"]["10.0." + std::to_string(100 + p) + "." + std::to_string(1 + b)] =
          json::object();
    }
    for (int s = 0; s < 10; ++s) {
      services["203.0.113.10:" + std::to_string(1000 + p * 10 + s) + "/tcp"] = {
          {"pool", "p" + std::to_string(p)}};
    }
  }
  auto timed = [&](const char* what, const std::string& method, const std::string& target,
                   const std::string& body) {
    auto start = std::chrono::steady_clock::now();
    json answer = call(method, target, body);
    std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    std::cout << what << ": " << took.count() << " ms\n";
    return answer;
  };
  timed("all at once", "PUT", "/v1/intent", json{{"pools", pools}, {"services", services}}.dump());
  status_when([](const json& s) { return s["dataplane"]["revision"] == 1; });
  size_t tables = dataplane_->tables();
  EXPECT_EQ(tables, 100u);
  for (int i = 1; i <= 3; ++i) {
    json answer = timed("one backend", "PUT", "/v1/pools/p7/backends/10.0.107.5?wait=adopted",
                        "{\"weight\":" + std::to_string(i) + "}");
    EXPECT_EQ(answer["adopted"], true);
  }
  EXPECT_EQ(dataplane_->tables(), tables + 3);
  timed("status", "GET", "/v1/status", "");
}

}  // namespace
}  // namespace guideway
