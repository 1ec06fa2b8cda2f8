// SPDX-License-Identifier: Apache-2.0
#include "dataplane/kernel_path.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace guideway {
namespace {

constexpr unsigned kRingPackets = 1024;
constexpr unsigned kBatch = 32;

ifreq request_for(const std::string& name) {
  ifreq request{};
  std::strncpy(request.ifr_name, name.c_str(), IFNAMSIZ - 1);
  return request;
}

Result<void> failed(const std::string& name, const char* what) {
  return fail("TAP " + name, std::string(what) + ": " + std::strerror(errno));
}

// Neighbours that have seen another MAC address hear of the right one at once (gratuitous ARP, an
// unsolicited neighbour advertisement). Without these settings they ask after half a minute.
void announce_mac_changes(const std::string& name) {
  for (const std::string& path : {"/proc/sys/net/ipv4/conf/" + name + "/arp_notify",
                                  "/proc/sys/net/ipv6/conf/" + name + "/ndisc_notify"}) {
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));  // without IPv6 there is none
    if (file && write(file.get(), "1", 1) != 1)
      spdlog::debug("{} cannot be set: {}", path, std::strerror(errno));
  }
}

UniqueFd control_socket() {
  return UniqueFd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

Result<void> configure(const std::string& name, uint16_t mtu) {
  const UniqueFd control = control_socket();
  if (!control) return failed(name, "no socket");
  ifreq request = request_for(name);
  request.ifr_mtu = mtu;
  if (ioctl(control.get(), SIOCSIFMTU, &request) != 0) return failed(name, "MTU cannot be set");

  request = request_for(name);
  if (ioctl(control.get(), SIOCGIFFLAGS, &request) != 0) return failed(name, "flags unreadable");
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (ioctl(control.get(), SIOCSIFFLAGS, &request) != 0)
    return failed(name, "cannot be brought up");
  return {};
}

}  // namespace

Result<std::unique_ptr<KernelPath>> KernelPath::open(const std::string& name, const Mac& mac,
                                                     uint16_t mtu, rte_mempool* pool,
                                                     Supervisor& supervisor) {
  std::unique_ptr<KernelPath> path(new KernelPath);
  path->name_ = name;
  path->mac_ = mac;
  path->pool_ = pool;
  if (auto ok = path->open_tap(supervisor); !ok) return tl::unexpected(ok.error());
  // A longer frame from the kernel would be cut on its way to the wire.
  mtu = std::min<uint16_t>(mtu, RTE_MBUF_DEFAULT_DATAROOM - sizeof(EthernetHeader));
  announce_mac_changes(name);
  if (auto ok = path->keep_mac(); !ok) return tl::unexpected(ok.error());
  if (auto ok = configure(name, mtu); !ok) return tl::unexpected(ok.error());

  path->to_kernel_ = rte_ring_create((name + "-to").c_str(), kRingPackets, SOCKET_ID_ANY,
                                     RING_F_MP_RTS_ENQ | RING_F_SC_DEQ);
  path->from_kernel_ = rte_ring_create((name + "-from").c_str(), kRingPackets, SOCKET_ID_ANY,
                                       RING_F_SP_ENQ | RING_F_SC_DEQ);
  if (!path->to_kernel_ || !path->from_kernel_)
    return fail("TAP " + name, std::string("no memory for rings: ") + rte_strerror(rte_errno),
                "raise [dataplane] memory_mb");
  path->thread_ = std::thread([raw = path.get()] { raw->run(); });
  return path;
}

Result<void> KernelPath::open_tap(Supervisor& supervisor) {
  tap_ = supervisor.kept("tap-" + name_);
  ifreq request{};
  if (tap_ && ioctl(tap_.get(), TUNGETIFF, &request) == 0 && name_ == request.ifr_name) return {};
  // Its TAP was deleted or renamed meanwhile.
  if (tap_) supervisor.drop("tap-" + name_);
  tap_ = UniqueFd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!tap_)
    return fail("/dev/net/tun", std::string("cannot be opened: ") + std::strerror(errno),
                "modprobe tun");
  request = request_for(name_);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (ioctl(tap_.get(), TUNSETIFF, &request) != 0 || ioctl(tap_.get(), TUNSETPERSIST, 1) != 0)
    return failed(name_, "cannot be made");
  supervisor.keep("tap-" + name_, tap_.get());
  return {};
}

