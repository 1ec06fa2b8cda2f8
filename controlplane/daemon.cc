// SPDX-License-Identifier: Apache-2.0
#include "controlplane/daemon.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <system_error>
#include <utility>

#include "bpf/object.h"
#include "controlplane/announce_table.h"
#include "controlplane/pool_plan.h"
#include "controlplane/priority.h"

namespace guideway {
namespace {

constexpr std::chrono::seconds kDrainLook{1};

}  // namespace

Daemon::Daemon(const NodeConfig& config, std::string bpf_dir)
    : config_(config),
      bpf_dir_(std::move(bpf_dir)),
      started_(std::time(nullptr)),
      lone_(static_cast<uint64_t>(started_) << 20) {}

Daemon::~Daemon() {
  // The server's threads wait for what the delivery promised: those promises are broken first.
  planner_.reset();
  agents_.reset();
  cluster_.reset();
  delivery_.reset();
  store_.reset();
  etcd_.reset();
  server_.reset();
}

Result<std::unique_ptr<Daemon>> Daemon::start(const NodeConfig& config,
                                              const std::string& bpf_dir) {
  std::unique_ptr<Daemon> daemon(new Daemon(config, bpf_dir));
  if (auto opened = daemon->open(); !opened) return tl::unexpected(opened.error());
  return daemon;
}

Result<void> Daemon::open() {
  std::error_code failed;
  std::filesystem::create_directories(config_.run_dir, failed);
  if (failed) return fail(config_.run_dir, "cannot be made: " + failed.message());
  if (auto locked = lock(); !locked) return locked;
  auto loop = EventLoop::create();
  if (!loop) return tl::unexpected(loop.error());
  loop_ = std::move(*loop);
  auto signals = loop_->on_signals([this](int signal) {
    spdlog::info("stopping on {}", signal == SIGTERM ? "SIGTERM" : "SIGINT");
    loop_->stop();
  });
  if (!signals) return signals;
  if (auto made = make_store(); !made) return made;
  if (auto ok = remember_announce_table(config_.run_dir, config_.announce.table); !ok) return ok;
  auto delivery = Delivery::create(*loop_, config_, bpf_dir_ + "/" + kEdgeObject);
  if (!delivery) return tl::unexpected(delivery.error());
  delivery_ = std::move(*delivery);
  if (auto planner = make_planner(); !planner) return planner;
  api_ = std::make_unique<Api>(*loop_, *this);
  HttpServer::Config http;
  http.path = config_.control_socket;
  http.mode = config_.control_mode;
  http.group = config_.control_group;
  auto server = HttpServer::start(
      http, [api = api_.get()](const HttpRequest& request) { return api->handle(request); },
      Api::http_error_body,
      [this] {
        failed_ = true;
        loop_->stop();
      });
  if (!server) return tl::unexpected(server.error());
  server_ = std::move(*server);
  spdlog::info("started node={} version={} revision={} services={} pools={} socket={}",
               config_.name, GW_VERSION, intent()->revision, intent()->services.size(),
               intent()->pools.size(), config_.control_socket);
  store_->on_intent([this](const std::shared_ptr<const Intent>& intent) {
    if (!delivery_->has_begun()) return;
    delivery_->set_intent(intent);
    report();
    loop_->post([this] { planner_->look(); });
  });
  if (cluster_ == nullptr) begin();
  if (cluster_ != nullptr) begin_in_cluster();
  loop_->every(kDrainLook, [this] { end_drains(); });
  return {};
}

void Daemon::begin() {
  if (delivery_->has_begun()) return;
  delivery_->set_intent(intent());
  end_drains();
}

Result<void> Daemon::make_planner() {
  Planner::World world;
  if (!config_.agents.key_file.empty()) {
    auto key = AgentKey::load(config_.agents.key_file);
    if (!key) return tl::unexpected(key.error());
    auto agents =
        AgentClient::create(*loop_, std::move(*key), static_cast<uint16_t>(config_.agents.port));
    if (!agents) return tl::unexpected(agents.error());
    agents_ = std::move(*agents);
    world.ask = [this](const std::string& pool, std::vector<BackendRanges> ranges,
                       std::function<void(Planner::Sockets)> done) {
      ask_agents(pool, ranges, std::move(done));
    };
  }
  world.intent = [this] { return store_->intent(); };
  world.confirmed = [this] { return confirmed(); };
  world.acts = [this] { return is_elected(); };
  world.change = [this](Store::Change change, const std::string& what, Store::Done done) {
    store_->change(std::move(change), "plan", what, std::move(done));
  };
  planner_ = std::make_unique<Planner>(*loop_, std::move(world), Planner::Pace{});
  delivery_->on_adoption([this] {
    report();
    planner_->look();
  });
  return {};
}

void Daemon::ask_agents(const std::string& pool, const std::vector<BackendRanges>& ranges,
                        std::function<void(Planner::Sockets)> done) {
  std::vector<ServiceKey> services;
  for (const auto& [key, service] : intent()->services)
    if (service.pool == pool) services.push_back(key);
  std::vector<AgentQuestion> questions;
  for (const BackendRanges& one : ranges) questions.push_back({one.address, one.ranges});
  agents_->ask(intent()->flow_seed, std::move(services), std::move(questions),
               [done = std::move(done)](const AgentClient::Answers& answers) {
                 Planner::Sockets sockets;
                 for (const auto& [address, answer] : answers) {
                   if (answer) sockets[address] = answer->sockets;
                   if (!answer)
                     spdlog::debug("agent {}: {}", address.text(), answer.error().text());
                 }
                 done(std::move(sockets));
               });
}

// Backends whose time for draining is over.
void Daemon::end_drains() {
  const int64_t now = std::time(nullptr);
  const auto is_over = [now](const Backend& backend) {
    return backend.mode == BackendMode::draining && backend.drain_until != 0 &&
           backend.drain_until <= now;
  };
  std::string what;
  size_t count = 0;
  for (const auto& [name, pool] : intent()->pools)
    for (const auto& [address, backend] : pool.backends)
      if (is_over(backend) && count++ == 0) what = "drained " + name + " " + address.text();
  if (count == 0 || ends_drains_ || !is_elected()) return;
  if (count > 1) what += " and " + std::to_string(count - 1) + " more";
  ends_drains_ = true;
  const auto change = [is_over](const Intent& before) -> ChangeResult {
    Intent next = before;
    for (auto& [name, pool] : next.pools) {
      for (auto& [address, backend] : pool.backends) {
        if (!is_over(backend)) continue;
        backend.mode = BackendMode::disabled;
        backend.drain_until = 0;
      }
    }
    return next;
  };
  // What went wrong is in the log.
  store_->change(change, "deadline", what,
                 [this](const Store::ChangeOutcome&) { ends_drains_ = false; });
}

// Two that publish to one dataplane would undo each other's images for ever.
Result<void> Daemon::lock() {
  const std::string path = config_.run_dir + "/controlplane.lock";
  lock_ = UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock_) return fail(path, std::string("cannot be opened: ") + std::strerror(errno));
  if (flock(lock_.get(), LOCK_EX | LOCK_NB) == 0) return {};
  if (errno != EWOULDBLOCK) {
    return fail(path, std::string("cannot be locked: ") + std::strerror(errno));
  }
  return fail(config_.run_dir, "is in use by another guideway-controlplane",
              "a dataplane has one control plane: stop the other one first");
}

bool Daemon::run() {
  set_thread_nice(kLoopNice);
  if (const auto period = supervisor_.period(); period.count() != 0)
    loop_->every(period, [this] { supervisor_.alive(); });
  supervisor_.ready("control socket: " + config_.control_socket);
  loop_->run();
  supervisor_.stopping();
  spdlog::info("stopped");
  return !failed_;
}

void Daemon::stop() {
  loop_->stop();
}

Status Daemon::status() const {
  Status out;
  out.node.name = config_.name;
  out.node.started = started_;
  out.node.revision = intent()->revision;
  out.cluster = cluster_status();
  delivery_->describe(out);
  describe_views(out);
  for (PoolStatus& pool : out.pools)
    if (pool.change) pool.change->waits = planner_->waits(pool.name);
  return out;
}

Result<Explanation> Daemon::explain_flow(const Endpoint& client, const ServiceKey& service) const {
  return delivery_->explain_flow(client, service);
}

}  // namespace guideway
