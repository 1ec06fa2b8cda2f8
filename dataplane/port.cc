// SPDX-License-Identifier: Apache-2.0
#include "dataplane/port.h"

#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

namespace guideway {
namespace {

constexpr uint16_t kRxDescriptors = 2048;
constexpr uint16_t kTxDescriptors = 2048;

// A NIC that was just started negotiates; meanwhile the TAP keeps the carrier that it has.
constexpr std::chrono::seconds kLinkGrace{20};

// Asks the kernel about an interface; false if there is no answer.
bool ask(const std::string& interface, unsigned long what, ifreq& request) {
  const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::strncpy(request.ifr_name, interface.c_str(), IFNAMSIZ - 1);
  return fd && ioctl(fd.get(), what, &request) == 0;
}

// The kernel driver behind an interface; empty if it does not say.
std::string driver_of(const std::string& interface) {
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  ifreq request{};
  request.ifr_data = reinterpret_cast<char*>(&info);
  return ask(interface, SIOCETHTOOL, request) ? info.driver : "";
}

// Queue pairs that DPDK's AF_XDP driver can use: the combined channels, or one.
unsigned queues_of(const std::string& interface) {
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  ifreq request{};
  request.ifr_data = reinterpret_cast<char*>(&channels);
  return ask(interface, SIOCETHTOOL, request) ? std::max(1u, channels.combined_count) : 1;
}

// On a shared NIC every queue needs a worker: `edge` has nowhere to send the packets of the others.
Result<void> as_many_queues(const std::string& interface, unsigned workers) {
  const unsigned queues = queues_of(interface);
  if (queues == workers) return {};
  return fail("port " + interface,
              "has " + std::to_string(queues) + " queue pair(s) for " + std::to_string(workers) +
                  " worker(s); each queue needs its worker",
              "ethtool -L " + interface + " combined " + std::to_string(workers) +
                  ", or [dataplane] workers = " + std::to_string(queues));
}

Result<void> enough_queues(const std::string& port, unsigned queues, unsigned workers) {
  if (queues >= workers) return {};
  return fail("port " + port,
              "has " + std::to_string(queues) + " queue pair(s), " + std::to_string(workers) +
                  " workers need one each",
              "set [dataplane] workers = " + std::to_string(queues));
}

// Without preferred busy polling DPDK's AF_XDP driver waits up to a second inside its receive
// call when a zero-copy NIC asks to be woken. veth knows no zero-copy and never asks: there busy
// polling would only add a system call to each empty poll.
int busy_budget_for(const std::string& interface) {
  const std::string driver = driver_of(interface);
  return driver == "veth" || driver == "tun" ? 0 : 64;
}

// The device's name is what stands before the first comma.
std::string device_name(const std::string& devargs) {
  return devargs.substr(0, devargs.find(','));
}

uint64_t rss_types(const rte_eth_dev_info& info) {
  return info.flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
}

}  // namespace

Result<std::unique_ptr<Port>> Port::open(const PortConfig& config, unsigned index, unsigned workers,
                                         rte_mempool* pool, const std::string& edge_object,
                                         Supervisor& supervisor) {
  std::unique_ptr<Port> port(new Port);
  port->index_ = static_cast<uint16_t>(index);
  if (auto ok = port->probe(config, workers, edge_object); !ok) return tl::unexpected(ok.error());
  if (auto ok = port->start(workers, config.mtu, pool); !ok) return tl::unexpected(ok.error());

  if (!config.interface.empty()) {
    port->interface_ = config.interface;
    if (auto ok = port->refresh_mac(); !ok) return tl::unexpected(ok.error());
    auto edge = Edge::find(config.interface);
    if (!edge) return tl::unexpected(edge.error());
    port->edge_ = std::move(*edge);
    return port;
  }
  rte_ether_addr mac{};
  uint16_t mtu = 0;
  rte_eth_macaddr_get(port->id_, &mac);
  rte_eth_dev_get_mtu(port->id_, &mtu);
  Mac bytes;
  std::copy(std::begin(mac.addr_bytes), std::end(mac.addr_bytes), bytes.begin());
  const std::string tap = config.tap.empty() ? "gw" + std::to_string(index) : config.tap;
  auto kernel_path = KernelPath::open(tap, bytes, mtu, pool, supervisor);
  if (!kernel_path) return tl::unexpected(kernel_path.error());
  port->kernel_path_ = std::move(*kernel_path);
  port->interface_ = tap;
  if (auto ok = port->refresh_mac(); !ok) return tl::unexpected(ok.error());
  port->follow_link();
  return port;
}

Result<void> Port::probe(const PortConfig& config, unsigned workers,
                         const std::string& edge_object) {
  std::string name;
  std::string devargs;
  if (!config.interface.empty()) {
    if (if_nametoindex(config.interface.c_str()) == 0)
      return fail("port " + config.interface, "no such interface", "ip link");
    if (auto ok = as_many_queues(config.interface, workers); !ok) return ok;
    if (auto ok = claim(config.interface); !ok) return ok;
    if (auto ok = Edge::clear_stale(config.interface); !ok) return ok;
    name = "net_af_xdp_gw" + std::to_string(index_);
    devargs = name + ",iface=" + config.interface + ",xdp_prog=" + edge_object +
              ",queue_count=" + std::to_string(workers) +
              ",busy_budget=" + std::to_string(busy_budget_for(config.interface));
  } else if (!config.vdev.empty()) {
    name = device_name(config.vdev);
    devargs = config.vdev;
  } else {
    name = config.pci;
    devargs = config.pci;
  }
  // A PCI device on the allow list was probed by rte_eal_init().
  if (rte_eth_dev_get_port_by_name(name.c_str(), &id_) == 0) return {};
  if (const int error = rte_dev_probe(devargs.c_str()); error != 0)
    return fail(
        "port " + name, std::string("DPDK cannot open it: ") + std::strerror(-error),
        config.pci.empty() ? devargs : "guideway doctor looks at driver, IOMMU and DPDK's drivers");
  if (rte_eth_dev_get_port_by_name(name.c_str(), &id_) != 0)
    return fail("port " + name, "is no network device for DPDK", devargs);
  return {};
}

Result<void> Port::start(unsigned workers, unsigned mtu, rte_mempool* pool) {
  char name[RTE_ETH_NAME_MAX_LEN] = "?";
  rte_eth_dev_get_name_by_port(id_, name);
  const std::string field = std::string("port ") + name;
  const auto check = [&](int error, const char* what) -> Result<void> {
    if (error >= 0) return {};
    return fail(field, std::string(what) + ": " + std::strerror(-error));
  };

  rte_eth_dev_info info{};
  if (auto ok = check(rte_eth_dev_info_get(id_, &info), "cannot be examined"); !ok) return ok;
  const unsigned queues = std::min(info.max_rx_queues, info.max_tx_queues);
  if (auto ok = enough_queues(name, queues, workers); !ok) return ok;

  if (mtu > info.max_mtu)
    return fail(field, "carries at most an MTU of " + std::to_string(info.max_mtu),
                "set mtu = " + std::to_string(info.max_mtu) + " or less at this port");

  rte_eth_conf conf{};
  conf.rxmode.mtu = mtu;  // 0: the driver's own
  if (workers > 1 && rss_types(info) != 0) {
    conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    conf.rx_adv_conf.rss_conf.rss_hf = rss_types(info);
  }
  checks_headers_ = (info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM) != 0;
  if (checks_headers_) conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
  const auto count = static_cast<uint16_t>(workers);
  if (auto ok = check(rte_eth_dev_configure(id_, count, count, &conf), "cannot be configured"); !ok)
    return ok;
  uint16_t rx = kRxDescriptors;
  uint16_t tx = kTxDescriptors;
  rte_eth_dev_adjust_nb_rx_tx_desc(id_, &rx, &tx);
  const int socket = rte_eth_dev_socket_id(id_);
  for (uint16_t q = 0; q < count; ++q) {
    if (auto ok =
            check(rte_eth_rx_queue_setup(id_, q, rx, static_cast<unsigned>(socket), nullptr, pool),
                  "receive queue");
        !ok)
      return ok;
    if (auto ok = check(rte_eth_tx_queue_setup(id_, q, tx, static_cast<unsigned>(socket), nullptr),
                        "transmit queue");
        !ok)
      return ok;
  }
  if (auto ok = check(rte_eth_dev_start(id_), "cannot be started"); !ok) return ok;
  // Neighbour discovery comes by multicast; drivers without the notion have it on anyway.
  rte_eth_allmulticast_enable(id_);
  return {};
}

// One dataplane for each interface, whatever its run directory: another would take the interface's
// program for the left-over of a dead one. The lock is named by what does not change with names.
Result<void> Port::claim(const std::string& interface) {
  const std::string directory = "/run/guideway/ports";
  struct stat space {};
  std::error_code ec;
  std::filesystem::create_directories(directory, ec);
  if (ec || stat("/proc/self/ns/net", &space) != 0)
    return fail(directory, "cannot be made: " + ec.message());
  const std::string path = directory + "/" + std::to_string(space.st_ino) + "-" +
                           std::to_string(if_nametoindex(interface.c_str()));
  claim_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!claim_) return fail(path, std::string("cannot be opened: ") + std::strerror(errno));
  if (flock(claim_.get(), LOCK_EX | LOCK_NB) != 0)
    return fail("port " + interface, "another guideway-dataplane uses it");
  return {};
}

