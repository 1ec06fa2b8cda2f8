// SPDX-License-Identifier: Apache-2.0
// The packets of the bench: a library to preload (LD_PRELOAD) into any DPDK program. It takes the
// place of receive and transmit of port 0 (best a net_null device) when the program starts that
// port: receive hands out ready packets of N flows from the mempool of its queue 0, transmit frees
// them. Each thread that receives has its own place in the flows, and shares nothing with others.
// The program, its buffers and its loop stay as they are. Preloaded, not a driver for EAL's -d,
// because Debian's DPDK comes without the headers of drivers.
//
// GUIDEWAY_GENERATOR="flows=N,family=4|6,vips=K,syn=0|1,stats=FILE"
//   flows  1 to 2^26; taken in an order that looks random and visits each once before any again
//   vips   the flows are spread over so many: 198.18.0.1, ... or 2001:db8:2::1, ...; TCP port 80
//   syn    1: every packet a SYN; 0: ACK of an established connection
//   stats  a file of kStampsMax stamps, kStampBytes apart: one for each polling thread, in the
//   order
//          of their first packets; written every 1024 bursts by the thread
// IPv4 frames have 64 bytes, IPv6 frames 74.
#include <dlfcn.h>
#include <fcntl.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>

#include "tests/bench/stamp.h"

namespace {

using guideway::kStampBytes;
using guideway::kStampsMax;
using guideway::Stamp;

constexpr unsigned kStampEvery = 1024;  // bursts: the clock's system call is lost in them
constexpr uint32_t kFlowsMax = 1u << 26;
constexpr unsigned kTemplateBytes = 80;

struct Generator {
  alignas(64) uint8_t frame[kTemplateBytes] = {};
  uint32_t flows = 1;
  uint32_t step = 0;
  uint32_t flow = 0;
  uint32_t vips = 1;
  uint32_t base_sum = 0;  // of the IPv4 header without addresses, in memory order
  bool v6 = false;
  bool syn = false;
  uint16_t bytes = 64;
  rte_mempool* pool = nullptr;
  unsigned bursts = 0;
  uint64_t received = 0;
  uint64_t sent = 0;
  Stamp* stamp = nullptr;
};
// As it is set up. Each thread has a copy of its own.
Generator generator;
std::atomic<unsigned> threads = 0;
thread_local Generator own;

// On a thread's first burst.
void start_thread() {
  const unsigned number = threads.fetch_add(1) % kStampsMax;
  own = generator;
  own.flow = static_cast<uint32_t>(uint64_t{number} * own.flows / kStampsMax);
  if (own.stamp)
    own.stamp = reinterpret_cast<Stamp*>(reinterpret_cast<uint8_t*>(own.stamp) +
                                         size_t{number} * kStampBytes);
}

uint64_t nanoseconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void write_stamp(Generator& g) {
  if (!g.stamp) return;
  Stamp& s = *g.stamp;
  __atomic_store_n(&s.sequence, s.sequence + 1, __ATOMIC_SEQ_CST);
  s.received = g.received;
  s.sent = g.sent;
  s.cpu_ns = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
  s.wall_ns = nanoseconds(CLOCK_MONOTONIC);
  __atomic_store_n(&s.sequence, s.sequence + 1, __ATOMIC_SEQ_CST);
}

template <typename T>
void put(uint8_t* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

void write_packet(const Generator& g, uint32_t flow, uint8_t* at) {
  const uint32_t vip = 1 + static_cast<uint32_t>((uint64_t{flow * 2654435761u} * g.vips) >> 32);
  const uint16_t port = rte_cpu_to_be_16(static_cast<uint16_t>(1024 + (flow & 0x7fff)));
  if (g.v6) {
    std::memcpy(at, g.frame, 74);
    put(at + 34, rte_cpu_to_be_32(flow >> 15));
    put(at + 50, rte_cpu_to_be_32(vip));
    put(at + 54, port);
    return;
  }
  std::memcpy(at, g.frame, 64);
  const uint32_t source = rte_cpu_to_be_32(0x0a000000u + (flow >> 15));
  const uint32_t target = rte_cpu_to_be_32(0xc6120000u + vip);
  uint32_t sum =
      g.base_sum + (source & 0xffff) + (source >> 16) + (target & 0xffff) + (target >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  put(at + 24, static_cast<uint16_t>(~sum));
  put(at + 26, source);
  put(at + 30, target);
  put(at + 34, port);
}

uint16_t receive(void*, rte_mbuf** packets, uint16_t count) {
  Generator& g = own;
  if (!g.pool) start_thread();
  if (rte_pktmbuf_alloc_bulk(g.pool, packets, count) != 0) return 0;
  for (uint16_t i = 0; i < count; ++i) {
    g.flow += g.step;
    if (g.flow >= g.flows) g.flow -= g.flows;
    write_packet(g, g.flow, rte_pktmbuf_mtod(packets[i], uint8_t*));
    packets[i]->data_len = g.bytes;
    packets[i]->pkt_len = g.bytes;
    packets[i]->port = 0;
  }
  g.received += count;
  if (++g.bursts % kStampEvery == 0) write_stamp(g);
  return count;
}

uint16_t transmit(void*, rte_mbuf** packets, uint16_t count) {
  rte_pktmbuf_free_bulk(packets, count);
  own.sent += count;
  return count;
}

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "generator: %s\n", why.c_str());
  std::exit(3);
}

// Golden section of the flows, and coprime to them.
uint32_t step_of(uint32_t flows) {
  if (flows < 3) return flows - 1;
  auto step = static_cast<uint32_t>(flows * 0.6180339887);
  while (std::gcd(step, flows) != 1) ++step;
  return step;
}

void map_stats(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, size_t{kStampsMax} * kStampBytes) != 0)
    give_up("cannot write " + path);
  void* at =
      mmap(nullptr, size_t{kStampsMax} * kStampBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (at == MAP_FAILED) give_up("cannot map " + path);
  generator.stamp = static_cast<Stamp*>(at);
}

