// SPDX-License-Identifier: Apache-2.0
#include "dataplane/daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <sched.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>

#include "dataplane/encap.h"
#include "dataplane/packet_pool.h"

namespace guideway {
namespace {

// Per worker and port: the receive and transmit rings twice over (AF_XDP's fill and completion
// rings hold buffers as well), and some on the way.
constexpr unsigned kBuffersPerQueue = 3 * 4096;

// How often the main thread looks at what may change without a word.
constexpr int64_t kHousekeepingMs = 500;

// Farewell: how long the signal to stop may take to come, and how long forwarding goes on after it,
// for the routers to hear of it.
constexpr int kFarewellMs = 5000;
constexpr int kFarewellTailMs = 500;

// Of workers and main thread: packets and failures first, but no more than that; a machine without
// time for anything else could not be helped.
constexpr int kNice = -10;

// How long the main thread spins for the workers' quiescent states, which polling workers pass
// every few microseconds; then it sleeps, for a worker may need this very CPU to get there.
constexpr unsigned kSpins = 1000;
constexpr long kSwapSleepNs = 20'000;

static_assert(RTE_PKTMBUF_HEADROOM >= kEncapHeadroom, "an outer header fits every packet");

// "0,1,4": what this process may run on. DPDK refuses to start with a core that is not there.
std::string usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  std::string list;
  for (unsigned core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &set)) continue;
    if (!list.empty()) list += ',';
    list += std::to_string(core);
  }
  return list;
}

std::vector<std::string> eal_arguments(const NodeConfig& config) {
  // One lcore that floats over all cores; workers are our own threads.
  std::vector<std::string> arguments = {"guideway-dataplane",
                                        "--lcores=0@(" + usable_cores() + ")",
                                        "--no-telemetry",
                                        "--log-level=*:warning",
                                        "-m",
                                        std::to_string(config.memory_mb)};
  // Nothing is left on disk or shared, so several dataplanes can run on one machine; DPDK spells
  // that differently without hugepages.
  if (config.hugepages) {
    arguments.emplace_back("--in-memory");
  } else {
    arguments.emplace_back("--no-huge");
    arguments.emplace_back("--no-shconf");
  }
  bool pci = false;
  for (const PortConfig& port : config.ports) {
    if (port.pci.empty()) continue;
    pci = true;
    arguments.emplace_back("-a");
    arguments.push_back(port.pci);
  }
  if (!pci) arguments.emplace_back("--no-pci");
  return arguments;
}

void pin(unsigned core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) != 0)
    spdlog::warn("core {} cannot be used; this worker is not pinned", core);
}

// The calling thread, if that is permitted; else all works as well, only later on a busy machine.
void raise_priority() {
  (void)setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);
  // The kernel may otherwise add 50 us to each short sleep.
  prctl(PR_SET_TIMERSLACK, 1);
}

int64_t now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace

DataplaneDaemon::DataplaneDaemon(NodeConfig config, std::string bpf_dir)
    : config_(std::move(config)), bpf_dir_(std::move(bpf_dir)), qsbr_(nullptr, &rte_free) {}

DataplaneDaemon::~DataplaneDaemon() {
  stop_workers();
  server_.reset();
  store_.reset();
  ports_.clear();
  qsbr_.reset();
  if (eal_) rte_eal_cleanup();
}

Result<void> DataplaneDaemon::start() {
  if (auto ok = lock_run_dir(); !ok) return ok;
  auto counters = CountersRegion::open(config_.counters_path(), config_.workers);
  if (!counters) return tl::unexpected(counters.error());
  counters_ = std::make_unique<CountersRegion>(std::move(*counters));
  if (auto ok = start_eal(); !ok) return ok;
  if (auto ok = open_ports(); !ok) return ok;
  if (auto ok = start_workers(); !ok) return ok;
  return start_server();
}

Result<void> DataplaneDaemon::lock_run_dir() {
  std::error_code ec;
  std::filesystem::create_directories(config_.run_dir, ec);
  if (ec) return fail(config_.run_dir, "cannot be made: " + ec.message());
  const std::string path = config_.run_dir + "/dataplane.lock";
  lock_.reset(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock_) return fail(path, std::string("cannot be opened: ") + std::strerror(errno));
  if (flock(lock_.get(), LOCK_EX | LOCK_NB) != 0)
    return fail(path, "another guideway-dataplane runs with this run directory",
                "one dataplane per [paths] run");
  return {};
}

