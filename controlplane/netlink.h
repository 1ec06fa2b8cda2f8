// SPDX-License-Identifier: Apache-2.0
// A thin layer over libmnl: requests with their answers, and a subscription to changes. The kernel
// handles a rtnetlink request inside send(), so its answer is there when send() returns: a
// transaction waits for nobody.
#pragma once

#include <libmnl/libmnl.h>
#include <linux/netlink.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "controlplane/result.h"
#include "dataplane/address.h"

namespace guideway {

// One request under construction, at most 512 bytes.
class NetlinkRequest {
 public:
  // `flags` besides NLM_F_REQUEST.
  NetlinkRequest(uint16_t type, uint16_t flags);

  template <typename Header>
  Header* header() {
    return static_cast<Header*>(mnl_nlmsg_put_extra_header(message(), sizeof(Header)));
  }
  void put_u8(uint16_t type, uint8_t value) { mnl_attr_put_u8(message(), type, value); }
  void put_u32(uint16_t type, uint32_t value) { mnl_attr_put_u32(message(), type, value); }
  // 4 or 16 bytes.
  void put_address(uint16_t type, const Address& address);

  nlmsghdr* message() { return reinterpret_cast<nlmsghdr*>(bytes_); }

 private:
  alignas(nlmsghdr) uint8_t bytes_[512] = {};
};

class NetlinkSocket {
 public:
  enum class Read {
    all,       // what there was has been handed over
    overflow,  // the kernel dropped messages (ENOBUFS): read everything anew
    broken     // the socket is of no use any more
  };

  // NETLINK_ROUTE, subscribed to the groups (RTNLGRP_*), non-blocking. Strict checking is on.
  static Result<NetlinkSocket> open(std::initializer_list<unsigned> groups);
  NetlinkSocket() = default;

  int fd() const { return socket_ ? mnl_socket_get_fd(socket_.get()) : -1; }

  // Sends a NLM_F_DUMP request and hands over each message of the answer. 0 or a positive errno,
  // and then nothing was handed over.
  int dump(NetlinkRequest& request, const std::function<void(const nlmsghdr*)>& each);

  // Sends the requests, many at a time. For each, in order: `answer(index, 0, message)`, or
  // `answer(index, error, nullptr)` with the kernel's positive errno; a request with NLM_F_ACK that
  // went well has no message. Returns 0, or the positive errno of why requests could not be sent or
  // answers are missing (lost: ENOBUFS): nobody knows of those, and `answer` is not called for
  // them.
  using Answer = std::function<void(size_t index, int error, const nlmsghdr* message)>;
  int ask(std::span<NetlinkRequest> requests, const Answer& answer);

  // One request with NLM_F_ACK: 0 or a positive errno.
  int change(NetlinkRequest& request);

  // Subscribed sockets: hands over what there is, without waiting. On an overflow what is left in
  // the queue is thrown away: it is older than what the caller is going to read.
  Read read(const std::function<void(const nlmsghdr*)>& each);

 private:
  struct Close {
    void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
  };
  ssize_t receive();
  void drain();
  int dump_once(NetlinkRequest& request, std::vector<uint8_t>& messages);
  int ask_batch(std::span<NetlinkRequest> requests, size_t first, const Answer& answer);

  std::unique_ptr<mnl_socket, Close> socket_;
  uint32_t sequence_ = 0;
  std::vector<uint8_t> buffer_;
};

// The address in a netlink attribute of 4 or 16 bytes; nothing if it is of another size.
std::optional<Address> netlink_address(const nlattr* attribute);

using EachAttribute = std::function<void(uint16_t type, const nlattr*)>;

// Calls `each` for each attribute after a family header of `header_bytes`, or within another
// attribute.
void netlink_attributes(const nlmsghdr* message, size_t header_bytes, const EachAttribute& each);
void netlink_attributes(const nlattr* nest, const EachAttribute& each);

}  // namespace guideway
