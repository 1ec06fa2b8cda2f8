// SPDX-License-Identifier: Apache-2.0
// Publishes one forwarding image, made by the control plane's own code, to a dataplane of the
// bench: next hops that need no neighbour, no control plane process that would take CPU.
//   publish_image SOCKET 4|6 l2|ipip|gue BACKENDS SERVICES SLOTS quiet|learn|drain
// quiet: every backend is up, no flow is learned. learn: each takes almost no slot, but holds:
// every established flow is learned. drain: all but each tenth backend drain, so most new flows are
// learned. Exit code 0 once the image is adopted.
#include <netinet/in.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "controlplane/event_loop.h"
#include "controlplane/image.h"
#include "controlplane/publisher.h"

namespace {

using namespace guideway;

constexpr std::chrono::seconds kPatience{10};

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

int complain(const std::string& what) {
  std::fprintf(stderr, "publish_image: %s\n", what.c_str());
  return 1;
}

Result<std::shared_ptr<const SealedImage>> image_of(const Order& order, const DataplaneInfo& info) {
  const Intent intent = intent_of(order);
  auto tables = build_tables(intent, {});
  if (!tables) return tl::unexpected(tables.error());
  return SealedImage::build(intent, *tables, node_of(order, info.ports.at(0), info.generation + 1));
}

int publish(const Order& order) {
  auto loop = EventLoop::create();
  if (!loop) return complain(loop.error().text());
  std::string problem = "no answer of the dataplane in time";
  const auto end = [&](const std::string& why) {
    problem = why;
    (*loop)->stop();
  };
  Publisher* raw = nullptr;
  Publisher::Callbacks callbacks;
  callbacks.on_connected = [&](const DataplaneInfo& info, UniqueFd) {
    auto image = image_of(order, info);
    if (!image) return end(image.error().text());
    raw->publish(*image);
  };
  callbacks.on_ack = [&](uint64_t, uint64_t, bool, const std::string& reason) { end(reason); };
  callbacks.on_disconnected = [&](const std::string& why) { end(why); };
  Publisher publisher(**loop, order.socket, std::move(callbacks));
  raw = &publisher;
  (*loop)->after(kPatience, [&] { (*loop)->stop(); });
  publisher.start();
  (*loop)->run();
  return problem.empty() ? 0 : complain(problem);
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
  return publish(order);
}
