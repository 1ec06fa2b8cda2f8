// SPDX-License-Identifier: Apache-2.0
// Publishes one forwarding image, made by the control plane's own code, to a dataplane of the
// bench: next hops that need no neighbour, no control plane process that would take CPU.
//   publish_image SOCKET 4|6 l2|ipip|gue BACKENDS SERVICES SLOTS quiet|learn|drain|churn
// quiet: every backend is up, no flow is learned. learn: each takes almost no slot, but holds:
// every established flow is learned. drain: all but each tenth backend drain, so most new flows are
// learned. Exit code 0 once the image is adopted. churn: every 100 ms another backend is down and
// the one before is up again, until the program is killed.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "controlplane/event_loop.h"
#include "controlplane/publisher.h"
#include "tests/bench/bench_image.h"

namespace {

using namespace guideway;
using bench::Order;

constexpr std::chrono::seconds kPatience{10};
constexpr std::chrono::milliseconds kChurn{100};

int complain(const std::string& what) {
  std::fprintf(stderr, "publish_image: %s\n", what.c_str());
  return 1;
}

// A publisher and what it says.
class Publication {
 public:
  Publication(EventLoop& loop, const std::string& socket, Order order)
      : loop_(loop), order_(std::move(order)), publisher_(loop, socket, callbacks()) {}

  // Why it ended; empty: adopted.
  std::string run() {
    if (!churns()) loop_.after(kPatience, [&] { loop_.stop(); });
    publisher_.start();
    loop_.run();
    return problem_;
  }

 private:
  bool churns() const { return order_.release == "churn"; }

  void end(const std::string& why) {
    problem_ = why;
    loop_.stop();
  }

  Publisher::Callbacks callbacks() {
    Publisher::Callbacks out;
    out.on_connected = [this](const DataplaneInfo& info, UniqueFd) {
      intent_ = bench::intent_of(order_);
      auto tables = build_tables(intent_, {});
      if (!tables) return end(tables.error().text());
      tables_ = *tables;
      generation_ = info.generation;
      port_ = info.ports.at(0);
      publish();
    };
    out.on_ack = [this](uint64_t, uint64_t, bool adopted, const std::string& reason) {
      if (!adopted || !churns()) end(reason);
    };
    out.on_disconnected = [this](const std::string& why) { end(why); };
    return out;
  }

  void publish() {
    auto image = SealedImage::build(intent_, tables_, bench::node_of(order_, port_, ++generation_));
    if (!image) return end(image.error().text());
    publisher_.publish(*image);
    if (!churns()) return;
    order_.down = order_.down % order_.backends + 1;
    loop_.after(kChurn, [this] { publish(); });
  }

  EventLoop& loop_;
  Order order_;
  Intent intent_;
  TableMap tables_;
  uint64_t generation_ = 0;
  std::string port_;
  std::string problem_ = "no answer of the dataplane in time";
  Publisher publisher_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 8)
    return complain("SOCKET 4|6 l2|ipip|gue BACKENDS SERVICES SLOTS quiet|learn|drain|churn");
  Order order;
  order.v4 = std::string(argv[2]) == "4";
  order.forwarding = argv[3];
  order.backends = static_cast<unsigned>(std::atoi(argv[4]));
  order.services = static_cast<unsigned>(std::atoi(argv[5]));
  order.slots = static_cast<unsigned>(std::atoi(argv[6]));
  order.release = argv[7];
  auto loop = EventLoop::create();
  if (!loop) return complain(loop.error().text());
  const std::string problem = Publication(**loop, argv[1], order).run();
  return problem.empty() ? 0 : complain(problem);
}
