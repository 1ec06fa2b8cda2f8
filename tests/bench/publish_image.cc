// SPDX-License-Identifier: Apache-2.0
// Publishes one forwarding image, made by the control plane's own code, to a dataplane of the
// bench: next hops that need no neighbour, no control plane process that would take CPU.
//   publish_image SOCKET 4|6 l2|ipip|gue BACKENDS SERVICES SLOTS quiet|learn|drain
// quiet: every backend is up, no flow is learned. learn: each takes almost no slot, but holds:
// every established flow is learned. drain: all but each tenth backend drain, so most new flows are
// learned. Exit code 0 once the image is adopted.
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "controlplane/image.h"

namespace {

using namespace guideway;

struct Order {
  std::string socket, forwarding, release;
  bool v4 = true;
  unsigned backends = 0, services = 0, slots = 0;
};

Address address(const char* v4_base, const char* v6_base, bool v4, unsigned number) {
  Address out = *Address::parse(v4 ? v4_base : v6_base);
  out.bytes[14] = static_cast<uint8_t>(number >> 8);
  out.bytes[15] = static_cast<uint8_t>(number);
  return out;
}

Intent intent_of(const Order& order) {
  Intent intent;
  intent.revision = 1;
  intent.flow_seed = 0x1122334455667788;
  Pool pool;
  pool.forwarding = order.forwarding == "l2"     ? Forwarding::l2
                    : order.forwarding == "ipip" ? Forwarding::ipip
                                                 : Forwarding::gue;
  pool.table_slots = order.slots;
  for (unsigned i = 1; i <= order.backends; ++i)
    pool.backends[address("10.200.0.0", "fd00:200::", order.v4, i)] = {100};
  intent.pools = {{"p", pool}};
  for (unsigned i = 1; i <= order.services; ++i)
    intent.services[{address("198.18.0.0", "2001:db8:2::", order.v4, i), IPPROTO_TCP, 80}] = {"p"};
  return intent;
}

Release release_of(const Order& order, const Address& backend) {
  if (order.release == "learn") return {.share = 1, .holds = true};
  if (order.release == "drain" && backend.bytes[15] % 10 != 0) return {.share = 0, .holds = true};
  return {};
}

ImageNode node_of(const Order& order, const std::string& port, uint64_t generation) {
  static NextHopState hop;
  hop.hop = NextHop{.ifindex = 5,
                    .interface = port,
                    .gateway = {},
                    .source_mac = {2, 0, 0, 0, 0, 1},
                    .mac = {2, 0, 0, 0, 0, 9},
                    .mtu = 1500,
                    .source = Address::parse(order.v4 ? "10.0.0.11" : "fd00::11")};
  ImageNode node;
  node.generation = generation;
  node.ports = {port};
  node.next_hop = [](const Address&) -> const NextHopState& { return hop; };
  node.release = [order](const std::string&, const Address& a) { return release_of(order, a); };
  node.service_counter = [](const ServiceKey& key) {
    return key.vip.bytes[14] * 256u + key.vip.bytes[15];
  };
  node.backend_counter = [](const std::string&, const Address& a) {
    return a.bytes[14] * 256u + a.bytes[15];
  };
  return node;
}

bool send(int peer, const gw_message& message, int fd) {
  iovec io{const_cast<gw_message*>(&message), sizeof message};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
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
  return sendmsg(peer, &header, MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof message);
}

int complain(const std::string& what) {
  std::fprintf(stderr, "publish_image: %s\n", what.c_str());
  return 1;
}

int publish(const Order& order, int peer) {
  gw_message hello{};
  if (recv(peer, &hello, sizeof hello, 0) != static_cast<ssize_t>(sizeof hello) ||
      hello.type != GW_HELLO)
    return complain("no HELLO");
  const uint64_t generation = hello.generation + 1;
  const Intent intent = intent_of(order);
  auto tables = build_tables(intent, {});
  if (!tables) return complain(tables.error().text());
  auto image =
      SealedImage::build(intent, *tables, node_of(order, hello.port[0].interface, generation));
  if (!image) return complain(image.error().text());
  gw_message message{};
  message.magic = GW_MAGIC_MESSAGE;
  message.type = GW_TABLE;
  for (const auto& table : (*image)->tables()) {
    message.digest = table->digest();
    if (!send(peer, message, table->fd())) return complain("the table is not taken");
  }
  message.type = GW_ROOT;
  message.digest = 0;
  message.generation = generation;
  if (!send(peer, message, (*image)->fd())) return complain("the root is not taken");
  gw_message ack{};
  if (recv(peer, &ack, sizeof ack, 0) <= 0 || ack.type != GW_ACK) return complain("no ACK");
  return ack.status == GW_ADOPTED ? 0 : complain(ack.text);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 8)
    return complain("SOCKET 4|6 l2|ipip|gue BACKENDS SERVICES SLOTS quiet|learn|drain");
  Order order;
  order.socket = argv[1];
  order.v4 = std::string(argv[2]) == "4";
  order.forwarding = argv[3];
  order.backends = static_cast<unsigned>(std::atoi(argv[4]));
  order.services = static_cast<unsigned>(std::atoi(argv[5]));
  order.slots = static_cast<unsigned>(std::atoi(argv[6]));
  order.release = argv[7];
  UniqueFd peer(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  std::strncpy(at.sun_path, order.socket.c_str(), sizeof at.sun_path - 1);
  if (connect(peer.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) != 0)
    return complain(order.socket + ": " + std::strerror(errno));
  return publish(order, peer.get());
}
