// SPDX-License-Identifier: Apache-2.0
#include "controlplane/announcer.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/controlplane/loop_thread.h"
#include "tests/controlplane/test_network.h"

namespace guideway {
namespace {

const Address kVip = *Address::parse("203.0.113.10");
const Address kOther = *Address::parse("2001:db8::10");

Announcer::Services services(ServiceHealth health = ServiceHealth::ready) {
  const uint32_t healthy = health == ServiceHealth::ready ? 3 : 0;
  return {{kVip, {{"203.0.113.10:80/tcp", "web", health, healthy}}},
          {kOther, {{"[2001:db8::10]:80/tcp", "other", ServiceHealth::ready, 3}}}};
}

constexpr const char* kBoth = "203.0.113.10 metric 100; 2001:db8::10 metric 100; ";
constexpr const char* kBothReduced = "203.0.113.10 metric 200; 2001:db8::10 metric 200; ";

class AnnouncerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    network_ = TestNetwork::create();
    if (!network_) GTEST_SKIP() << "needs root and network namespaces";
    char name[] = "/tmp/guideway-announcer-XXXXXX";
    config_.state_dir = mkdtemp(name);
    loop_ = std::make_unique<LoopThread>();
    start();
  }
  void TearDown() override {
    if (!loop_) return;
    end();
    std::filesystem::remove_all(config_.state_dir);
  }
  void start() {
    (*loop_)([&] {
      auto made = Announcer::create(loop_->loop(), config_);
      ASSERT_TRUE(made) << made.error().text();
      announcer_ = std::move(*made);
    });
  }
  void end() {
    (*loop_)([&] { announcer_.reset(); });
  }
  template <typename Fn>
  void in_loop(Fn fn) {
    (*loop_)([&] { fn(*announcer_); });
  }
  void look(bool beating, unsigned times = 1, uint64_t forwarded = 0) {
    in_loop([&](Announcer& a) {
      for (unsigned i = 0; i < times; ++i) a.look(beating, forwarded);
    });
  }
  // As after a first start: the dataplane runs generation 1 with both VIPs.
  void serve() {
    in_loop([&](Announcer& a) {
      a.set_services(services());
      a.on_connected(0);
      a.on_published(1, {kVip, kOther});
      a.on_adopted(1);
    });
    look(true);
  }
  static std::string announced() {
    return TestNetwork::output(
        "(ip -4 route show proto 203; ip -6 route show proto 203) | "
        "sed 's/blackhole \\([^ ]*\\) .*\\(metric [0-9]*\\).*/\\1 \\2;/' | tr '\\n' ' '");
  }

  NodeConfig config_;
  std::unique_ptr<TestNetwork> network_;
  std::unique_ptr<LoopThread> loop_;
  std::unique_ptr<Announcer> announcer_;
};

TEST_F(AnnouncerTest, AnnouncesWhatIsAdoptedAndAlive) {
  in_loop([](Announcer& a) { a.set_services(services()); });
  EXPECT_EQ(announced(), "");
  in_loop([](Announcer& a) {
    a.on_connected(0);
    a.on_published(1, {kVip});
    a.on_adopted(1);
  });
  EXPECT_EQ(announced(), "") << "nothing is known of the heartbeat yet";
  look(true);
  EXPECT_EQ(announced(), "203.0.113.10 metric 100; ");
  in_loop([](Announcer& a) { a.on_published(2, {kVip, kOther}); });
  look(true);
  EXPECT_EQ(announced(), "203.0.113.10 metric 100; ") << "published is not adopted";
  in_loop([](Announcer& a) { a.on_adopted(2); });
  EXPECT_EQ(announced(), kBoth);
}

TEST_F(AnnouncerTest, AHungDataplaneIsWithdrawnAndComesBack) {
  serve();
  look(false, 4);
  EXPECT_EQ(announced(), kBoth);
  look(false);
  EXPECT_EQ(announced(), "");
  look(true);
  EXPECT_EQ(announced(), kBoth);
}

