// SPDX-License-Identifier: Apache-2.0
// The forwarding images of the bench, made by the control plane's own code: one pool, next hops
// that need no neighbour.
#pragma once

#include <netinet/in.h>

#include <string>

#include "controlplane/image.h"

namespace guideway::bench {

struct Order {
  std::string forwarding, release;
  bool v4 = true;
  unsigned backends = 0, services = 0, slots = 0;
  unsigned down = 0;  // the backend of this number is down; 0: none
};

inline Address address(const char* v4_base, const char* v6_base, bool v4, unsigned number) {
  Address out = *Address::parse(v4 ? v4_base : v6_base);
  out.bytes[14] = static_cast<uint8_t>(number >> 8);
  out.bytes[15] = static_cast<uint8_t>(number);
  return out;
}

inline Intent intent_of(const Order& order) {
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

inline Release release_of(const Order& order, const Address& backend) {
  if (backend.bytes[14] * 256u + backend.bytes[15] == order.down)
    return {.share = 0, .holds = false};
  if (order.release == "learn") return {.share = 1, .holds = true};
  if (order.release == "drain" && backend.bytes[15] % 10 != 0) return {.share = 0, .holds = true};
  return {};
}

inline ImageNode node_of(const Order& order, const std::string& port, uint64_t generation) {
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

}  // namespace guideway::bench
