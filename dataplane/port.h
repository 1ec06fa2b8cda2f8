// SPDX-License-Identifier: Apache-2.0
// A port of the dataplane, of one of three kinds (see PortConfig). Above rx and tx they are alike:
// a DPDK port with one queue pair for each worker.
//
//   interface  AF_XDP with the `edge` program; the kernel keeps the NIC and all but VIP packets
//   pci, vdev  DPDK owns the NIC; a TAP is its stand-in in the kernel (see kernel_path.h)
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "bpf/edge.h"
#include "controlplane/result.h"
#include "controlplane/unique_fd.h"
#include "dataplane/forward.h"
#include "dataplane/kernel_path.h"
#include "dataplane/node_config.h"

struct rte_mempool;

namespace guideway {

class Port {
 public:
  // After rte_eal_init(). `edge_object`: path of edge.bpf.o. The port is started on return.
  static Result<std::unique_ptr<Port>> open(const PortConfig& config, unsigned index,
                                            unsigned workers, rte_mempool* pool,
                                            const std::string& edge_object, Supervisor& supervisor);
  ~Port();  // stops and closes; detaches `edge`; the TAP stays
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  uint16_t id() const { return id_; }        // DPDK's port number
  uint16_t index() const { return index_; }  // the image's
  Ingress ingress() const {
    const uint64_t word = mac_.load(std::memory_order_relaxed);
    Ingress ingress{.kind = kernel_path_ ? PortKind::owned : PortKind::shared, .mac = {}};
    std::memcpy(ingress.mac.data(), &word, ingress.mac.size());
    return ingress;
  }
  KernelPath* kernel() const { return kernel_path_.get(); }
  // The NIC adds up IPv4 headers, and says of each packet what came out (RTE_MBUF_F_RX_IP_CKSUM_*).
  bool checks_headers() const { return checks_headers_; }
  const std::string& interface() const { return interface_; }  // the kernel's name for it

  // Main thread, now and then: takes over a new MAC of the kernel's interface, and hands the NIC's
  // link on to the TAP. Fails when the port is lost: the interface gone, or `edge` taken off it.
  Result<void> check();

  // Shared ports: steers exactly these VIPs to the dataplane. Owned ports get everything anyway.
  Result<void> set_vips(const std::set<Address>& vips);

 private:
  Port() = default;
  Result<void> claim(const std::string& interface);
  Result<void> refresh_mac();
  void follow_link();
  Result<void> probe(const PortConfig& config, unsigned workers, const std::string& edge_object);
  Result<void> start(unsigned workers, unsigned mtu, rte_mempool* pool);

  uint16_t id_ = UINT16_MAX;
  uint16_t index_ = 0;
  bool checks_headers_ = false;
  std::optional<bool> link_;  // as last handed on
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  std::string interface_;
  UniqueFd claim_;
  std::atomic<uint64_t> mac_{0};  // six bytes and two of zero
  std::optional<Edge> edge_;
  std::unique_ptr<KernelPath> kernel_path_;
};

}  // namespace guideway
