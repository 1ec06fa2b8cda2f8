// SPDX-License-Identifier: Apache-2.0
// What the daemon does in a cluster: store_etcd.h and cluster.h put together.
#include <spdlog/spdlog.h>
#include <sys/random.h>

#include <algorithm>
#include <utility>

#include "controlplane/daemon.h"
#include "controlplane/durable_file.h"

namespace guideway {
namespace {

constexpr size_t kSecretMax = 4096;
// A start waits so long for etcd before it goes on by the copy.
constexpr std::chrono::seconds kFirstIntent{3};
// A dataplane that is away may come back with the image that it had.
constexpr std::chrono::seconds kDataplaneBack{5};

Result<std::string> read_password(const std::string& path) {
  auto text = read_file(path, kSecretMax);
  if (!text) return tl::unexpected(text.error());
  if (!*text) return fail(path, "is not there");
  std::string password = (*text)->substr(0, (*text)->find('\n'));
  if (password.empty()) return fail(path, "its first line must be the password");
  return password;
}

// Random, kept with the state: whoever has the same one is the same node.
Result<std::string> node_id(const std::string& path) {
  auto text = read_file(path, kSecretMax);
  if (!text) return tl::unexpected(text.error());
  if (*text && (*text)->size() == 17) return (*text)->substr(0, 16);
  uint64_t number = 0;
  if (getrandom(&number, sizeof number, 0) != sizeof number) return fail(path, "no randomness");
  char id[17];
  std::snprintf(id, sizeof id, "%016llx", static_cast<unsigned long long>(number));
  if (auto written = replace_file(path, std::string(id) + "\n"); !written)
    return tl::unexpected(written.error());
  return std::string(id);
}

}  // namespace

Result<void> Daemon::make_store() {
  auto file = FileStore::open(config_.state_dir);
  if (!file) return tl::unexpected(file.error());
  if (auto loaded = (*file)->load(); !loaded) return tl::unexpected(loaded.error());
  const ClusterConfig& cluster = config_.cluster;
  if (cluster.endpoints.empty()) {
    store_ = std::move(*file);
    return {};
  }
  EtcdClient::Config etcd;
  etcd.endpoints = cluster.endpoints;
  etcd.ca_file = cluster.ca_file;
  etcd.cert_file = cluster.cert_file;
  etcd.key_file = cluster.key_file;
  etcd.user = cluster.user;
  if (!cluster.password_file.empty()) {
    auto password = read_password(cluster.password_file);
    if (!password) return tl::unexpected(password.error());
    etcd.password = std::move(*password);
  }
  auto id = node_id(config_.state_dir + "/node-id");
  if (!id) return tl::unexpected(id.error());
  report_.id = std::move(*id);
  report_.version = GW_VERSION;
  auto client = EtcdClient::create(*loop_, std::move(etcd));
  if (!client) return tl::unexpected(client.error());
  etcd_ = std::move(*client);
  auto store = EtcdStore::create(
      *loop_, *etcd_, std::move(*file),
      {cluster.prefix, config_.name, config_.state_dir + "/cluster.json"}, EtcdStore::Pace{});
  if (!store) return tl::unexpected(store.error());
  etcd_store_ = store->get();
  store_ = std::move(*store);
  cluster_ = std::make_unique<Cluster>(*loop_, *etcd_,
                                       Cluster::Config{cluster.prefix + "live/", config_.name,
                                                       std::chrono::seconds(cluster.lease_s)},
                                       [this] { on_cluster(); });
  views_ = std::make_unique<SharedViews>(config_.name);
  etcd_store_->on_state([this] { on_cluster(); });
  return {};
}

// A start in a cluster goes on by the newest intent, unless etcd is not to be had.
void Daemon::begin_in_cluster() {
  on_cluster();
  loop_->after(kFirstIntent, [this] { begin(); });
  // Leases lapse without an event.
  loop_->every(std::chrono::milliseconds(200), [this] { on_cluster(); });
}

void Daemon::on_cluster() {
  if (cluster_ == nullptr || delivery_ == nullptr) return;
  const EtcdStore::State state = etcd_store_->state();
  const bool is_member = state.membership == EtcdStore::Membership::member;
  if (is_member) {
    cluster_->start();
  } else {
    cluster_->stop();
  }
  if (state.current || state.membership == EtcdStore::Membership::alone) begin();
  // Whoever may be left behind by the others is to be preferred by nobody.
  delivery_->announcer().set_lease_lapsing(state.membership != EtcdStore::Membership::alone &&
                                           !is_up_to_date());
  report();
  look_at_views();
  if (planner_ != nullptr && is_elected() != std::exchange(was_elected_, is_elected()))
    planner_->look();
}

// The others wait for this node with each step, and it runs what was the newest when they began to.
// (A later one they had not all confirmed, so that this node is at most one step behind.)
bool Daemon::is_up_to_date() {
  const int64_t lease = cluster_->counted_lease();
  if (lease == 0) return false;
  // Without its key in etcd they may have gone on by steps that no watch has told of yet.
  if (std::exchange(read_under_, lease) != lease) {
    catch_up_ = 0;
    caught_up_ = false;
    etcd_store_->read_anew();
  }
  if (!etcd_store_->state().current) return false;
  if (catch_up_ == 0) catch_up_ = intent()->revision;
  const auto running = delivery_->running();
  caught_up_ = caught_up_ || (running && running->revision >= catch_up_);
  return caught_up_;
}

void Daemon::report() {
  if (cluster_ == nullptr || !delivery_->has_begun()) return;
  const auto now = EventLoop::Clock::now();
  report_.intent = intent()->revision;
  if (const auto running = delivery_->running()) {
    report_.revision = running->revision;
    report_.generation = running->generation;
    report_.digest = running->digest;
    connected_at_ = now;
  } else if (!delivery_->dataplane_is_gone()) {
    // It forwards by what it had, and takes nothing from this control plane: an older layout, say.
    connected_at_ = now;
  } else if (now > connected_at_ + kDataplaneBack) {
    // Nobody has to wait for it.
    report_.revision = report_.intent;
    report_.generation = 0;
    report_.digest = 0;
  }
  cluster_->report(report_);
  if (const uint64_t confirmed = this->confirmed(); confirmed != last_confirmed_) {
    last_confirmed_ = confirmed;
    if (planner_ != nullptr) loop_->post([this] { planner_->look(); });
  }
}

// By whether drains and planned changes go on by this node.
bool Daemon::is_elected() const {
  if (cluster_ == nullptr) return true;
  const auto membership = etcd_store_->state().membership;
  if (membership == EtcdStore::Membership::alone) return true;
  return membership == EtcdStore::Membership::member && cluster_->is_elected();
}

// The revision that all live nodes run.
uint64_t Daemon::confirmed() const {
  if (!is_elected()) return 0;
  const bool alone =
      cluster_ == nullptr || etcd_store_->state().membership == EtcdStore::Membership::alone;
  return alone ? delivery_->adoption().revision : cluster_->confirmed();
}

std::optional<ClusterStatus> Daemon::cluster_status() const {
  if (cluster_ == nullptr) return {};
  const EtcdStore::State state = etcd_store_->state();
  ClusterStatus out;
  switch (state.membership) {
    case EtcdStore::Membership::member:
      out.state = state.current ? "member" : "cut off";
      break;
    case EtcdStore::Membership::alone:
      out.state = state.left ? "left" : "not a member";
      break;
    case EtcdStore::Membership::undecided:
      out.state = "cut off";
      break;
  }
  out.id = state.cluster;
  out.endpoint = etcd_->endpoint();
  out.problem = state.problem.empty() ? cluster_->problem() : state.problem;
  out.last_contact = state.last_contact;
  out.elected = cluster_->elected();
  out.refused = state.refused;
  for (const auto& [name, node] : cluster_->nodes()) {
    ClusterStatus::Node shown;
    shown.name = name;
    shown.alive = node.alive;
    shown.self = name == config_.name;
    shown.report = node.report;
    shown.problem = node.problem;
    out.nodes.push_back(std::move(shown));
  }
  return out;
}

void Daemon::join_cluster(std::function<void(Result<void>)> done) {
  if (etcd_store_ == nullptr) {
    return done(fail("cluster", "this node has no [cluster] in its node.toml",
                     "name etcd's endpoints there, and restart guideway-controlplane"));
  }
  etcd_store_->join(std::move(done));
}

Result<void> Daemon::leave_cluster() {
  if (etcd_store_ == nullptr) return fail("cluster", "this node is in no cluster");
  auto left = etcd_store_->leave();
  on_cluster();
  return left;
}

}  // namespace guideway
