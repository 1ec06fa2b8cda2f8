// SPDX-License-Identifier: Apache-2.0
#include "controlplane/publisher.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

namespace guideway {
namespace {

// After this long without an ACK, status says so.
constexpr auto kAnswerLate = std::chrono::seconds(5);

gw_message message_of(gw_message_type type) {
  gw_message message{};
  message.magic = GW_MAGIC_MESSAGE;
  message.type = type;
  return message;
}

// A string in a fixed field that may lack its NUL.
template <size_t N>
std::string text_of(const char (&field)[N]) {
  return std::string(field, strnlen(field, N));
}

// A datagram and its descriptor; any further descriptor is closed.
struct Received {
  ssize_t bytes = 0;
  bool truncated = false;
  gw_message message{};
  UniqueFd fd;
};

Received receive_from(int socket) {
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
  received.truncated = (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      UniqueFd one(fd);
      if (!received.fd) received.fd = std::move(one);
    }
  }
  return received;
}

// Its size is that of its own layout: nothing behind `layout_newest` may be read.
bool is_hello_of_another_layout(const Received& received) {
  const gw_message& message = received.message;
  return received.bytes >= static_cast<ssize_t>(offsetof(gw_message, pid)) &&
         message.magic == GW_MAGIC_MESSAGE && message.type == GW_HELLO &&
         (GW_LAYOUT < message.layout_oldest || GW_LAYOUT_OLDEST > message.layout_newest);
}

ssize_t send_to(int socket, const gw_message& message, int fd) {
  iovec io{const_cast<gw_message*>(&message), sizeof message};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr header{};
  header.msg_iov = &io;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  cmsghdr* c = CMSG_FIRSTHDR(&header);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(c), &fd, sizeof fd);
  ssize_t n;
  do {
    n = sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  return n;
}

}  // namespace

Publisher::Publisher(EventLoop& loop, std::string socket_path, Callbacks callbacks,
                     EventLoop::Clock::duration retry)
    : loop_(loop), path_(std::move(socket_path)), callbacks_(std::move(callbacks)), retry_(retry) {}

Publisher::~Publisher() {
  loop_.cancel(retry_timer_);
  if (socket_) loop_.unwatch(socket_.get());
}

void Publisher::start() {
  if (retry_timer_ != 0) return;
  retry_timer_ = loop_.every(retry_, [this] {
    if (!socket_) connect_now();
  });
  connect_now();
}

void Publisher::connect_now() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof address.sun_path) {
    problem_ = path_ + ": the path is too long for a socket";
    return;
  }
  std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // A Unix socket connects at once or not at all: EAGAIN means that the backlog is full.
  if (!fd || connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    present_ = error != ENOENT && error != ECONNREFUSED;
    if (!present_) forwards_by_another_layout_ = false;
    problem_ = !present_
                   ? "the dataplane is not running: " + path_ + ": " + std::strerror(error)
                   : "cannot connect to the dataplane: " + path_ + ": " + std::strerror(error);
    return;
  }
  socket_ = std::move(fd);
  present_ = true;
  problem_ = "connected to the dataplane, which has not said hello yet";
  watched_events_ = EPOLLIN;
  if (auto ok = loop_.watch(socket_.get(), EPOLLIN, [this](uint32_t e) { on_events(e); }); !ok)
    disconnect(ok.error().text());
}

void Publisher::disconnect(const std::string& why) {
  loop_.unwatch(socket_.get());
  socket_.reset();
  const bool was_connected = info_.has_value();
  info_.reset();
  waiting_.reset();
  sent_.reset();
  adopted_.reset();
  held_.clear();
  queue_.clear();
  problem_ = why;
  if (was_connected && callbacks_.on_disconnected) callbacks_.on_disconnected(why);
}

void Publisher::on_events(uint32_t events) {
  if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
    // A bounded number per round: a peer that never stops must not starve the loop.
    for (int i = 0; i < 16 && receive(); ++i) {
    }
  }
  flush();
}

bool Publisher::receive() {
  Received received = receive_from(socket_.get());
  if (received.bytes < 0 && errno == EAGAIN) return false;
  if (received.bytes <= 0) {
    disconnect("the dataplane closed the connection");
    return false;
  }
  if (!info_ && is_hello_of_another_layout(received)) {
    on_hello_of_another_layout(received.message);
    return true;
  }
  if (received.bytes != sizeof(gw_message) || received.truncated ||
      received.message.magic != GW_MAGIC_MESSAGE) {
    disconnect("the peer at " + path_ + " does not speak Guideway's protocol");
    return false;
  }
  on_message(received.message, std::move(received.fd));
  return static_cast<bool>(socket_);
}

