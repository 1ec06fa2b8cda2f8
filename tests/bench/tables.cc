// SPDX-License-Identifier: Apache-2.0
// How long lookup tables take, and how good they are; JSON on standard output, see bench_tables.py.
//   bench_tables [quick]
// For N backends of equal weight and M slots: build in ms (owners only, and with stand-ins),
// median of three; the root after one failure (`image_ms`: a failure copies no table; sending it to
// the dataplane is not in it); max over min share of slots; and for a member that leaves for good,
// how many slots of the survivors change their owner in a table built anew (disruption).
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

#include "controlplane/image.h"

namespace {

using namespace guideway;

double ms_of(auto&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

double median_ms(auto&& work) {
  std::array<double, 3> times{};
  for (double& time : times) time = ms_of(work);
  std::sort(times.begin(), times.end());
  return times[1];
}

Address backend(unsigned number) {
  Address out = *Address::parse("10.200.0.0");
  out.bytes[14] = static_cast<uint8_t>(number >> 8);
  out.bytes[15] = static_cast<uint8_t>(number);
  return out;
}

// The root of one pool in which the first backend is down, or not.
std::shared_ptr<const SealedImage> root_of(const Intent& intent, const TableMap& tables,
                                           bool failed) {
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
  node.release = [failed](const std::string&, const Address& a) -> Release {
    if (failed && a == backend(1)) return {.share = 0, .holds = false};
    return {};
  };
  node.service_counter = [](const ServiceKey&) { return 0u; };
  node.backend_counter = [](const std::string&, const Address& a) {
    return a.bytes[14] * 256u + a.bytes[15];
  };
  auto image = SealedImage::build(intent, tables, node);
  return image ? *image : nullptr;
}

double image_ms(unsigned count, uint32_t slots) {
  Intent intent;
  intent.revision = 1;
  Pool pool;
  pool.forwarding = Forwarding::ipip;
  pool.table_slots = slots;
  for (unsigned i = 1; i <= count; ++i) pool.backends[backend(i)] = {100};
  intent.pools = {{"p", pool}};
  intent.services[{*Address::parse("198.18.0.1"), IPPROTO_TCP, 80}] = {"p"};
  const auto tables = build_tables(intent, {});
  if (!tables) return -1;
  bool good = true;
  const double ms = median_ms([&] { good = root_of(intent, *tables, true) && good; });
  return good ? ms : -1;
}

double imbalance(const std::vector<uint16_t>& owners, unsigned count) {
  std::vector<uint32_t> shares(count);
  for (const uint16_t owner : owners) ++shares[owner];
  const auto [least, most] = std::minmax_element(shares.begin(), shares.end());
  return *least == 0 ? -1 : static_cast<double>(*most) / *least;
}

// Survivors' slots that move when the middle one leaves, in percent of theirs.
double disruption(const std::vector<MaglevBackend>& all, const std::vector<uint16_t>& before,
                  uint32_t slots) {
  const auto gone = static_cast<uint16_t>(all.size() / 2);
  std::vector<MaglevBackend> fewer = all;
  fewer[gone].weight = 0;
  const std::vector<uint16_t> after = maglev_table(fewer, slots, 1);
  uint64_t kept = 0;
  uint64_t moved = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    if (before[i] == gone) continue;
    (before[i] == after[i] ? kept : moved) += 1;
  }
  return 100.0 * static_cast<double>(moved) / static_cast<double>(kept + moved);
}

void measure(unsigned count, uint32_t slots, const char* separator) {
  std::vector<MaglevBackend> backends;
  for (unsigned i = 1; i <= count; ++i) backends.push_back({backend(i), 100});
  std::vector<uint16_t> owners;
  const double owners_ms = median_ms([&] { owners = maglev_table(backends, slots, 1); });
  const double both_ms = median_ms([&] { (void)maglev_table(backends, slots, 2); });
  std::printf(
      "%s{\"backends\":%u,\"slots\":%u,\"owners_ms\":%.3f,\"stand_ins_ms\":%.3f,"
      "\"image_ms\":%.3f,\"max_over_min\":%.4f,\"moved_percent\":%.3f}\n",
      separator, count, slots, owners_ms, both_ms, image_ms(count, slots), imbalance(owners, count),
      disruption(backends, owners, slots));
}

}  // namespace

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::strcmp(argv[1], "quick") == 0;
  const char* separator = "[";
  for (const uint32_t slots : {65537u, 655373u}) {
    for (const unsigned count : {10u, 100u, 1000u, 10000u}) {
      if (quick && slots > 65537 && count != 1000) continue;
      measure(count, slots, separator);
      separator = ",";
    }
  }
  std::puts("]");
  return 0;
}
