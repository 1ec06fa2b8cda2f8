// SPDX-License-Identifier: Apache-2.0
#include "dataplane/control_server.h"

#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstring>

namespace guideway {
namespace {

// A root comes with its new tables, and should not wait for other work after each of them.
constexpr unsigned kMessagesAtOnce = 64;

// A datagram and at most one descriptor; more are closed at once.
struct Received {
  ssize_t bytes = 0;
  gw_message message{};
  UniqueFd fd;
  bool whole = true;  // neither cut nor with more than one descriptor
};

Received receive(int socket) {
  Received received;
  iovec io{&received.message, sizeof received.message};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 8)];
  msghdr header{};
  header.msg_iov = &io;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  do {
    received.bytes = recvmsg(socket, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (received.bytes < 0 && errno == EINTR);
  if (received.bytes < 0) return received;
  if (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) received.whole = false;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    if (count > 1) received.whole = false;
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      received.fd.reset(fd);
    }
  }
  return received;
}

}  // namespace

Result<ControlServer> ControlServer::listen(Config config, ImageStore& store) {
  ControlServer server(std::move(config), store);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string& path = server.config_.path;
  if (path.size() >= sizeof address.sun_path)
    return fail(path, "the path is too long for a socket", "shorten [paths] run");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);

  server.listener_.reset(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  unlink(path.c_str());
  const mode_t before = umask(0177);
  const bool bound =
      server.listener_ &&
      bind(server.listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  umask(before);
  if (!bound || ::listen(server.listener_.get(), 4) != 0)
    return fail(path, std::string("cannot listen: ") + std::strerror(errno));
  return server;
}

void ControlServer::accept_peer() {
  const int fd = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  if (peer_) spdlog::info("control plane: replaced by a new connection");
  peer_.reset(fd);
  gw_message hello = config_.hello;
  if (store_->running()) {
    hello.generation = store_->running()->root().generation;
    hello.revision = store_->running()->root().revision;
  }
  send(hello, config_.counters_fd);
  spdlog::info("control plane: connected");
}

void ControlServer::handle_peer() {
  for (unsigned i = 0; i < kMessagesAtOnce && peer_; ++i) {
    if (!handle_message()) return;
  }
}

bool ControlServer::handle_message() {
  Received received = receive(peer_.get());
  if (received.bytes < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
  if (received.bytes <= 0) {
    spdlog::info("control plane: gone; forwarding goes on");
    peer_.reset();
    return false;
  }
  if (!received.whole || received.bytes != sizeof(gw_message) ||
      received.message.magic != GW_MAGIC_MESSAGE) {
    spdlog::warn("control plane: not a message of ours ({} bytes); disconnected", received.bytes);
    peer_.reset();
    return false;
  }
  handle(received.message, std::move(received.fd));
  return true;
}

void ControlServer::handle(const gw_message& message, UniqueFd fd) {
  switch (message.type) {
    case GW_TABLE:
      // A refused table shows again as a missing one when its root comes.
      if (auto ok = store_->add_table(message.digest, fd.get()); !ok)
        spdlog::warn("{}", ok.error().text());
      return;
    case GW_ROOT:
      return adopt(message.generation, fd);
    default:
      spdlog::warn("control plane: unexpected message type {}; disconnected", message.type);
      peer_.reset();
  }
}

void ControlServer::adopt(uint64_t generation, const UniqueFd& fd) {
  gw_message answer{};
  answer.magic = GW_MAGIC_MESSAGE;
  answer.type = GW_ACK;
  answer.generation = generation;
  auto ok = store_->adopt(generation, fd.get());
  if (ok) {
    answer.status = GW_ADOPTED;
    answer.revision = store_->running()->root().revision;
    config_.on_adopted();
    spdlog::debug("generation {} adopted (revision {})", generation, answer.revision);
  } else {
    answer.status = GW_REFUSED;
    std::strncpy(answer.text, ok.error().text().c_str(), sizeof answer.text - 1);
    spdlog::warn("generation {} refused: {}", generation, answer.text);
  }
  send(answer, -1);
}

void ControlServer::send(const gw_message& message, int fd) {
  iovec io{const_cast<gw_message*>(&message), sizeof message};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &io;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(c), &fd, sizeof fd);
  }
  if (sendmsg(peer_.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof message) return;
  spdlog::warn("control plane: cannot be answered ({}); disconnected", std::strerror(errno));
  peer_.reset();
}

}  // namespace guideway