void Publisher::on_message(const gw_message& message, UniqueFd fd) {
  if (message.type == GW_HELLO && !info_) return on_hello(message, std::move(fd));
  if (message.type == GW_ACK && info_) return on_ack(message);
  disconnect("the dataplane sent an unexpected message of type " + std::to_string(message.type));
}

// The connection stays: its end is that of the dataplane.
void Publisher::on_hello_of_another_layout(const gw_message& message) {
  const bool forwards = message.generation != 0;
  const std::string older =
      message.layout_newest < GW_LAYOUT ? "guideway-dataplane" : "guideway-controlplane";
  forwards_by_another_layout_ = forwards;
  problem_ = "the dataplane accepts image layouts " + std::to_string(message.layout_oldest) +
             " to " + std::to_string(message.layout_newest) + ", this control plane writes " +
             std::to_string(GW_LAYOUT_OLDEST) + " to " + std::to_string(GW_LAYOUT) + ": upgrade " +
             older + " and restart it; until then " +
             (forwards ? "changes wait, packets go by the image that runs, and what is announced "
                         "is held"
                       : "nothing is forwarded: no image runs");
}

void Publisher::on_hello(const gw_message& message, UniqueFd counters) {
  forwards_by_another_layout_ = false;
  if (message.ports > GW_PORTS_MAX || message.workers > GW_WORKERS_MAX)
    return disconnect("the dataplane's hello is out of range");
  DataplaneInfo info{.pid = message.pid,
                     .workers = message.workers,
                     .generation = message.generation,
                     .revision = message.revision,
                     .layout = std::min(message.layout_newest, GW_LAYOUT),
                     .ports = {}};
  for (uint32_t i = 0; i < message.ports; ++i)
    info.ports.push_back(text_of(message.port[i].interface));
  info_ = info;
  problem_.clear();
  if (callbacks_.on_connected) callbacks_.on_connected(info, std::move(counters));
}

bool Publisher::publish(std::shared_ptr<const SealedImage> image) {
  if (!info_ || !image) return false;
  waiting_ = std::move(image);
  if (!sent_) send_next_image();
  flush();
  return info_.has_value();
}

void Publisher::send_next_image() {
  if (!waiting_) return;
  sent_ = std::exchange(waiting_, nullptr);
  sent_at_ = EventLoop::Clock::now();
  tables_sent_ = 0;
  for (const auto& table : sent_->tables()) {
    if (held_.count(table->digest()) > 0) continue;
    gw_message message = message_of(GW_TABLE);
    message.digest = table->digest();
    queue_.push_back({message, table, table->fd()});
    ++tables_sent_;
  }
  gw_message message = message_of(GW_ROOT);
  message.generation = sent_->generation();
  message.revision = sent_->revision();
  queue_.push_back({message, sent_, sent_->fd()});
}

void Publisher::flush() {
  while (socket_ && !queue_.empty()) {
    const Outgoing& out = queue_.front();
    if (send_to(socket_.get(), out.message, out.fd) == sizeof out.message) {
      queue_.pop_front();
      continue;
    }
    // ETOOMANYREFS: more descriptors under way than RLIMIT_NOFILE; the peer has to read first.
    if (errno == EAGAIN || errno == ETOOMANYREFS) break;
    return disconnect(std::string("cannot send to the dataplane: ") + std::strerror(errno));
  }
  if (!socket_) return;
  const uint32_t events = queue_.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT;
  if (events == watched_events_) return;
  watched_events_ = events;
  if (auto ok = loop_.change_events(socket_.get(), events); !ok) disconnect(ok.error().text());
}

void Publisher::on_ack(const gw_message& message) {
  if (!sent_ || message.generation != sent_->generation())
    return disconnect("the dataplane acknowledged generation " +
                      std::to_string(message.generation) + ", which was not under way");
  const auto image = std::exchange(sent_, nullptr);
  const bool adopted = message.status == GW_ADOPTED;
  std::string reason;
  if (adopted) {
    adopted_ = image;
    held_.clear();
    for (const auto& table : image->tables()) held_.insert(table->digest());
  } else {
    reason = text_of(message.text);
    if (reason.empty()) reason = "no reason given";
  }
  send_next_image();
  flush();
  if (callbacks_.on_ack) callbacks_.on_ack(image->generation(), image->revision(), adopted, reason);
}

std::string Publisher::problem() const {
  if (!problem_.empty() || !sent_) return problem_;
  const auto waited = EventLoop::Clock::now() - sent_at_;
  if (waited < kAnswerLate) return {};
  return "the dataplane has not answered generation " + std::to_string(sent_->generation()) +
         " for " + std::to_string(std::chrono::floor<std::chrono::seconds>(waited).count()) + " s";
}

}  // namespace guideway
