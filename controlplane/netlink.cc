// SPDX-License-Identifier: Apache-2.0
#include "controlplane/netlink.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace guideway {
namespace {

constexpr size_t kReceiveBytes = size_t{1} << 17;  // of one datagram: dumps fill up to 32 KiB
constexpr int kQueueBytes = 8 << 20;
constexpr size_t kBatch = 128;  // answers that certainly fit into the queue
constexpr int kDumpTries = 5;   // against changes during a dump

// The positive errno of an NLMSG_ERROR; 0 is an acknowledgement.
int error_of(const nlmsghdr* message) {
  if (mnl_nlmsg_get_payload_len(message) < sizeof(nlmsgerr)) return EBADMSG;
  return -static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(message))->error;
}

// The positive errno of an NLMSG_DONE: a dump that fails half-way, or has no such family, ends so.
int end_of_dump(const nlmsghdr* message) {
  if (mnl_nlmsg_get_payload_len(message) < sizeof(int)) return 0;
  const int error = *static_cast<const int*>(mnl_nlmsg_get_payload(message));
  return error < 0 ? -error : 0;
}

// libmnl's own loops are macros that are not C++.
void each_attribute(const uint8_t* at, const uint8_t* end, const EachAttribute& each) {
  const auto* attribute = reinterpret_cast<const nlattr*>(at);
  while (
      mnl_attr_ok(attribute, static_cast<int>(end - reinterpret_cast<const uint8_t*>(attribute)))) {
    each(mnl_attr_get_type(attribute), attribute);
    attribute = mnl_attr_next(attribute);
  }
}

}  // namespace

NetlinkRequest::NetlinkRequest(uint16_t type, uint16_t flags) {
  nlmsghdr* header = mnl_nlmsg_put_header(bytes_);
  header->nlmsg_type = type;
  header->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
}

void NetlinkRequest::put_address(uint16_t type, const Address& address) {
  if (address.is_v4()) {
    mnl_attr_put(message(), type, 4, address.v4());
  } else {
    mnl_attr_put(message(), type, 16, address.v6());
  }
}

Result<NetlinkSocket> NetlinkSocket::open(std::initializer_list<unsigned> groups) {
  NetlinkSocket out;
  out.socket_.reset(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC));
  if (!out.socket_ || mnl_socket_bind(out.socket_.get(), 0, MNL_SOCKET_AUTOPID) != 0)
    return fail("netlink", std::strerror(errno));
  const int fd = out.fd();
  // Without the right to exceed the limit, what the limit allows is taken.
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kQueueBytes, sizeof kQueueBytes) != 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kQueueBytes, sizeof kQueueBytes);
  int on = 1;
  mnl_socket_setsockopt(out.socket_.get(), NETLINK_GET_STRICT_CHK, &on, sizeof on);
  mnl_socket_setsockopt(out.socket_.get(), NETLINK_CAP_ACK, &on, sizeof on);
  for (unsigned group : groups) {
    if (mnl_socket_setsockopt(out.socket_.get(), NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0)
      return fail("netlink", std::string("cannot subscribe: ") + std::strerror(errno));
  }
  // What is asked is answered within send(): nothing here ever has to wait.
  if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
    return fail("netlink", std::strerror(errno));
  out.buffer_.resize(kReceiveBytes);
  return out;
}

// One datagram into buffer_; -1 with errno.
ssize_t NetlinkSocket::receive() {
  ssize_t n;
  do {
    n = mnl_socket_recvfrom(socket_.get(), buffer_.data(), buffer_.size());
  } while (n < 0 && errno == EINTR);
  return n;
}

// Left-overs of a transaction that failed must not be taken for answers of the next, nor events
// from before an overflow for news.
void NetlinkSocket::drain() {
  while (receive() >= 0 || errno == ENOBUFS) {
  }
}

int NetlinkSocket::dump(NetlinkRequest& request, const std::function<void(const nlmsghdr*)>& each) {
  request.message()->nlmsg_flags |= NLM_F_DUMP;
  int error = 0;
  for (int attempt = 0; attempt < kDumpTries; ++attempt) {
    // A dump that was interrupted by changes may lack entries: nothing of it is handed over.
    std::vector<uint8_t> messages;
    error = dump_once(request, messages);
    if (error == EINTR) continue;
    if (error != 0) return error;
    for (size_t at = 0; at < messages.size();) {
      const auto* message = reinterpret_cast<const nlmsghdr*>(messages.data() + at);
      each(message);
      at += MNL_ALIGN(message->nlmsg_len);
    }
    return 0;
  }
  return error;
}

