// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/agent_server.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <ctime>
#include <fstream>
#include <optional>
#include <utility>

namespace guideway::cli {
namespace {

constexpr int kBacklog = 256;
constexpr int kAcceptAtOnce = 64;
constexpr size_t kReadAtOnce = size_t{64} << 10;
constexpr auto kListenAgain = std::chrono::milliseconds(100);

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;

  sockaddr* any() { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr_in& v4() const { return reinterpret_cast<const sockaddr_in&>(storage); }
  const sockaddr_in6& v6() const { return reinterpret_cast<const sockaddr_in6&>(storage); }
  Address address() const {
    return storage.ss_family == AF_INET ? Address::from_v4(&v4().sin_addr)
                                        : Address::from_v6(&v6().sin6_addr);
  }
  uint16_t port() const {
    return ntohs(storage.ss_family == AF_INET ? v4().sin_port : v6().sin6_port);
  }
};

SocketAddress socket_address(const AgentListen& where) {
  SocketAddress out;
  if (where.address.is_v4()) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(out.storage);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(where.port);
    std::memcpy(&v4.sin_addr, where.address.v4(), 4);
    out.length = sizeof v4;
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(out.storage);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(where.port);
    std::memcpy(&v6.sin6_addr, where.address.v6(), 16);
    out.length = sizeof v6;
  }
  return out;
}

std::string boot_id() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id;
}

}  // namespace

