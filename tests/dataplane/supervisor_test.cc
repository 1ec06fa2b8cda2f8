// SPDX-License-Identifier: Apache-2.0
// The test is the service manager: it listens at the socket that the process is told of.
#include "dataplane/supervisor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "controlplane/unique_fd.h"

namespace guideway {
namespace {

class SupervisorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const UniqueFd low(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    socket_.reset(fcntl(low.get(), F_DUPFD_CLOEXEC, 10));  // 3 and up are the manager's
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = "guideway-test-" + std::to_string(getpid());
    // Abstract: nothing is left on disk.
    std::memcpy(address.sun_path + 1, name.data(), name.size());
    ASSERT_EQ(bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())),
              0);
    setenv("NOTIFY_SOCKET", ("@" + name).c_str(), 1);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
  }

  void TearDown() override {
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
  }

  // Empty: nothing was said.
  std::string heard() const {
    char buffer[256];
    const ssize_t length = recv(socket_.get(), buffer, sizeof buffer, 0);
    return length < 0 ? "" : std::string(buffer, static_cast<size_t>(length));
  }

 private:
  UniqueFd socket_;
};

TEST_F(SupervisorTest, hears_of_the_start_and_the_end) {
  const Supervisor supervisor;
  supervisor.ready("2 workers");
  EXPECT_EQ(heard(), "READY=1\nSTATUS=2 workers");
  supervisor.stopping();
  EXPECT_EQ(heard(), "STOPPING=1");
}

TEST_F(SupervisorTest, hears_no_heartbeat_that_it_did_not_ask_for) {
  const Supervisor supervisor;
  EXPECT_EQ(supervisor.period().count(), 0);
  supervisor.alive();
  EXPECT_EQ(heard(), "");
}

TEST_F(SupervisorTest, gets_four_heartbeats_per_watchdog_time) {
  setenv("WATCHDOG_USEC", "10000000", 1);
  const Supervisor supervisor;
  EXPECT_EQ(supervisor.period().count(), 2500);
  supervisor.alive();
  EXPECT_EQ(heard(), "WATCHDOG=1");
}

TEST_F(SupervisorTest, a_watchdog_meant_for_another_process_is_not_fed) {
  setenv("WATCHDOG_USEC", "10000000", 1);
  setenv("WATCHDOG_PID", "1", 1);
  const Supervisor supervisor;
  supervisor.alive();
  EXPECT_EQ(heard(), "");
}

// The manager hands descriptors over from 3 on, in the order of their names.
void hand_over(const std::string& names, int count) {
  for (int fd = 3; fd < 3 + count; ++fd) {
    UniqueFd memory(memfd_create("kept", 0));
    const UniqueFd high(fcntl(memory.get(), F_DUPFD_CLOEXEC, 10));
    memory.reset();  // it may be where this one goes
    dup2(high.get(), fd);
  }
  setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
  setenv("LISTEN_FDS", std::to_string(count).c_str(), 1);
  setenv("LISTEN_FDNAMES", names.c_str(), 1);
}

bool is_open(int fd) {
  return fcntl(fd, F_GETFD) >= 0;
}

TEST_F(SupervisorTest, holds_descriptors_for_the_next_run) {
  const UniqueFd memory(memfd_create("tap", MFD_CLOEXEC));
  Supervisor supervisor;
  EXPECT_FALSE(supervisor.kept("tap-gw0"));
  supervisor.keep("tap-gw0", memory.get());
  EXPECT_EQ(heard(), "FDSTORE=1\nFDNAME=tap-gw0");
}

TEST_F(SupervisorTest, gives_back_what_was_kept_once_and_drops_what_nobody_wants) {
  hand_over("tap-gw0:tap-gw1", 2);
  Supervisor supervisor;
  {
    const UniqueFd tap = supervisor.kept("tap-gw0");
    EXPECT_EQ(tap.get(), 3);
    EXPECT_EQ(fcntl(3, F_GETFD), FD_CLOEXEC);
    EXPECT_FALSE(supervisor.kept("tap-gw0"));
  }
  EXPECT_FALSE(is_open(3));
  EXPECT_TRUE(is_open(4));
  supervisor.drop_the_rest();
  EXPECT_EQ(heard(), "FDSTOREREMOVE=1\nFDNAME=tap-gw1");
  EXPECT_FALSE(is_open(4));
  EXPECT_EQ(getenv("LISTEN_FDS"), nullptr);
}

TEST_F(SupervisorTest, may_be_absent) {
  unsetenv("NOTIFY_SOCKET");
  const Supervisor supervisor;
  supervisor.ready("nobody hears");
  supervisor.alive();
  EXPECT_EQ(heard(), "");
}

}  // namespace
}  // namespace guideway
