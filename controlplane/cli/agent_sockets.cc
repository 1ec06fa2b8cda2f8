// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/agent_sockets.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

#include "controlplane/unique_fd.h"

namespace guideway::cli {
namespace {

// tcp_states.h of the kernel, which has no copy for programs; <netinet/tcp.h> lacks the last.
enum : uint32_t {
  kEstablished = 1u << 1,
  kSynSent = 1u << 2,
  kSynReceived = 1u << 3,
  kFinWait1 = 1u << 4,
  kFinWait2 = 1u << 5,
  kCloseWait = 1u << 8,
  kLastAck = 1u << 9,
  kClosing = 1u << 11,
  kNewSynReceived = 1u << 12,  // connection requests; new kernels take SYN_RECV for both
};
constexpr uint32_t kCounted = kEstablished | kSynSent | kSynReceived | kFinWait1 | kFinWait2 |
                              kCloseWait | kLastAck | kClosing | kNewSynReceived;

constexpr size_t kReceiveBytes = size_t{1} << 16;  // the kernel fills up to 32 KiB

// Each is a walk through all sockets, of which those with another port are passed by quickly.
constexpr size_t kPortsMax = 4;

struct DiagRequest {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

struct Tally {
  uint64_t counted = 0;
  uint64_t seen = 0;
};

FlowKey flow_of(const inet_diag_msg& socket) {
  FlowKey flow;
  const inet_diag_sockid& id = socket.id;
  const bool v4 = socket.idiag_family == AF_INET;
  flow.client = v4 ? Address::from_v4(id.idiag_dst) : Address::from_v6(id.idiag_dst);
  flow.vip = v4 ? Address::from_v4(id.idiag_src) : Address::from_v6(id.idiag_src);
  flow.client_port = be16::from_raw(id.idiag_dport);
  flow.vip_port = be16::from_raw(id.idiag_sport);
  flow.protocol = IPPROTO_TCP;
  return flow;
}

tl::unexpected<Error> cannot(int error) {
  return fail("sockets", std::string("cannot be counted: ") + std::strerror(error),
              error == ENOENT ? "modprobe tcp_diag" : "");
}

// The errno of an error, or of the end of a dump; -1: neither, there is more.
int end_of(const nlmsghdr& message) {
  if (message.nlmsg_type != NLMSG_DONE && message.nlmsg_type != NLMSG_ERROR) return -1;
  int error = 0;  // both begin with it
  if (message.nlmsg_len >= NLMSG_HDRLEN + sizeof error)
    std::memcpy(&error, reinterpret_cast<const uint8_t*>(&message) + NLMSG_HDRLEN, sizeof error);
  return error < 0 ? -error : 0;
}

// One datagram of a dump. -1: more will come; else 0 or a positive errno.
int take(const std::vector<uint8_t>& buffer, size_t bytes, const SocketQuestion& question,
         Tally& tally) {
  for (size_t at = 0; at + sizeof(nlmsghdr) <= bytes;) {
    const auto& message = *reinterpret_cast<const nlmsghdr*>(buffer.data() + at);
    if (message.nlmsg_len < sizeof message || message.nlmsg_len > bytes - at) return EBADMSG;
    if (const int end = end_of(message); end >= 0) return end;
    if (message.nlmsg_type == SOCK_DIAG_BY_FAMILY) {
      if (message.nlmsg_len < NLMSG_HDRLEN + sizeof(inet_diag_msg)) return EBADMSG;
      const auto& socket =
          *reinterpret_cast<const inet_diag_msg*>(buffer.data() + at + NLMSG_HDRLEN);
      ++tally.seen;
      if (question.about(flow_of(socket))) ++tally.counted;
    }
    at += NLMSG_ALIGN(message.nlmsg_len);
  }
  return -1;
}

// 0 or a positive errno. The kernel answers within send() and recv(): this waits for nobody.
int dump(uint8_t family, uint16_t port, const SocketQuestion& question,
         std::vector<uint8_t>& buffer, Tally& tally) {
  const UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG));
  if (!fd) return errno;
  DiagRequest request = {};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = family;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = kCounted;
  request.body.id.idiag_sport = htons(port);  // 0: any
  if (send(fd.get(), &request, sizeof request, 0) < 0) return errno;
  while (true) {
    const ssize_t n = recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return EBADMSG;
    if (const int end = take(buffer, static_cast<size_t>(n), question, tally); end >= 0) return end;
  }
}

Result<Tally> tally_all(const SocketQuestion& question) {
  std::vector<uint8_t> buffer(kReceiveBytes);
  Tally tally;
  // An IPv6 socket is in the second, whatever its addresses are.
  for (const uint8_t family : {AF_INET, AF_INET6}) {
    for (const uint16_t port : question.ports()) {
      const int error = dump(family, port, question, buffer, tally);
      if (error != 0) return cannot(error);
    }
  }
  return tally;
}

}  // namespace

SocketQuestion::SocketQuestion(const AgentRequest& request) : seed_(request.flow_seed) {
  for (const ServiceKey& service : request.services) {
    if (service.protocol != IPPROTO_TCP) continue;
    services_.emplace_back(service.vip, service.port);
    ports_.push_back(service.port);
  }
  std::sort(services_.begin(), services_.end());
  std::sort(ports_.begin(), ports_.end());
  ports_.erase(std::unique(ports_.begin(), ports_.end()), ports_.end());
  if (ports_.size() > kPortsMax || (!ports_.empty() && ports_.front() == 0)) ports_ = {0};
  std::vector<HashRange> ranges = request.ranges;
  std::sort(ranges.begin(), ranges.end(),
            [](const HashRange& a, const HashRange& b) { return a.first < b.first; });
  for (const HashRange& range : ranges) {
    if (!ranges_.empty() && range.first <= ranges_.back().last)
      ranges_.back().last = std::max(ranges_.back().last, range.last);
    else
      ranges_.push_back(range);
  }
}

bool SocketQuestion::serves(const Address& vip, uint16_t port) const {
  const auto has = [&](uint16_t p) {
    return std::binary_search(services_.begin(), services_.end(), std::pair(vip, p));
  };
  return has(port) || has(0);
}

bool SocketQuestion::about(const FlowKey& flow) const {
  if (!serves(flow.vip, flow.vip_port.host())) return false;
  const auto hash = static_cast<uint32_t>(flow_hash(flow, seed_) >> 32);
  const auto after =
      std::upper_bound(ranges_.begin(), ranges_.end(), hash,
                       [](uint32_t value, const HashRange& range) { return value < range.first; });
  return after != ranges_.begin() && hash <= std::prev(after)->last;
}

Result<uint64_t> count_sockets(const AgentRequest& request) {
  const SocketQuestion question(request);
  if (question.empty()) return 0;
  Result<Tally> tally = tally_all(question);
  if (tally && tally->counted == 0 && tally->seen > 0) tally = tally_all(question);
  if (!tally) return tl::unexpected(tally.error());
  return tally->counted;
}

}  // namespace guideway::cli