Result<void> Port::refresh_mac() {
  ifreq request{};
  if (!ask(interface_, SIOCGIFHWADDR, request))
    return fail("port " + interface_, std::string("is gone: ") + std::strerror(errno));
  uint64_t word = 0;
  std::memcpy(&word, request.ifr_hwaddr.sa_data, sizeof(Mac));
  mac_.store(word, std::memory_order_relaxed);
  return {};
}

// A TAP without carrier is to BIRD, FRR and systemd-networkd what a NIC without link is.
void Port::follow_link() {
  if (!kernel_path_) return;
  rte_eth_link link{};
  if (rte_eth_link_get_nowait(id_, &link) != 0) return;
  const bool up = link.link_status == RTE_ETH_LINK_UP;
  if (link_ == up) return;
  if (!link_ && !up && std::chrono::steady_clock::now() - started_ < kLinkGrace) return;
  spdlog::info("port {}: link {}", interface_, up ? "up" : "down");
  kernel_path_->set_carrier(up);
  link_ = up;
}

Result<void> Port::check() {
  if (kernel_path_) {
    if (auto ok = kernel_path_->keep_mac(); !ok) return ok;
  }
  if (auto ok = refresh_mac(); !ok) return ok;
  follow_link();
  if (!edge_) return {};
  const auto attached = edge_->attached();
  if (attached && *attached) return {};
  return fail("port " + interface_,
              attached ? "somebody took the edge program off it" : attached.error().text());
}

Port::~Port() {
  kernel_path_.reset();
  if (edge_) (void)edge_->detach();
  if (id_ == UINT16_MAX) return;
  rte_eth_dev_stop(id_);
  rte_eth_dev_close(id_);
}

Result<void> Port::set_vips(const std::set<Address>& vips) {
  if (!edge_) return {};
  const std::vector<Address> wanted(vips.begin(), vips.end());
  return edge_->set_vips(wanted);
}

}  // namespace guideway