Result<void> DataplaneDaemon::start_eal() {
  std::vector<std::string> arguments = eal_arguments(config_);
  std::vector<char*> argv;
  argv.reserve(arguments.size());
  for (std::string& argument : arguments) argv.push_back(argument.data());
  if (rte_eal_init(static_cast<int>(argv.size()), argv.data()) < 0)
    return fail("DPDK", std::string("start failed: ") + rte_strerror(rte_errno),
                config_.hugepages ? "enough hugepages? sysctl vm.nr_hugepages" : "guideway doctor");
  eal_ = true;

  const auto queues = static_cast<unsigned>(config_.ports.size() * config_.workers);
  auto pool = make_packet_pool(queues * kBuffersPerQueue);
  if (!pool) return tl::unexpected(pool.error());
  pool_ = *pool;
  return {};
}

Result<void> DataplaneDaemon::open_ports() {
  for (unsigned i = 0; i < config_.ports.size(); ++i) {
    auto port = Port::open(config_.ports[i], i, config_.workers, pool_, bpf_dir_ + "/edge.bpf.o",
                           supervisor_);
    if (!port) return tl::unexpected(port.error());
    spdlog::info("port {}: {} ({})", i, (*port)->interface(),
                 (*port)->ingress().kind == PortKind::shared ? "shared with the kernel"
                                                             : "owned; the kernel's part by TAP");
    ports_.push_back(std::move(*port));
  }
  supervisor_.drop_the_rest();
  return {};
}

Result<void> DataplaneDaemon::make_workers() {
  const size_t bytes = rte_rcu_qsbr_get_memsize(config_.workers);
  qsbr_.reset(static_cast<rte_rcu_qsbr*>(rte_zmalloc("qsbr", bytes, RTE_CACHE_LINE_SIZE)));
  if (!qsbr_ || rte_rcu_qsbr_init(qsbr_.get(), config_.workers) != 0)
    return fail("DPDK", "no memory for the workers' states", "raise [dataplane] memory_mb");
  for (unsigned i = 0; i < config_.workers; ++i) {
    auto flows = FlowTable::make(config_.flow_table);
    if (!flows) return tl::unexpected(flows.error());
    workers_.push_back(
        std::make_unique<Worker>(i, ports_, counters_->worker(i), qsbr_.get(), std::move(*flows)));
  }
  return {};
}

Result<void> DataplaneDaemon::start_workers() {
  if (auto ok = make_workers(); !ok) return ok;
  std::vector<std::string> interfaces;
  interfaces.reserve(ports_.size());
  for (const auto& port : ports_) interfaces.push_back(port->interface());
  store_ = std::make_unique<ImageStore>(config_.image_dir(), std::move(interfaces),
                                        [this](const Image* image) { swap(image); });
  if (auto loaded = store_->load(); !loaded) {
    spdlog::warn("the saved image is of no use: {}", loaded.error().text());
  } else if (*loaded) {
    adopted();
    spdlog::info("forwarding again with the saved image: generation {}, revision {}",
                 store_->running()->root().generation, store_->running()->root().revision);
  } else {
    spdlog::info("no saved image; waiting for the control plane");
  }
  start_threads();
  return {};
}

void DataplaneDaemon::start_threads() {
  for (unsigned i = 0; i < config_.workers; ++i) {
    threads_.emplace_back([this, i] {
      pthread_setname_np(pthread_self(), ("gw-worker-" + std::to_string(i)).c_str());
      raise_priority();
      if (i < config_.cores.size()) pin(config_.cores[i]);
      rte_thread_register();
      workers_[i]->run();
      rte_thread_unregister();
    });
  }
}

Result<void> DataplaneDaemon::start_server() {
  gw_message hello{};
  hello.magic = GW_MAGIC_MESSAGE;
  hello.type = GW_HELLO;
  hello.layout_oldest = GW_LAYOUT_OLDEST;
  hello.layout_newest = GW_LAYOUT;
  hello.pid = static_cast<uint32_t>(getpid());
  hello.workers = config_.workers;
  hello.ports = static_cast<uint32_t>(ports_.size());
  for (size_t i = 0; i < ports_.size(); ++i) {
    std::strncpy(hello.port[i].interface, ports_[i]->interface().c_str(),
                 sizeof hello.port[i].interface - 1);
  }
  auto server = ControlServer::listen({.path = config_.dataplane_socket(),
                                       .hello = hello,
                                       .counters_fd = counters_->read_only_fd(),
                                       .on_adopted =
                                           [this] {
                                             adopted();
                                             // A step of a planned change: one that starts again
                                             // with an older copy may be one step late, not two.
                                             if (store_->has_unsaved_table())
                                               save_copy();
                                             else
                                               copy_.changed(now_ms());
                                           }},
                                      *store_);
  if (!server) return tl::unexpected(server.error());
  server_ = std::make_unique<ControlServer>(std::move(*server));
  return {};
}

// One store per worker; then every worker has to pass a quiescent state, or sleep, before the image
// of before may go.
void DataplaneDaemon::swap(const Image* image) {
  for (const auto& worker : workers_) worker->set_image(image);
  const uint64_t token = rte_rcu_qsbr_start(qsbr_.get());
  for (unsigned tries = 0; rte_rcu_qsbr_check(qsbr_.get(), token, false) == 0; ++tries) {
    if (tries < kSpins) {
      rte_pause();
      continue;
    }
    const timespec pause{0, kSwapSleepNs};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
  }
}

