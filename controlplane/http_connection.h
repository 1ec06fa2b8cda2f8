// SPDX-License-Identifier: Apache-2.0
// One connection's bytes, with deadlines for whole requests and replies instead of single reads: a
// client cannot hold a thread by sending a byte now and then.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace guideway {

class HttpConnection {
 public:
  using Clock = std::chrono::steady_clock;

  // The descriptor stays the caller's.
  HttpConnection(int fd, std::chrono::milliseconds read_timeout,
                 std::chrono::milliseconds write_timeout);

  enum class Failure { none, closed, timeout, too_long };

  // Waits for the first byte of a request; then its time runs. False: the client is gone or silent.
  bool wait_for_request(std::chrono::milliseconds idle_timeout);

  // As read(2) and write(2), but -1 once the time is over. The time of writing begins with the
  // first write after a read. Until end_of_head() no more than kHeadMax bytes are given out.
  ssize_t read(char* out, size_t most);
  ssize_t write(const char* data, size_t size);
  void end_of_head() { head_ = false; }

  // Why read() said -1 since the request began, and whether anything was written to it.
  Failure failure() const { return failure_; }
  bool wrote() const { return wrote_; }

  // Bytes given out by read() since the connection began.
  uint64_t consumed() const { return consumed_; }

  static constexpr size_t kHeadMax = size_t{64} << 10;

 private:
  bool fill(Clock::time_point until);
  bool wait(short events, Clock::time_point until) const;

  int fd_;
  std::chrono::milliseconds read_timeout_;
  std::chrono::milliseconds write_timeout_;
  Clock::time_point read_until_{};
  Clock::time_point write_until_{};
  Failure failure_ = Failure::none;
  bool writing_ = false;
  bool wrote_ = false;
  bool head_ = true;
  uint64_t consumed_ = 0;
  uint64_t request_start_ = 0;
  std::vector<char> buffer_;
  size_t at_ = 0;
  size_t end_ = 0;
};

}  // namespace guideway
