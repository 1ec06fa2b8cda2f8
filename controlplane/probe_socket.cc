// SPDX-License-Identifier: Apache-2.0
#include "controlplane/probe_socket.h"

#include <linux/if_packet.h>
#include <net/if.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

namespace guideway {
namespace {

// Room for what a busy NIC has not sent yet: 100,000 probes a second, for some milliseconds.
constexpr int kSendBufferBytes = 4 << 20;

uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

ProbeSocket::ProbeSocket(std::string interface, bool owned, std::string edge_object,
                         const gw_probe_secret& secret)
    : interface_(std::move(interface)),
      owned_(owned),
      edge_object_(std::move(edge_object)),
      secret_(secret) {
  for (size_t i = 0; i < kFramesMax; ++i) {
    messages_[i].msg_hdr.msg_iov = &parts_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
  }
}

Result<void> ProbeSocket::open() {
  board_.reset();
  auto socket = open_socket();
  if (!socket) return tl::unexpected(std::move(socket.error()));
  auto board = owned_ ? Scoreboard::attach_tap(interface_, edge_object_, secret_)
                      : Scoreboard::find(interface_, secret_);
  if (!board) return tl::unexpected(std::move(board.error()));
  socket_ = std::move(*socket);
  board_.emplace(std::move(*board));
  return {};
}

Result<UniqueFd> ProbeSocket::open_socket() const {
  const auto failed = [&](const char* what) {
    return fail(interface_, std::string(what) + ": " + std::strerror(errno));
  };
  // Protocol 0: it receives nothing.
  UniqueFd fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return failed("packet socket");
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = static_cast<int>(if_nametoindex(interface_.c_str()));
  if (address.sll_ifindex == 0) return failed("interface");
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return failed("binding a packet socket");
  // Both only make it faster.
  const int on = 1;
  (void)setsockopt(fd.get(), SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on);
  (void)setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUFFORCE, &kSendBufferBytes,
                   sizeof kSendBufferBytes);
  return fd;
}

Result<void> ProbeSocket::check() {
  const auto attached = board_->attached();
  if (!attached) return tl::unexpected(attached.error());
  if (!*attached) return fail(interface_, "the edge program was taken off or replaced");
  return {};
}

void ProbeSocket::expect(uint32_t target, uint32_t attempt, uint32_t awaited) {
  board_->expect(target, attempt, awaited);
}

void ProbeSocket::forget(uint32_t target) {
  board_->forget(target);
}

Scoreboard::Reply ProbeSocket::read(uint32_t target, uint32_t attempt) const {
  return board_->read(target, attempt);
}

ProbePath::Sent ProbeSocket::send(std::span<const Frame> frames) {
  for (size_t i = 0; i < frames.size(); ++i) {
    // The kernel only reads from it.
    parts_[i] = {const_cast<uint8_t*>(frames[i].data()), frames[i].size()};
  }
  Sent sent;
  sent.before_ns = now_ns();
  const int n =
      sendmmsg(socket_.get(), messages_.data(), static_cast<unsigned>(frames.size()), MSG_DONTWAIT);
  if (n < 0) sent.error = errno;
  sent.after_ns = now_ns();
  sent.frames = n < 0 ? 0 : static_cast<size_t>(n);
  return sent;
}

}  // namespace guideway
