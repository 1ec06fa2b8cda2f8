// SPDX-License-Identifier: Apache-2.0
// count_sockets() against this kernel, in a network namespace with VIPs of both families, compared
// with a naive count of the connections that the test has made.
#include "controlplane/cli/agent_sockets.h"

#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <list>
#include <random>

#include "controlplane/unique_fd.h"
#include "tests/bpf/private_network.h"

namespace guideway::cli {
namespace {

constexpr uint64_t kSeed = 0x1234567890abcdef;

struct SocketName {
  explicit SocketName(const Address& address = {}, uint16_t port = 0) {
    if (address.is_v4()) {
      auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
      v4.sin_family = AF_INET;
      v4.sin_port = htons(port);
      std::memcpy(&v4.sin_addr, address.v4(), 4);
      length = sizeof v4;
    } else {
      auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
      v6.sin6_family = AF_INET6;
      v6.sin6_port = htons(port);
      std::memcpy(&v6.sin6_addr, address.v6(), 16);
      length = sizeof v6;
    }
  }
  int family() const { return storage.ss_family; }
  sockaddr* any() { return reinterpret_cast<sockaddr*>(&storage); }
  uint16_t port() const { return ntohs(reinterpret_cast<const sockaddr_in&>(storage).sin_port); }

  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
};

Address address(const char* text) {
  return *Address::parse(text);
}

UniqueFd tcp_socket(const SocketName& name) {
  UniqueFd fd(socket(name.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd.get(), SOL_IP, IP_FREEBIND, &on, sizeof on);
  return fd;
}

UniqueFd listen_at(const Address& where, uint16_t port) {
  SocketName name(where, port);
  UniqueFd fd = tcp_socket(name);
  EXPECT_EQ(bind(fd.get(), name.any(), name.length), 0) << strerror(errno);
  EXPECT_EQ(listen(fd.get(), 1024), 0);
  return fd;
}

struct Pair {
  FlowKey flow;
  UniqueFd client, server;
};

Pair connect_pair(const UniqueFd& listener, const Address& client, const Address& vip,
                  uint16_t port) {
  Pair pair;
  SocketName from(client), to(vip, port);
  pair.client = tcp_socket(from);
  EXPECT_EQ(bind(pair.client.get(), from.any(), from.length), 0) << strerror(errno);
  EXPECT_EQ(connect(pair.client.get(), to.any(), to.length), 0) << strerror(errno);
  pair.server.reset(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_TRUE(pair.server);
  EXPECT_EQ(getsockname(pair.client.get(), from.any(), &from.length), 0);
  pair.flow = {.client = client,
               .vip = vip,
               .client_port = be16(from.port()),
               .vip_port = be16(port),
               .protocol = IPPROTO_TCP};
  return pair;
}

uint64_t naive(const AgentRequest& request, const std::vector<FlowKey>& flows) {
  uint64_t count = 0;
  for (const FlowKey& flow : flows) {
    bool served = false;
    for (const ServiceKey& service : request.services)
      served = served || (service.vip == flow.vip &&
                          (service.port == 0 || service.port == flow.vip_port.host()));
    const uint64_t hash = flow_hash(flow, request.flow_seed) >> 32;
    bool inside = false;
    for (const HashRange& range : request.ranges)
      inside = inside || (range.first <= hash && hash <= range.last);
    count += served && inside ? 1 : 0;
  }
  return count;
}

AgentRequest all_of(std::initializer_list<const char*> services) {
  AgentRequest request;
  request.flow_seed = kSeed;
  for (const char* service : services) request.services.push_back(*ServiceKey::parse(service));
  request.ranges = {{0, 0xffffffff}};
  return request;
}

uint64_t counted(const AgentRequest& request) {
  const Result<uint64_t> count = count_sockets(request);
  EXPECT_TRUE(count) << count.error().text();
  return count.value_or(~uint64_t{0});
}

class AgentSockets : public PrivateNetwork {
 protected:
  void SetUp() override {
    PrivateNetwork::SetUp();
    if (IsSkipped()) return;
    for (const char* vip : {"203.0.113.10/32", "203.0.113.11/32", "2001:db8::10/128"})
      shell("ip addr add " + std::string(vip) + " dev lo");
    shell("ip route add local 198.51.100.0/24 dev lo");
    shell("ip -6 route add local 2001:db8:1::/64 dev lo");
    rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    both_ = listen_at(address("::"), 443);
    v4_ = listen_at(address("203.0.113.11"), 80);
  }

  UniqueFd both_;  // IPv4 connections here are sockets with mapped addresses
  UniqueFd v4_;
};

TEST_F(AgentSockets, AThousandConnectionsAgainstANaiveCount) {
  std::vector<Pair> pairs;
  for (int i = 0; i < 400; ++i)
    pairs.push_back(connect_pair(both_, address("198.51.100.7"), address("203.0.113.10"), 443));
  for (int i = 0; i < 300; ++i)
    pairs.push_back(connect_pair(v4_, address("198.51.100.8"), address("203.0.113.11"), 80));
  for (int i = 0; i < 300; ++i)
    pairs.push_back(connect_pair(both_, address("2001:db8:1::7"), address("2001:db8::10"), 443));
  std::vector<FlowKey> flows;
  for (const Pair& pair : pairs) flows.push_back(pair.flow);

  const char* const services[] = {
      "203.0.113.10:443/tcp", "203.0.113.11:80/tcp", "[2001:db8::10]:443/tcp",
      "203.0.113.10/tcp",     "203.0.113.11/tcp",    "203.0.113.11:443/tcp",
      "203.0.113.10:80/tcp",  "203.0.113.11:80/udp", "198.51.100.7/tcp"};
  EXPECT_EQ(counted(all_of({services[0]})), 400u) << "IPv4 mapped";
  EXPECT_EQ(counted(all_of({services[1]})), 300u) << "IPv4";
  EXPECT_EQ(counted(all_of({services[2]})), 300u) << "IPv6";
  EXPECT_EQ(counted(all_of({services[3], services[4], services[2]})), 1000u);
  EXPECT_EQ(counted(all_of({services[5], services[6]})), 0u) << "another port";
  EXPECT_EQ(counted(all_of({services[0], services[1], services[2], services[5], services[6]})),
            1000u)
      << "a port at a time";
  EXPECT_EQ(counted(all_of({services[0], services[1], "203.0.113.10:1/tcp", "203.0.113.10:2/tcp",
                            "203.0.113.10:3/tcp"})),
            700u)
      << "many ports: all at once";
  EXPECT_EQ(counted(all_of({services[8]})), 400u) << "the client's end, were it a service";
  AgentRequest udp = all_of({services[7]});
  EXPECT_EQ(counted(udp), 0u);

  std::mt19937 random(4711);
  uint64_t in_all = 0;
  for (int round = 0; round < 200; ++round) {
    AgentRequest request;
    request.flow_seed = (uint64_t{random()} << 32) | random();
    for (const char* service : {services[0], services[1], services[2], services[3]})
      if (random() % 2 == 0) request.services.push_back(*ServiceKey::parse(service));
    // Overlapping, adjacent, of one hash, and at both ends.
    for (uint32_t i = random() % 8; i > 0; --i) {
      const uint32_t first = random() % 4 == 0 ? 0 : static_cast<uint32_t>(random());
      const uint32_t length = static_cast<uint32_t>(random()) >> (random() % 32);
      request.ranges.push_back({first, first > ~length ? 0xffffffff : first + length});
    }
    if (random() % 2 == 0) {
      const auto hash =
          static_cast<uint32_t>(flow_hash(flows[random() % flows.size()], request.flow_seed) >> 32);
      request.ranges.push_back({hash, hash});
    }
    const uint64_t want = naive(request, flows);
    in_all += want;
    ASSERT_EQ(counted(request), want) << round;
  }
  EXPECT_GT(in_all, 1000u);
}

TEST_F(AgentSockets, EachStateButListenCloseAndTimeWait) {
  const AgentRequest request = all_of({"203.0.113.10:443/tcp", "203.0.113.11:80/tcp"});
  const auto make = [&] {
    return connect_pair(both_, address("198.51.100.7"), address("203.0.113.10"), 443);
  };
  EXPECT_EQ(counted(request), 0u) << "listening";
  UniqueFd closed = tcp_socket(SocketName(address("203.0.113.10")));
  SocketName bound(address("203.0.113.10"), 443);
  (void)bind(closed.get(), bound.any(), bound.length);
  EXPECT_EQ(counted(request), 0u) << "bound, not connected";

  Pair close_wait = make();
  shutdown(close_wait.client.get(), SHUT_WR);
  EXPECT_EQ(counted(request), 1u) << "CLOSE_WAIT";
  Pair fin_wait = make();
  shutdown(fin_wait.server.get(), SHUT_WR);
  EXPECT_EQ(counted(request), 2u) << "FIN_WAIT2";
  Pair orphan = make();
  orphan.server.reset();
  EXPECT_EQ(counted(request), 3u) << "FIN_WAIT2 that nobody has open, kept as in TIME_WAIT";
  // In the listener's queue: nobody has accepted it.
  SocketName to(address("203.0.113.11"), 80);
  UniqueFd queued = tcp_socket(to);
  ASSERT_EQ(connect(queued.get(), to.any(), to.length), 0);
  EXPECT_EQ(counted(request), 4u) << "not accepted";

  fin_wait.client.reset();
  fin_wait.server.reset();
  orphan.client.reset();
  EXPECT_EQ(counted(request), 2u) << "TIME_WAIT";
  close_wait.server.reset();
  EXPECT_EQ(counted(request), 1u);
}

// ---------------------------------------------------------------- a connection request

uint16_t checksum(const std::vector<uint8_t>& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i + 1 < bytes.size(); i += 2)
    sum += static_cast<uint32_t>(bytes[i] << 8 | bytes[i + 1]);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

void send_syn(const FlowKey& flow) {
  tcphdr tcp{};
  tcp.source = htons(flow.client_port.host());
  tcp.dest = htons(flow.vip_port.host());
  tcp.doff = 5;
  tcp.syn = 1;
  tcp.window = htons(1000);
  std::vector<uint8_t> pseudo(flow.client.v4(), flow.client.v4() + 4);
  pseudo.insert(pseudo.end(), flow.vip.v4(), flow.vip.v4() + 4);
  pseudo.insert(pseudo.end(), {0, IPPROTO_TCP, 0, sizeof tcp});
  const auto* raw = reinterpret_cast<const uint8_t*>(&tcp);
  pseudo.insert(pseudo.end(), raw, raw + sizeof tcp);
  tcp.check = htons(checksum(pseudo));

  iphdr ip{};
  ip.version = 4;
  ip.ihl = 5;
  ip.ttl = 64;
  ip.protocol = IPPROTO_TCP;
  std::memcpy(&ip.saddr, flow.client.v4(), 4);
  std::memcpy(&ip.daddr, flow.vip.v4(), 4);
  std::vector<uint8_t> packet(sizeof ip + sizeof tcp);
  std::memcpy(packet.data(), &ip, sizeof ip);
  std::memcpy(packet.data() + sizeof ip, &tcp, sizeof tcp);
  const UniqueFd fd(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  SocketName to(flow.vip);
  EXPECT_EQ(sendto(fd.get(), packet.data(), packet.size(), 0, to.any(), to.length),
            static_cast<ssize_t>(packet.size()))
      << strerror(errno);
}

TEST_F(AgentSockets, ConnectionRequestsCount) {
  // The SYN-ACK goes where nobody answers it.
  add_veth("gw0", "gw1");
  shell("ip link set gw0 arp off && ip route add 192.0.2.0/24 dev gw0");
  for (const auto& [vip, port] : {std::pair("203.0.113.10", 443), std::pair("203.0.113.11", 80)}) {
    const FlowKey flow{.client = address("192.0.2.77"),
                       .vip = address(vip),
                       .client_port = be16(5555),
                       .vip_port = be16(static_cast<uint16_t>(port)),
                       .protocol = IPPROTO_TCP};
    AgentRequest request = all_of({"203.0.113.10/tcp", "203.0.113.11/tcp"});
    const auto hash = static_cast<uint32_t>(flow_hash(flow, kSeed) >> 32);
    request.ranges = {{hash, hash}};
    ASSERT_EQ(counted(request), 0u);
    send_syn(flow);
    EXPECT_EQ(counted(request), 1u) << vip;
  }
}

// ---------------------------------------------------------------- many

// The peer of the i-th connection to 203.0.113.11:81.
FlowKey flow_at(size_t i) {
  const uint8_t client[4] = {198, 51, 100, static_cast<uint8_t>(i % 250)};
  return {.client = Address::from_v4(client),
          .vip = address("203.0.113.11"),
          .client_port = be16(static_cast<uint16_t>(1024 + i / 250)),
          .vip_port = be16(81),
          .protocol = IPPROTO_TCP};
}

// One that is connected without a peer: in repair mode, which is CRIU's.
UniqueFd repaired(const FlowKey& flow) {
  SocketName vip(flow.vip, flow.vip_port.host()), client(flow.client, flow.client_port.host());
  UniqueFd fd = tcp_socket(vip);
  const int on = 1;
  const bool ok = setsockopt(fd.get(), SOL_TCP, TCP_REPAIR, &on, sizeof on) == 0 &&
                  bind(fd.get(), vip.any(), vip.length) == 0 &&
                  connect(fd.get(), client.any(), client.length) == 0;
  return ok ? std::move(fd) : UniqueFd();
}

// A process that holds connections: one may not have so many descriptors.
class Holder {
 public:
  Holder(size_t first, size_t last) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    child_ = fork();
    if (child_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      std::vector<UniqueFd> sockets;
      for (size_t i = first; i < last; ++i)
        if (!sockets.emplace_back(repaired(flow_at(i)))) _exit(1);
      (void)!write(ends[1], "x", 1);
      while (true) pause();
    }
    close(ends[1]);
    char c;
    EXPECT_EQ(read(ends[0], &c, 1), 1) << "connections could not be made";
    close(ends[0]);
  }
  ~Holder() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

 private:
  pid_t child_;
};

// GUIDEWAY_AGENT_SOCKETS=100000 for a measurement that means something.
TEST_F(AgentSockets, ManyAreCountedQuickly) {
  const char* wanted = std::getenv("GUIDEWAY_AGENT_SOCKETS");
  const size_t many = wanted == nullptr ? 5000 : std::strtoul(wanted, nullptr, 10);
  constexpr size_t kEach = 10'000;
  std::list<Holder> holders;
  for (size_t i = 0; i < many; i += kEach) holders.emplace_back(i, std::min(many, i + kEach));
  const auto time = [&](const char* what, const AgentRequest& request, uint64_t want) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(counted(request), want) << what;
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
    std::cout << what << ": " << took.count() / static_cast<double>(many) << " ns per socket\n";
  };
  AgentRequest request = all_of({"203.0.113.11:81/tcp", "203.0.113.10:443/tcp"});
  time("all", request, many);
  request.ranges.clear();
  for (uint32_t i = 0; i < kAgentRangesMax; ++i)
    request.ranges.push_back({i * 178000u, i * 178000u + 89000u});
  uint64_t want = 0;
  for (size_t i = 0; i < many; ++i) {
    const uint64_t hash = flow_hash(flow_at(i), kSeed) >> 32;
    want += hash / 178000 < kAgentRangesMax && hash % 178000 <= 89000 ? 1 : 0;
  }
  time("in half of the hashes", request, want);
  time("services of another port", all_of({"203.0.113.11:82/tcp"}), 0);
  time("services of other VIPs", all_of({"203.0.113.10:81/tcp"}), 0);
}

}  // namespace
}  // namespace guideway::cli
