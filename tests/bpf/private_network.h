// SPDX-License-Identifier: Apache-2.0
// A network namespace of the test process's own, gone with it: nothing to clean up, nobody to
// disturb. `lo` is up; each test makes the interfaces it wants.
#pragma once

#include <gtest/gtest.h>
#include <sched.h>

#include <cstdlib>
#include <string>

namespace guideway {

inline void shell(const std::string& command) {
  ASSERT_EQ(std::system((command + " 2>&1").c_str()), 0) << command;
}

// A test suite in which each test starts with an empty namespace.
class PrivateNetwork : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    shell("ip link set lo up");
  }

  // A veth pair, both ends up, without the kernel's own chatter on it.
  static void add_veth(const std::string& left, const std::string& right) {
    shell("ip link add " + left + " type veth peer name " + right);
    for (const std::string& end : {left, right}) {
      shell("ip link set " + end + " addrgenmode none");
      shell("ip link set " + end + " up");
    }
  }
};

}  // namespace guideway
