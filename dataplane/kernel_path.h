// SPDX-License-Identifier: Apache-2.0
// What is not VIP traffic on a port that DPDK owns: to the kernel and back, through a TAP that
// stands for the NIC there. The TAP is persistent, has the NIC's MAC, MTU and carrier, and outlives
// this process, so that addresses, routes and sessions stay. A thread of its own does the system
// calls; workers meet it at two rings.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "controlplane/result.h"
#include "controlplane/unique_fd.h"
#include "dataplane/headers.h"
#include "dataplane/supervisor.h"

struct rte_mbuf;
struct rte_mempool;
struct rte_ring;

namespace guideway {

class KernelPath {
 public:
  // Opens or makes the TAP `name`, sets MAC and MTU, brings it up, starts the thread. While nobody
  // holds a TAP open it has no carrier, and who watches carriers takes addresses and sessions off
  // it: so the supervisor is asked for the open TAP of a run before, and given it for the next.
  static Result<std::unique_ptr<KernelPath>> open(const std::string& name, const Mac& mac,
                                                  uint16_t mtu, rte_mempool* pool,
                                                  Supervisor& supervisor);
  ~KernelPath();  // the TAP stays
  KernelPath(const KernelPath&) = delete;
  KernelPath& operator=(const KernelPath&) = delete;

  const std::string& interface() const { return name_; }

  void set_carrier(bool up);  // as the NIC's link
  // Sets the NIC's MAC again if somebody has set another one: the NIC takes no frame for that. udev
  // does, to TAPs that no .link file of systemd's names, and may do so after open().
  Result<void> keep_mac();

  // Worker side; neither blocks. to_kernel: takes as many as there is room for, from the front, and
  // returns how many; the others stay the caller's. from_kernel: fills `packets`, now the caller's.
  unsigned to_kernel(rte_mbuf** packets, unsigned count);
  unsigned from_kernel(rte_mbuf** packets, unsigned count);

 private:
  KernelPath() = default;
  Result<void> open_tap(Supervisor& supervisor);
  void run();
  bool write_some();
  bool read_some();
  void note_write(bool ok);

  std::string name_;
  Mac mac_{};
  UniqueFd tap_;
  rte_mempool* pool_ = nullptr;
  rte_ring* to_kernel_ = nullptr;    // many workers in, this thread out
  rte_ring* from_kernel_ = nullptr;  // this thread in, one worker out
  uint64_t refused_ = 0;             // frames since the kernel took one last
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace guideway
