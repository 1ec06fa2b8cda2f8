// SPDX-License-Identifier: Apache-2.0
#include "controlplane/http_connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace guideway {
namespace {

constexpr size_t kBufferBytes = size_t{64} << 10;

}  // namespace

HttpConnection::HttpConnection(int fd, std::chrono::milliseconds read_timeout,
                               std::chrono::milliseconds write_timeout)
    : fd_(fd), read_timeout_(read_timeout), write_timeout_(write_timeout), buffer_(kBufferBytes) {}

bool HttpConnection::wait_for_request(std::chrono::milliseconds idle_timeout) {
  if (at_ == end_ && !fill(Clock::now() + idle_timeout)) return false;
  read_until_ = Clock::now() + read_timeout_;
  request_start_ = consumed_;
  head_ = true;
  writing_ = false;
  wrote_ = false;
  failure_ = Failure::none;
  return true;
}

ssize_t HttpConnection::read(char* out, size_t most) {
  if (head_ && consumed_ - request_start_ >= kHeadMax) {
    failure_ = Failure::too_long;
    return -1;
  }
  if (at_ == end_ && !fill(read_until_)) return -1;
  size_t count = std::min(most, end_ - at_);
  std::memcpy(out, buffer_.data() + at_, count);
  at_ += count;
  consumed_ += count;
  writing_ = false;
  return static_cast<ssize_t>(count);
}

ssize_t HttpConnection::write(const char* data, size_t size) {
  if (!writing_) write_until_ = Clock::now() + write_timeout_;
  writing_ = true;
  wrote_ = true;
  for (;;) {
    ssize_t sent = send(fd_, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) return sent;
    if (errno == EINTR) continue;
    if (errno != EAGAIN || !wait(POLLOUT, write_until_)) return -1;
  }
}

bool HttpConnection::fill(Clock::time_point until) {
  for (;;) {
    ssize_t got = recv(fd_, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (got > 0) {
      at_ = 0;
      end_ = static_cast<size_t>(got);
      return true;
    }
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) {
      if (wait(POLLIN, until)) continue;
      failure_ = Failure::timeout;
      return false;
    }
    failure_ = Failure::closed;
    return false;
  }
}

bool HttpConnection::wait(short events, Clock::time_point until) const {
  for (;;) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left <= 0) return false;
    pollfd item = {fd_, events, 0};
    int ready = poll(&item, 1, static_cast<int>(std::min<int64_t>(left, 60000)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

}  // namespace guideway
