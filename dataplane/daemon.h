// SPDX-License-Identifier: Apache-2.0
// guideway-dataplane: ports, workers, image store and control server, tied together. The main
// thread waits for the control plane and for signals; it never touches a packet.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "controlplane/result.h"
#include "controlplane/unique_fd.h"
#include "dataplane/address.h"
#include "dataplane/control_server.h"
#include "dataplane/copy_timer.h"
#include "dataplane/counters_region.h"
#include "dataplane/image_store.h"
#include "dataplane/node_config.h"
#include "dataplane/port.h"
#include "dataplane/pulse.h"
#include "dataplane/supervisor.h"
#include "dataplane/worker.h"

namespace guideway {

class DataplaneDaemon {
 public:
  DataplaneDaemon(NodeConfig config, std::string bpf_dir);
  ~DataplaneDaemon();

  // Everything up to forwarding: lock, EAL, ports, counters, the saved image, workers, socket.
  Result<void> start();

  // Until SIGTERM or SIGINT; SIGUSR1 comes before them when routes are to be withdrawn first: see
  // take_leave(). The caller has blocked the three in all threads. An error: a port is lost for
  // good, and only a new process can open it again.
  Result<void> serve();

 private:
  Result<void> lock_run_dir();
  Result<void> start_eal();
  Result<void> open_ports();
  Result<void> make_workers();
  void start_threads();
  Result<void> start_workers();
  Result<void> start_server();
  void swap(const Image* image);
  void adopted();
  void steer_vips();
  void save_copy();
  Result<void> keep_house();
  void tell_supervisor();
  Result<void> take_leave(int signal_fd);
  void stop_workers();

  NodeConfig config_;
  std::string bpf_dir_;
  UniqueFd lock_;
  bool eal_ = false;
  bool steered_ = false;       // `edge` has vips_
  std::vector<Address> vips_;  // of the running image
  CopyTimer copy_;
  rte_mempool* pool_ = nullptr;
  std::vector<std::unique_ptr<Port>> ports_;
  std::unique_ptr<CountersRegion> counters_;
  std::unique_ptr<rte_rcu_qsbr, void (*)(void*)> qsbr_;
  std::unique_ptr<ImageStore> store_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::thread> threads_;
  std::unique_ptr<ControlServer> server_;
  Supervisor supervisor_;
  Pulse pulse_;
};

}  // namespace guideway