Result<AgentListen> AgentListen::parse(const std::string& text) {
  const auto wrong = [&] {
    return fail("--listen", "must be an address and a port, got '" + text + "'",
                "like [::]:6081 or 10.0.0.21:6081");
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return wrong();
  std::string host = text.substr(0, colon);
  const bool bracketed = host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  const std::optional<Address> address = Address::parse(host);
  const char* end = text.data() + text.size();
  AgentListen out;
  const auto [at, error] = std::from_chars(text.data() + colon + 1, end, out.port);
  if (!address || address->is_v4() == bracketed || error != std::errc() || at != end)
    return wrong();
  out.address = *address;
  return out;
}

std::string AgentListen::text() const {
  const std::string host = address.is_v4() ? address.text() : "[" + address.text() + "]";
  return host + ":" + std::to_string(port);
}

AgentServer::AgentServer(EventLoop& loop, AgentKey key, AgentHost host, AgentServerLimits limits)
    : loop_(loop),
      key_(std::move(key)),
      host_(std::move(host)),
      limits_(limits),
      boot_id_(boot_id()),
      started_(std::time(nullptr)) {}

AgentServer::~AgentServer() {
  loop_.cancel(listen_again_);
  if (listener_) loop_.unwatch(listener_.get());
  while (!connections_.empty()) end(connections_.begin()->first, nullptr);
}

Result<std::unique_ptr<AgentServer>> AgentServer::create(EventLoop& loop, AgentKey key,
                                                         const AgentListen& listen, AgentHost host,
                                                         AgentServerLimits limits) {
  std::unique_ptr<AgentServer> server(
      new AgentServer(loop, std::move(key), std::move(host), limits));
  if (Result<void> listens = server->listen(listen); !listens)
    return tl::unexpected(listens.error());
  return server;
}

Result<void> AgentServer::listen(const AgentListen& where) {
  SocketAddress address = socket_address(where);
  listener_.reset(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // A kernel without IPv6: "any address" is then any of IPv4.
  if (!listener_ && errno == EAFNOSUPPORT && where.address == Address{})
    return listen({*Address::parse("0.0.0.0"), where.port});
  const int on = 1;
  const int off = 0;
  if (listener_ && !where.address.is_v4())
    setsockopt(listener_.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  // Connections of an agent before this one, still in TIME_WAIT, are no reason not to start.
  if (listener_) setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (!listener_ || bind(listener_.get(), address.any(), address.length) != 0 ||
      ::listen(listener_.get(), kBacklog) != 0 ||
      getsockname(listener_.get(), address.any(), &address.length) != 0) {
    return fail(where.text(), std::string("cannot be listened on: ") + std::strerror(errno),
                "name another with --listen");
  }
  port_ = address.port();
  return loop_.watch(listener_.get(), EPOLLIN, [this](uint32_t) { accept_some(); });
}

void AgentServer::accept_some() {
  for (int i = 0; i < kAcceptAtOnce; ++i) {
    UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd) {
      begin(std::move(fd));
      continue;
    }
    if (errno == EAGAIN) return;
    if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS) continue;
    // What waits would wake the loop without end.
    loop_.unwatch(listener_.get());
    listen_again_ = loop_.after(kListenAgain, [this] {
      (void)loop_.watch(listener_.get(), EPOLLIN, [this](uint32_t) { accept_some(); });
    });
    return;
  }
}

bool AgentServer::begin(UniqueFd fd) {
  SocketAddress peer, local;
  Result<AgentChallenge> challenge = AgentChallenge::fresh();
  if (!challenge || getpeername(fd.get(), peer.any(), &peer.length) != 0 ||
      getsockname(fd.get(), local.any(), &local.length) != 0)
    return false;
  if (connections_.size() >= limits_.connections) make_room();
  const uint64_t serial = next_serial_++;
  const int raw = fd.get();
  Connection& connection = connections_[serial];
  connection.fd = std::move(fd);
  connection.peer = peer.address();
  connection.local = local.address();
  connection.challenge = *challenge;
  connection.out = challenge->view();
  connection.timer = loop_.after(limits_.timeout,
                                 [this, serial] { end(serial, &AgentServerCounters::timed_out); });
  if (!loop_.watch(raw, EPOLLIN, [this, serial](uint32_t) { handle(serial); })) {
    end(serial, nullptr);
    return false;
  }
  // A fresh connection has room for so little, or is broken.
  send_rest(serial, connection);
  return true;
}

void AgentServer::make_room() {
  std::map<Address, size_t> of_peer;
  for (const auto& [serial, connection] : connections_) ++of_peer[connection.peer];
  size_t most = 0;
  for (const auto& [peer, count] : of_peer) most = std::max(most, count);
  const auto oldest = std::find_if(connections_.begin(), connections_.end(), [&](const auto& item) {
    return of_peer[item.second.peer] == most;
  });
  if (oldest != connections_.end()) end(oldest->first, &AgentServerCounters::crowded_out);
}

void AgentServer::handle(uint64_t serial) {
  const auto it = connections_.find(serial);
  if (it == connections_.end()) return;
  if (it->second.sent < it->second.out.size())
    send_rest(serial, it->second);
  else
    receive(serial, it->second);
}

void AgentServer::receive(uint64_t serial, Connection& connection) {
  char buffer[kReadAtOnce];
  const ssize_t n = recv(connection.fd.get(), buffer, sizeof buffer, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) return end(serial, &AgentServerCounters::broken);
  connection.in.append(buffer, static_cast<size_t>(n));
  const AgentFrame frame = AgentFrame::of(connection.in, kAgentRequestMax);
  if (frame.state == AgentFrame::State::bad) return end(serial, &AgentServerCounters::broken);
  if (frame.state == AgentFrame::State::whole) answer(serial, connection, frame);
}

void AgentServer::answer(uint64_t serial, Connection& connection, const AgentFrame& frame) {
  if (!genuine_request(key_, connection.challenge, frame))
    return end(serial, &AgentServerCounters::wrong_key);
  const std::string body = body_for(connection, frame, connection.ends_as);
  const std::optional<AgentMessage> message =
      seal_answer(key_, connection.challenge, frame.mac, body);
  if (!message) return end(serial, &AgentServerCounters::refused);
  connection.out = message->bytes;
  connection.sent = 0;
  connection.answering = true;
  send_rest(serial, connection);
}

std::string AgentServer::body_for(const Connection& connection, const AgentFrame& frame,
                                  Count& ends_as) {
  ends_as = &AgentServerCounters::refused;
  Result<AgentRequest> request = read_agent_request(frame.request());
  if (!request) return write_agent_refusal(request.error());
  if (request->backend != connection.local) {
    return write_agent_refusal({"",
                                "the request is for " + request->backend.text() + ", but came to " +
                                    connection.local.text(),
                                "an agent answers at its backend's own address only"});
  }
  Result<uint64_t> sockets = host_.sockets(*request);
  if (!sockets) return write_agent_refusal(sockets.error());
  ends_as = &AgentServerCounters::answered;
  return write_agent_answer({.sockets = *sockets,
                             .second_chances = host_.second_chances(),
                             .version = GW_VERSION,
                             .boot_id = boot_id_,
                             .started = started_});
}

void AgentServer::send_rest(uint64_t serial, Connection& connection) {
  const ssize_t n = send(connection.fd.get(), connection.out.data() + connection.sent,
                         connection.out.size() - connection.sent, MSG_NOSIGNAL);
  if (n < 0 && errno != EAGAIN && errno != EINTR) return end(serial, &AgentServerCounters::broken);
  if (n > 0) connection.sent += static_cast<size_t>(n);
  const bool all = connection.sent == connection.out.size();
  if (all && connection.answering) return end(serial, connection.ends_as);
  if (!loop_.change_events(connection.fd.get(), all ? EPOLLIN : EPOLLOUT))
    end(serial, &AgentServerCounters::broken);
}

void AgentServer::end(uint64_t serial, Count as) {
  const auto it = connections_.find(serial);
  if (it == connections_.end()) return;
  if (as != nullptr) ++(counters_.*as);
  loop_.cancel(it->second.timer);
  loop_.unwatch(it->second.fd.get());
  connections_.erase(it);
}

}  // namespace guideway::cli