TEST_F(AnnouncerTest, ADeadDataplaneIsWithdrawnSooner) {
  serve();
  in_loop([](Announcer& a) { a.on_disconnected(); });
  look(true);  // since the last look, before it died
  look(false);
  EXPECT_EQ(announced(), kBoth);
  look(false);
  EXPECT_EQ(announced(), "");
  in_loop([](Announcer& a) { a.on_connected(1); });
  look(true);
  EXPECT_EQ(announced(), "") << "its image is of before";
  in_loop([](Announcer& a) {
    a.on_published(2, {kVip, kOther});
    a.on_adopted(2);
  });
  EXPECT_EQ(announced(), kBoth);
}

TEST_F(AnnouncerTest, ALostConnectionToALivingDataplaneChangesNothing) {
  serve();
  in_loop([](Announcer& a) { a.on_disconnected(); });
  look(true, 50);
  EXPECT_EQ(announced(), kBoth);
}

TEST_F(AnnouncerTest, BesideOneThatCannotBeReadNothingChangesUntilItIsGone) {
  serve();
  end();
  ASSERT_TRUE(network_->run("ip route del blackhole 203.0.113.10 proto 203 metric 100"));
  start();
  in_loop([](Announcer& a) {
    a.set_services(services());
    a.set_unreadable(true);
  });
  look(false, 50);
  EXPECT_EQ(announced(), "2001:db8::10 metric 100; ") << "one is held, the other is not announced";
  in_loop([](Announcer& a) { a.set_unreadable(false); });
  look(false, 4);
  EXPECT_EQ(announced(), "2001:db8::10 metric 100; ");
  look(false);
  EXPECT_EQ(announced(), "");
}

TEST_F(AnnouncerTest, OneThatCannotBeReadIsFollowedByOneThatCan) {
  serve();
  end();
  start();
  in_loop([](Announcer& a) {
    a.set_services(services());
    a.set_unreadable(true);
  });
  look(false, 50);
  in_loop([](Announcer& a) {
    a.on_connected(1);
    a.set_unreadable(false);
  });
  look(false);
  look(true);
  in_loop([](Announcer& a) {
    a.on_published(2, {kVip, kOther});
    EXPECT_EQ(announced(), kBoth);
    a.on_adopted(2);
  });
  EXPECT_EQ(announced(), kBoth);
}

TEST_F(AnnouncerTest, WhoWithdrawsInDoubtIsNotContradicted) {
  serve();
  in_loop([](Announcer& a) { a.on_disconnected(); });
  EXPECT_EQ(withdraw_signal_routes(254).value(), 2u);
  look(false);
  EXPECT_EQ(announced(), "");
}

TEST_F(AnnouncerTest, ARestartWithdrawsNothing) {
  serve();
  end();
  EXPECT_EQ(announced(), kBoth);
  start();
  EXPECT_EQ(announced(), kBoth);
  in_loop([](Announcer& a) { a.set_services(services(ServiceHealth::down)); });
  look(false, 2);
  EXPECT_EQ(announced(), kBoth) << "no neighbours are known yet, nor the heartbeat";
  in_loop([](Announcer& a) { a.on_connected(1); });
  look(true, 5);
  EXPECT_EQ(announced(), kBoth);
  in_loop([](Announcer& a) {
    a.set_services(services());
    a.on_published(2, {kVip, kOther});
    a.on_adopted(2);
  });
  EXPECT_EQ(announced(), kBoth);
}

TEST_F(AnnouncerTest, ARestartBesideADeadDataplaneWithdraws) {
  serve();
  end();
  start();
  in_loop([](Announcer& a) { a.set_services(services()); });
  look(false, 4);
  EXPECT_EQ(announced(), kBoth);
  look(false);
  EXPECT_EQ(announced(), "");
}

TEST_F(AnnouncerTest, LeftOversOfVipsThatAreNoMoreGo) {
  ASSERT_TRUE(network_->run("ip route add blackhole 203.0.113.77 proto 203 metric 100"));
  end();
  start();
  in_loop([](Announcer& a) { a.set_services(services()); });
  EXPECT_EQ(announced(), "");
}