void read_settings() {
  const char* text = std::getenv("GUIDEWAY_GENERATOR");
  if (!text) give_up("GUIDEWAY_GENERATOR is not set");
  std::string rest = text;
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    const std::string one = rest.substr(0, comma);
    rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    const size_t equals = one.find('=');
    const std::string key = one.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : one.substr(equals + 1);
    const auto number = static_cast<uint32_t>(std::strtoul(value.c_str(), nullptr, 10));
    if (key == "flows" && number >= 1 && number <= kFlowsMax)
      generator.flows = number;
    else if (key == "vips" && number >= 1 && number < 65536)
      generator.vips = number;
    else if (key == "family" && (number == 4 || number == 6))
      generator.v6 = number == 6;
    else if (key == "syn" && number < 2)
      generator.syn = number == 1;
    else if (key == "stats")
      map_stats(value);
    else
      give_up("cannot use '" + one + "'");
  }
  generator.step = step_of(generator.flows);
}

void write_tcp(uint8_t* at, bool syn) {
  put(at + 2, rte_cpu_to_be_16(80));
  at[12] = 0x50;
  at[13] = syn ? 0x02 : 0x10;
}

void make_template(uint16_t port) {
  Generator& g = generator;
  rte_ether_addr mac{};
  rte_eth_macaddr_get(port, &mac);
  std::memcpy(g.frame, mac.addr_bytes, 6);
  g.frame[6] = 2;
  g.frame[11] = 0x77;
  uint8_t* ip = g.frame + 14;
  if (g.v6) {
    g.bytes = 74;
    put(g.frame + 12, rte_cpu_to_be_16(0x86dd));
    const uint8_t head[] = {0x60, 0, 0, 0, 0, 20, 6, 64};
    const uint8_t client[] = {0x20, 0x01, 0x0d, 0xb8, 0, 1};
    const uint8_t vip[] = {0x20, 0x01, 0x0d, 0xb8, 0, 2};
    std::memcpy(ip, head, sizeof head);
    std::memcpy(ip + 8, client, sizeof client);
    std::memcpy(ip + 24, vip, sizeof vip);
    write_tcp(ip + 40, g.syn);
    return;
  }
  g.bytes = 64;
  put(g.frame + 12, rte_cpu_to_be_16(0x0800));
  const uint8_t head[] = {0x45, 0, 0, 50, 0, 1, 0x40, 0, 64, 6};
  std::memcpy(ip, head, sizeof head);
  g.base_sum = 0;
  for (unsigned i = 0; i < 20; i += 2) {
    uint16_t word = 0;
    std::memcpy(&word, ip + i, sizeof word);
    g.base_sum += word;
  }
  write_tcp(ip + 20, g.syn);
}

template <typename Fn>
Fn* next(const char* name) {
  void* found = dlsym(RTLD_NEXT, name);
  if (!found) give_up(std::string("no ") + name + " to follow");
  return reinterpret_cast<Fn*>(found);
}

}  // namespace

extern "C" {

int rte_eth_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t descriptors, unsigned socket,
                           const rte_eth_rxconf* conf, rte_mempool* pool) {
  if (port == 0 && queue == 0) generator.pool = pool;
  return next<decltype(rte_eth_rx_queue_setup)>("rte_eth_rx_queue_setup")(port, queue, descriptors,
                                                                          socket, conf, pool);
}

int rte_eth_dev_start(uint16_t port) {
  const int error = next<decltype(rte_eth_dev_start)>("rte_eth_dev_start")(port);
  if (error != 0 || port != 0) return error;
  read_settings();
  make_template(port);
  rte_eth_fp_ops[port].rx_pkt_burst = receive;
  rte_eth_fp_ops[port].tx_pkt_burst = transmit;
  return 0;
}
}
