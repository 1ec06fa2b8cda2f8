// SPDX-License-Identifier: Apache-2.0
// Lookup tables: the time to make them, how much moves when a backend leaves or changes its weight,
// how even they are. Beside them the table as the Maglev paper gives it (NSDI 2016, section 3.4,
// pseudocode 1), each backend of weight 1, in the same run. Prints JSON: times in ms, the median of
// several, and parts of 1. root_ms: the root image after one failure, which copies no table
// (sending it is not in it).
//
// usage: bench_tables [--quick]
#include <netinet/in.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "controlplane/image.h"
#include "controlplane/maglev.h"

namespace guideway {
namespace {

using Table = std::vector<uint16_t>;

Address address_of(size_t number) {
  return *Address::parse("10." + std::to_string(number >> 16) + '.' +
                         std::to_string(number >> 8 & 255) + '.' + std::to_string(number & 255));
}

std::vector<MaglevBackend> backends_of(size_t count) {
  std::vector<MaglevBackend> out;
  for (size_t i = 0; i < count; ++i) out.push_back({address_of(i), 100});
  return out;
}

// The paper's, of backends 0 .. backends - 1 without `absent`.
Table paper_table(size_t backends, uint32_t slots, size_t absent) {
  std::vector<uint64_t> at(backends), skip(backends);
  for (size_t i = 0; i < backends; ++i) {
    const uint64_t hash = XXH3_64bits_withSeed(&i, sizeof i, 7);
    at[i] = (hash & 0xffffffff) % slots;
    skip[i] = (hash >> 32) % (slots - 1) + 1;
  }
  constexpr uint16_t kFree = 0xffff;
  Table table(slots, kFree);
  for (uint32_t filled = 0;;) {
    for (size_t i = 0; i < backends; ++i) {
      if (i == absent) continue;
      while (table[at[i]] != kFree) at[i] = (at[i] + skip[i]) % slots;
      table[at[i]] = static_cast<uint16_t>(i);
      if (++filled == slots) return table;
    }
  }
}

template <class Make>
double median_ms(int runs, const Make& make) {
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    const auto began = std::chrono::steady_clock::now();
    make();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - began;
    times.push_back(took.count());
  }
  std::nth_element(times.begin(), times.begin() + runs / 2, times.end());
  return times[static_cast<size_t>(runs) / 2];
}

// The root of one pool in which the first backend is down.
std::shared_ptr<const SealedImage> root_of(const Intent& intent, const TableMap& tables) {
  static NextHopState hop;
  hop.hop = NextHop{.ifindex = 5,
                    .interface = "eth1",
                    .gateway = {},
                    .source_mac = {2, 0, 0, 0, 0, 1},
                    .mac = {2, 0, 0, 0, 0, 9},
                    .mtu = 1500,
                    .source = Address::parse("10.0.0.11")};
  ImageNode node;
  node.generation = 1;
  node.ports = {"eth1"};
  node.next_hop = [](const Address&) -> const NextHopState& { return hop; };
  node.release = [](const std::string&, const Address& a) -> Release {
    if (a == address_of(0)) return {.share = 0, .holds = false};
    return {};
  };
  node.service_counter = [](const ServiceKey&) { return 0u; };
  node.backend_counter = [](const std::string&, const Address& a) {
    return a.bytes[13] * 65536u + a.bytes[14] * 256u + a.bytes[15];
  };
  auto image = SealedImage::build(intent, tables, node);
  return image ? *image : nullptr;
}

double root_ms(size_t count, uint32_t slots, int runs) {
  Intent intent;
  intent.revision = 1;
  Pool pool;
  pool.forwarding = Forwarding::ipip;
  pool.table_slots = slots;
  for (size_t i = 0; i < count; ++i) pool.backends[address_of(i)] = {100};
  intent.pools = {{"p", pool}};
  intent.services[{*Address::parse("198.18.0.1"), IPPROTO_TCP, 80}] = {"p"};
  const auto tables = build_tables(intent, {});
  if (!tables) return -1;
  bool good = true;
  const double ms = median_ms(runs, [&] { good = root_of(intent, *tables) && good; });
  return good ? ms : -1;
}

// Of all slots, those that change owner although neither owner is `besides`.
double moved(const Table& before, const Table& after, uint16_t besides) {
  size_t count = 0;
  for (size_t i = 0; i < before.size(); ++i)
    count += before[i] != after[i] && before[i] != besides && after[i] != besides;
  return static_cast<double>(count) / static_cast<double>(before.size());
}

double max_by_min(const Table& owners, size_t backends) {
  std::vector<uint32_t> share(backends);
  for (const uint16_t owner : owners) ++share[owner];
  const auto [least, most] = std::minmax_element(share.begin(), share.end());
  return *least == 0 ? 0 : static_cast<double>(*most) / *least;
}

void measure(size_t count, uint32_t slots, int runs, bool first) {
  auto backends = backends_of(count);
  Table owners, standing, paper;
  const double owners_ms = median_ms(runs, [&] { owners = maglev_table(backends, slots, 1); });
  const double standing_ms = median_ms(runs, [&] { standing = maglev_table(backends, slots, 2); });
  const double paper_ms = median_ms(runs, [&] { paper = paper_table(count, slots, count); });

  const size_t one = count / 2;
  const auto gone = static_cast<uint16_t>(one);
  backends[one].weight = 0;
  const Table left = maglev_table(backends, slots, 1);
  backends[one].weight = 50;
  const Table half = maglev_table(backends, slots, 1);
  const Table paper_left = paper_table(count, slots, one);
  std::printf(
      "%s\n  {\"backends\":%zu,\"slots\":%u,\"owners_ms\":%.3f,\"stand_ins_ms\":%.3f,"
      "\"paper_ms\":%.3f,\"root_ms\":%.3f,\"moved_leave\":%.6f,"
      "\"paper_moved_leave\":%.6f,\"moved_weight\":%.6f,\"max_by_min\":%.5f,\"paper_max_by_min\":%."
      "5f}",
      first ? "" : ",", count, slots, owners_ms, standing_ms, paper_ms, root_ms(count, slots, runs),
      moved(owners, left, gone), moved(paper, paper_left, gone), moved(owners, half, gone),
      max_by_min(owners, count), max_by_min(paper, count));
  std::fflush(stdout);
}

}  // namespace
}  // namespace guideway

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::strcmp(argv[1], "--quick") == 0;
  std::printf("[");
  bool first = true;
  for (const uint32_t slots : {65537u, 655373u}) {
    for (const size_t count : {10u, 100u, 1000u, 10000u}) {
      guideway::measure(count, slots, quick ? 3 : 15, first);
      first = false;
    }
  }
  std::printf("\n]\n");
  return 0;
}