TEST_F(AnnouncerTest, OneVipWithoutBackendsIsWithdrawnAloneAndNotForAMoment) {
  serve();
  in_loop([](Announcer& a) { a.set_services(services(ServiceHealth::down)); });
  in_loop([](Announcer& a) { a.set_services(services()); });
  EXPECT_EQ(announced(), kBoth);
  in_loop([](Announcer& a) { a.set_services(services(ServiceHealth::down)); });
  EXPECT_EQ(announced(), kBoth);
  EXPECT_TRUE(loop_->eventually([&] {
    announcer_->look(true, 0);
    return announcer_->vips()[0].announcement == Announcement::withdrawn;
  }));
  EXPECT_EQ(announced(), "2001:db8::10 metric 100; ");
  in_loop([](Announcer& a) { a.set_services(services(ServiceHealth::panic)); });
  EXPECT_EQ(announced(), "203.0.113.10 metric 200; 2001:db8::10 metric 100; ");
}

TEST_F(AnnouncerTest, DrainReducesThenWithdrawsAndIsRemembered) {
  serve();
  in_loop([](Announcer& a) { ASSERT_TRUE(a.set_drained(true)); });
  EXPECT_EQ(announced(), kBothReduced);
  uint64_t packets = 0;
  const auto until = EventLoop::Clock::now() + std::chrono::milliseconds(2500);
  EXPECT_TRUE(loop_->eventually([&] {
    announcer_->look(true, ++packets);
    return EventLoop::Clock::now() > until;
  }));
  EXPECT_EQ(announced(), kBothReduced) << "traffic still comes";
  EXPECT_TRUE(loop_->eventually([&] {
    announcer_->look(true, packets);
    return announcer_->mode().mode == NodeMode::drained;
  }));
  EXPECT_EQ(announced(), "");
  end();
  start();
  serve();
  EXPECT_EQ(announced(), "");
  in_loop([](Announcer& a) { ASSERT_TRUE(a.set_drained(false)); });
  EXPECT_EQ(announced(), kBoth);
}

TEST_F(AnnouncerTest, ADrainOfOneThatCannotBeReadTakesItForBusy) {
  serve();
  in_loop([](Announcer& a) {
    a.on_disconnected();
    a.set_unreadable(true);
    ASSERT_TRUE(a.set_drained(true));
  });
  const auto until = EventLoop::Clock::now() + std::chrono::milliseconds(2500);
  EXPECT_TRUE(loop_->eventually([&] {
    announcer_->look(false, 0);
    return EventLoop::Clock::now() > until;
  }));
  EXPECT_EQ(announced(), kBothReduced);
}

TEST_F(AnnouncerTest, DrainEndsAfterItsTimeWhateverComes) {
  end();
  config_.announce.drain_seconds = 1;
  start();
  serve();
  uint64_t packets = 0;
  in_loop([](Announcer& a) { ASSERT_TRUE(a.set_drained(true)); });
  EXPECT_TRUE(loop_->eventually([&] {
    announcer_->look(true, ++packets);
    return announcer_->mode().mode == NodeMode::drained;
  }));
  EXPECT_EQ(announced(), "");
}

TEST_F(AnnouncerTest, ADamagedModeIsAnError) {
  end();
  std::ofstream(config_.state_dir + "/node.json") << "{\"mode\":\"away\"}";
  (*loop_)([&] {
    auto made = Announcer::create(loop_->loop(), config_);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().text(),
              config_.state_dir +
                  "/node.json: is damaged: mode must be normal, draining or drained (write "
                  "{\"mode\":\"normal\"} or {\"mode\":\"drained\"} to it, or remove it)");
  });
}

TEST_F(AnnouncerTest, AModeThatCannotBeStoredIsNotTaken) {
  serve();
  std::filesystem::remove_all(config_.state_dir);
  in_loop([](Announcer& a) {
    EXPECT_FALSE(a.set_drained(true));
    EXPECT_EQ(a.mode().mode, NodeMode::normal);
  });
  EXPECT_EQ(announced(), kBoth);
}

}  // namespace
}  // namespace guideway
