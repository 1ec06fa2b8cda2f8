// SPDX-License-Identifier: Apache-2.0
// Sockets of either family by one interface, for tests. All reads give up after 5 s.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "controlplane/unique_fd.h"
#include "dataplane/address.h"

namespace guideway {

inline std::pair<sockaddr_storage, socklen_t> socket_name(const Address& address, uint16_t port) {
  sockaddr_storage storage{};
  if (address.is_v4()) {
    auto& name = reinterpret_cast<sockaddr_in&>(storage);
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    std::memcpy(&name.sin_addr, address.v4(), 4);
    return {storage, sizeof name};
  }
  auto& name = reinterpret_cast<sockaddr_in6&>(storage);
  name.sin6_family = AF_INET6;
  name.sin6_port = htons(port);
  std::memcpy(&name.sin6_addr, address.v6(), 16);
  return {storage, sizeof name};
}

inline void be_patient(const UniqueFd& fd) {
  timeval patience{.tv_sec = 5, .tv_usec = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

// In the namespace of the calling thread, of the family of `address`.
inline UniqueFd tcp_socket(const Address& address) {
  UniqueFd fd(socket(address.is_v4() ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  be_patient(fd);
  return fd;
}

inline testing::AssertionResult answer_of(int result) {
  if (result == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << std::strerror(errno);
}
inline testing::AssertionResult bind_to(const UniqueFd& fd, const Address& address, uint16_t port) {
  auto [name, size] = socket_name(address, port);
  return answer_of(bind(fd.get(), reinterpret_cast<sockaddr*>(&name), size));
}
inline testing::AssertionResult connect_to(const UniqueFd& fd, const Address& address,
                                           uint16_t port) {
  auto [name, size] = socket_name(address, port);
  return answer_of(connect(fd.get(), reinterpret_cast<sockaddr*>(&name), size));
}

}  // namespace guideway