void DataplaneDaemon::adopted() {
  const Image& image = *store_->running();
  gw_counters& head = counters_->head();
  __atomic_store_n(&head.generation, image.root().generation, __ATOMIC_RELEASE);
  __atomic_store_n(&head.revision, image.root().revision, __ATOMIC_RELEASE);
  // After the swap: a VIP is steered here once it is served, and until it is no longer. Most images
  // change none, and telling the kernel takes a system call or two for each.
  std::vector<Address> vips;
  for (const gw_service& service : image.services()) {
    const Address vip = Address::from_v6(service.vip);
    if (vips.empty() || vips.back() != vip) vips.push_back(vip);
  }
  if (steered_ && vips == vips_) return;
  vips_ = std::move(vips);
  steer_vips();
}

void DataplaneDaemon::steer_vips() {
  const std::set<Address> vips(vips_.begin(), vips_.end());
  steered_ = true;
  for (const auto& port : ports_) {
    auto ok = port->set_vips(vips);
    if (ok) continue;
    steered_ = false;
    spdlog::error("VIPs are not steered to the dataplane: {}", ok.error().text());
  }
}

Result<void> DataplaneDaemon::keep_house() {
  for (const auto& port : ports_) {
    if (auto ok = port->check(); !ok) return ok;
  }
  if (!steered_ && store_->running()) steer_vips();
  tell_supervisor();
  return {};
}

// By the main thread, but only while every worker lives: one that hangs is a reason to start anew.
void DataplaneDaemon::tell_supervisor() {
  std::vector<uint64_t> beats;
  beats.reserve(workers_.size());
  for (unsigned i = 0; i < workers_.size(); ++i)
    beats.push_back(__atomic_load_n(&counters_->worker(i).own->heartbeat, __ATOMIC_RELAXED));
  if (pulse_.felt(std::move(beats))) supervisor_.alive();
}

void DataplaneDaemon::save_copy() {
  if (auto saved = store_->save(); !saved)
    spdlog::warn("the image's copy is not written: {}", saved.error().text());
  copy_.written(now_ms());
}

Result<void> DataplaneDaemon::serve() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGUSR1);
  const UniqueFd signal_fd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  const std::string ready =
      std::to_string(workers_.size()) + " worker(s), " + std::to_string(ports_.size()) + " port(s)";
  spdlog::info("ready: {}", ready);
  supervisor_.ready(ready);
  raise_priority();
  int64_t next_house = now_ms();
  while (true) {
    const int64_t until_house = std::max<int64_t>(next_house - now_ms(), 0);
    pollfd waits[] = {{signal_fd.get(), POLLIN, 0},
                      {server_->listener(), POLLIN, 0},
                      {server_->peer(), POLLIN, 0}};
    if (::poll(waits, 3, static_cast<int>(copy_.wait(now_ms(), until_house))) < 0) {
      if (errno == EINTR) continue;
      return fail("poll", std::strerror(errno));
    }
    if (waits[0].revents) {
      signalfd_siginfo signal{};
      (void)!read(signal_fd.get(), &signal, sizeof signal);
      if (signal.ssi_signo == SIGUSR1) {
        if (auto ok = take_leave(signal_fd.get()); !ok) return ok;
      }
      break;
    }
    // The control plane first: the rest can wait, its verdicts should not.
    const bool busy = waits[2].revents != 0;
    if (busy) server_->handle_peer();
    if (waits[1].revents) server_->accept_peer();
    if (copy_.due(now_ms(), busy)) save_copy();
    if (now_ms() < next_house) continue;
    if (auto ok = keep_house(); !ok) return ok;
    next_house = now_ms() + kHousekeepingMs;
  }
  supervisor_.stopping();
  if (copy_.pending()) save_copy();
  spdlog::info("stopping");
  return {};
}

// To the control plane this dataplane is dead, so the VIPs are withdrawn; but it forwards on, also
// the routing daemon's word of it, which on a port that DPDK owns has no other way.
Result<void> DataplaneDaemon::take_leave(int signal_fd) {
  spdlog::info("taking leave: forwarding goes on until routers have heard of it");
  for (const auto& worker : workers_) worker->fall_silent();
  server_.reset();
  pollfd wait{signal_fd, POLLIN, 0};
  if (::poll(&wait, 1, kFarewellMs) <= 0)
    return fail("SIGUSR1", "was not followed by SIGTERM within 5 s");
  const timespec tail{0, int64_t{kFarewellTailMs} * 1'000'000};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &tail, nullptr);
  return {};
}

void DataplaneDaemon::stop_workers() {
  for (const auto& worker : workers_) worker->stop();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace guideway