int NetlinkSocket::dump_once(NetlinkRequest& request, std::vector<uint8_t>& messages) {
  drain();
  request.message()->nlmsg_seq = ++sequence_;
  if (mnl_socket_sendto(socket_.get(), request.message(), request.message()->nlmsg_len) < 0)
    return errno;
  bool interrupted = false;
  while (true) {
    const ssize_t n = receive();
    if (n < 0) return errno;
    int left = static_cast<int>(n);
    const auto* message = reinterpret_cast<const nlmsghdr*>(buffer_.data());
    for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
      if (message->nlmsg_seq != sequence_) continue;
      interrupted = interrupted || (message->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
      if (message->nlmsg_type == NLMSG_DONE) return interrupted ? EINTR : end_of_dump(message);
      if (message->nlmsg_type == NLMSG_ERROR) return error_of(message);
      const auto* bytes = reinterpret_cast<const uint8_t*>(message);
      messages.insert(messages.end(), bytes, bytes + message->nlmsg_len);
      messages.resize(MNL_ALIGN(messages.size()));
    }
  }
}

int NetlinkSocket::ask(std::span<NetlinkRequest> requests, const Answer& answer) {
  int result = 0;
  for (size_t first = 0; first < requests.size(); first += kBatch) {
    const size_t count = std::min(kBatch, requests.size() - first);
    const int error = ask_batch(requests.subspan(first, count), first, answer);
    if (result == 0) result = error;
  }
  return result;
}

int NetlinkSocket::ask_batch(std::span<NetlinkRequest> requests, size_t first,
                             const Answer& answer) {
  drain();
  std::vector<uint8_t> out;
  const uint32_t first_sequence = sequence_ + 1;
  for (NetlinkRequest& request : requests) {
    request.message()->nlmsg_seq = ++sequence_;
    const auto* bytes = reinterpret_cast<const uint8_t*>(request.message());
    out.insert(out.end(), bytes, bytes + request.message()->nlmsg_len);
    out.resize(MNL_ALIGN(out.size()));
  }
  std::vector<bool> answered(requests.size());
  size_t left = requests.size();
  const auto take = [&](const nlmsghdr* message) {
    const size_t index = message->nlmsg_seq - first_sequence;
    if (index >= requests.size() || answered[index]) return;
    answered[index] = true;
    --left;
    const bool error = message->nlmsg_type == NLMSG_ERROR;
    answer(first + index, error ? error_of(message) : 0, error ? nullptr : message);
  };
  if (mnl_socket_sendto(socket_.get(), out.data(), out.size()) < 0) return errno;
  while (left > 0) {
    const ssize_t n = receive();
    // EAGAIN: an answer that should be there is lost.
    if (n < 0) return errno == EAGAIN ? ENOBUFS : errno;
    int rest = static_cast<int>(n);
    const auto* message = reinterpret_cast<const nlmsghdr*>(buffer_.data());
    for (; mnl_nlmsg_ok(message, rest); message = mnl_nlmsg_next(message, &rest)) take(message);
  }
  return 0;
}

int NetlinkSocket::change(NetlinkRequest& request) {
  request.message()->nlmsg_flags |= NLM_F_ACK;
  int result = 0;
  const int lost = ask({&request, 1}, [&](size_t, int error, const nlmsghdr*) { result = error; });
  return lost != 0 ? lost : result;
}

NetlinkSocket::Read NetlinkSocket::read(const std::function<void(const nlmsghdr*)>& each) {
  while (true) {
    const ssize_t n = receive();
    if (n < 0) {
      if (errno == EAGAIN) return Read::all;
      if (errno != ENOBUFS) return Read::broken;
      drain();
      return Read::overflow;
    }
    int left = static_cast<int>(n);
    const auto* message = reinterpret_cast<const nlmsghdr*>(buffer_.data());
    for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) each(message);
  }
}

std::optional<Address> netlink_address(const nlattr* attribute) {
  const void* bytes = mnl_attr_get_payload(attribute);
  switch (mnl_attr_get_payload_len(attribute)) {
    case 4:
      return Address::from_v4(bytes);
    case 16:
      return Address::from_v6(bytes);
    default:
      return {};
  }
}

void netlink_attributes(const nlmsghdr* message, size_t header_bytes, const EachAttribute& each) {
  const size_t bytes = mnl_nlmsg_get_payload_len(message);
  if (bytes < header_bytes) return;
  const auto* payload = static_cast<const uint8_t*>(mnl_nlmsg_get_payload(message));
  each_attribute(payload + MNL_ALIGN(header_bytes), payload + bytes, each);
}

void netlink_attributes(const nlattr* nest, const EachAttribute& each) {
  const auto* payload = static_cast<const uint8_t*>(mnl_attr_get_payload(nest));
  each_attribute(payload, payload + mnl_attr_get_payload_len(nest), each);
}

}  // namespace guideway