Result<void> KernelPath::keep_mac() {
  const UniqueFd control = control_socket();
  ifreq request = request_for(name_);
  if (!control || ioctl(control.get(), SIOCGIFHWADDR, &request) != 0)
    return failed(name_, "is gone");
  Mac present;
  std::memcpy(present.data(), request.ifr_hwaddr.sa_data, present.size());
  if (present == mac_) return {};
  std::memcpy(request.ifr_hwaddr.sa_data, mac_.data(), mac_.size());
  if (ioctl(control.get(), SIOCSIFHWADDR, &request) != 0)
    return failed(name_, "the NIC's MAC address cannot be set");
  if (thread_.joinable())
    spdlog::warn("TAP {}: somebody had set another MAC address; it has the NIC's again", name_);
  return {};
}

void KernelPath::set_carrier(bool up) {
  const int carrier = up ? 1 : 0;
  if (ioctl(tap_.get(), TUNSETCARRIER, &carrier) != 0)
    spdlog::warn("TAP {}: its carrier cannot be set: {}", name_, std::strerror(errno));
}

KernelPath::~KernelPath() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
  rte_ring_free(to_kernel_);
  rte_ring_free(from_kernel_);
}

unsigned KernelPath::to_kernel(rte_mbuf** packets, unsigned count) {
  return rte_ring_enqueue_burst(to_kernel_, reinterpret_cast<void**>(packets), count, nullptr);
}

unsigned KernelPath::from_kernel(rte_mbuf** packets, unsigned count) {
  return rte_ring_dequeue_burst(from_kernel_, reinterpret_cast<void**>(packets), count, nullptr);
}

void KernelPath::run() {
  pthread_setname_np(pthread_self(), "gw-kernel-path");
  while (!stop_) {
    const bool wrote = write_some();
    const bool read = read_some();
    if (wrote || read) continue;
    // Workers do not wake this thread (that would be a system call on their side): it looks at
    // the ring often enough for ARP and BGP. A deleted TAP is always ready, and never readable.
    pollfd wait{tap_.get(), POLLIN, 0};
    const timespec quarter_ms{0, 250'000};
    ppoll(&wait, 1, &quarter_ms, nullptr);
    if (wait.revents & (POLLERR | POLLHUP | POLLNVAL)) {
      clock_nanosleep(CLOCK_MONOTONIC, 0, &quarter_ms, nullptr);
    }
  }
}

// Says once that the kernel takes no frames (TAP down or deleted), and once that it does again.
void KernelPath::note_write(bool ok) {
  if (!ok && refused_++ == 0)
    spdlog::warn("TAP {}: the kernel takes no frames: {}", name_, std::strerror(errno));
  if (ok && refused_ > 0) {
    spdlog::warn("TAP {}: the kernel takes frames again; {} were lost", name_, refused_);
    refused_ = 0;
  }
}

bool KernelPath::write_some() {
  rte_mbuf* packets[kBatch];
  const unsigned n =
      rte_ring_dequeue_burst(to_kernel_, reinterpret_cast<void**>(packets), kBatch, nullptr);
  for (unsigned i = 0; i < n; ++i) {
    note_write(write(tap_.get(), rte_pktmbuf_mtod(packets[i], void*),
                     rte_pktmbuf_data_len(packets[i])) >= 0);
    rte_pktmbuf_free(packets[i]);
  }
  return n > 0;
}

// No more than the ring has room for: the rest waits in the TAP, whose queue the kernel counts.
bool KernelPath::read_some() {
  rte_mbuf* packets[kBatch];
  const unsigned room = std::min(kBatch, rte_ring_free_count(from_kernel_));
  unsigned n = 0;
  while (n < room) {
    rte_mbuf* packet = rte_pktmbuf_alloc(pool_);
    if (!packet) break;
    const ssize_t bytes =
        read(tap_.get(), rte_pktmbuf_mtod(packet, void*), rte_pktmbuf_tailroom(packet));
    if (bytes <= 0) {
      rte_pktmbuf_free(packet);
      break;
    }
    packet->data_len = static_cast<uint16_t>(bytes);
    packet->pkt_len = static_cast<uint32_t>(bytes);
    packets[n++] = packet;
  }
  if (n > 0) rte_ring_enqueue_bulk(from_kernel_, reinterpret_cast<void**>(packets), n, nullptr);
  return n > 0;
}

}  // namespace guideway
