// SPDX-License-Identifier: Apache-2.0
// How long it takes until a dataplane has adopted a change, step by step, by the control plane's
// own builder and publisher. Prints JSON: medians, in ms, of the time to make the tables, to make
// the root, and from there to the answer of the dataplane (every worker has left the image before).
//   publish_times SOCKET BACKENDS SLOTS RUNS
// first: a pool with a table that the dataplane does not have. failure: one backend down, no table.
// weight: of one backend; the pool's table is made and sent anew.
// And the bytes of 100 services, over one pool and over 100.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "controlplane/event_loop.h"
#include "controlplane/publisher.h"
#include "tests/bench/bench_image.h"

namespace {

using namespace guideway;
using bench::Order;
using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

struct Times {
  std::vector<double> tables, root, adopted, all;
  size_t tables_sent = 0;
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "publish_times: %s\n", why.c_str());
  std::exit(1);
}

template <typename T>
T must(Result<T> result) {
  if (!result) give_up(result.error().text());
  return std::move(*result);
}

// Changes one after the other, each as soon as the dataplane has adopted the one before.
class Changes {
 public:
  Changes(const std::string& socket, Order order, int runs)
      : loop_(must(EventLoop::create())),
        order_(std::move(order)),
        intent_(bench::intent_of(order_)),
        runs_(runs),
        publisher_(*loop_, socket, callbacks()) {}

  void run() {
    loop_->after(std::chrono::seconds(90), [] { give_up("no answer in time"); });
    publisher_.start();
    loop_->run();
  }

  Times first, failure, weight;

 private:
  Publisher::Callbacks callbacks() {
    Publisher::Callbacks out;
    out.on_connected = [this](const DataplaneInfo& info, UniqueFd) {
      generation_ = info.generation;
      port_ = info.ports.at(0);
      next();
    };
    out.on_ack = [this](uint64_t, uint64_t, bool adopted, const std::string& reason) {
      if (!adopted) give_up(reason);
      now_->adopted.push_back(ms_since(sent_));
      now_->all.push_back(ms_since(began_));
      now_->tables_sent = publisher_.tables_sent();
      next();
    };
    out.on_disconnected = [](const std::string& why) { give_up(why); };
    return out;
  }

  void next() {
    const int i = done_++;
    const unsigned middle = order_.backends / 2 + 1;
    const Address one = bench::address("10.200.0.0", "", true, middle);
    uint32_t& weight_of_one = intent_.pools["p"].backends[one].weight;
    order_.down = 0;
    if (i < runs_) {
      tables_.clear();
      weight_of_one = i % 2 == 0 ? 1000 : 2000;
      return change(first);
    }
    if (i < 2 * runs_) {
      if (i % 2 == 0) order_.down = middle;
      return change(failure);
    }
    if (i == 3 * runs_) return loop_->stop();
    weight_of_one = i % 2 == 0 ? 50 : 300;
    change(weight);
  }

  // Makes and publishes what has changed.
  void change(Times& times) {
    now_ = &times;
    began_ = Clock::now();
    tables_ = must(build_tables(intent_, tables_));
    times.tables.push_back(ms_since(began_));
    const auto made = Clock::now();
    auto image =
        must(SealedImage::build(intent_, tables_, bench::node_of(order_, port_, ++generation_)));
    times.root.push_back(ms_since(made));
    sent_ = Clock::now();
    if (!publisher_.publish(std::move(image))) give_up("not connected");
  }

  std::unique_ptr<EventLoop> loop_;
  Order order_;
  Intent intent_;
  TableMap tables_;
  uint64_t generation_ = 0;
  std::string port_;
  const int runs_;
  int done_ = 0;
  Times* now_ = nullptr;
  Clock::time_point began_, sent_;
  Publisher publisher_;
};

void print(const char* name, const Times& t) {
  std::printf(
      "\"%s\":{\"tables_ms\":%.3f,\"root_ms\":%.3f,\"adopted_ms\":%.3f,\"all_ms\":%.3f,"
      "\"most_ms\":%.3f,\"tables_sent\":%zu},\n",
      name, median(t.tables), median(t.root), median(t.adopted), median(t.all),
      *std::max_element(t.all.begin(), t.all.end()), t.tables_sent);
}

size_t table_bytes(const SealedImage& image) {
  size_t bytes = 0;
  for (const auto& table : image.tables()) bytes += table->bytes().size();
  return bytes;
}

// 100 services of 100 backends, over so many pools.
void print_size(const char* name, Order order, unsigned pools, const char* end) {
  constexpr unsigned kServices = 100;
  order.services = kServices;
  order.backends = 100;
  Intent intent = bench::intent_of(order);
  const Pool pool = intent.pools.at("p");
  intent.pools.clear();
  // Each with a member of its own, or they would share a table.
  for (unsigned i = 0; i < pools; ++i) {
    Pool own = pool;
    own.backends[bench::address("10.201.0.0", "fd00:201::", order.v4, i)] = {100};
    intent.pools["p" + std::to_string(i)] = own;
  }
  unsigned number = 0;
  for (auto& [key, service] : intent.services)
    service.pool = "p" + std::to_string(number++ % pools);
  const TableMap tables = must(build_tables(intent, {}));
  const auto image = must(SealedImage::build(intent, tables, bench::node_of(order, "eth1", 1)));
  std::printf("\"%s\":{\"tables\":%zu,\"table_bytes\":%zu,\"root_bytes\":%zu}%s\n", name,
              image->tables().size(), table_bytes(*image), image->bytes().size(), end);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) give_up("SOCKET BACKENDS SLOTS RUNS");
  Order order;
  order.forwarding = "ipip";
  order.release = "quiet";
  order.services = 1;
  order.backends = static_cast<unsigned>(std::atoi(argv[2]));
  order.slots = static_cast<unsigned>(std::atoi(argv[3]));
  const int runs = std::atoi(argv[4]);
  Changes changes(argv[1], order, runs);
  changes.run();
  std::printf("{\"backends\":%u,\"slots\":%u,\n", order.backends, order.slots);
  print("first", changes.first);
  print("failure", changes.failure);
  print("weight", changes.weight);
  print_size("services_100_one_pool", order, 1, ",");
  print_size("services_100_pools_100", order, 100, "}");
  return 0;
}
