// SPDX-License-Identifier: Apache-2.0
#include "controlplane/announcer.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace guideway {
namespace {

// Looks, 100 ms each. A busy machine may let a worker wait for some of them; without the connection
// there is less doubt.
constexpr unsigned kSilentLooks = 5;
constexpr unsigned kSilentLooksAlone = 2;

constexpr std::chrono::milliseconds kSettle{300};
constexpr std::chrono::seconds kQuiet{1};
constexpr std::chrono::seconds kDrainAtLeast{2};  // routers get so long to prefer others

}  // namespace

Announcer::Announcer(EventLoop& loop, const NodeConfig& config)
    : loop_(loop),
      config_(config.announce),
      rules_{config.announce.min_healthy, config.announce.panic_withdraws},
      file_(config.state_dir + "/node.json"),
      silent_limit_(kSilentLooks) {}

Announcer::~Announcer() = default;

Result<std::unique_ptr<Announcer>> Announcer::create(EventLoop& loop, const NodeConfig& config) {
  std::unique_ptr<Announcer> announcer(new Announcer(loop, config));
  if (auto opened = announcer->open(); !opened) return tl::unexpected(opened.error());
  return announcer;
}

Result<void> Announcer::open() {
  auto mode = file_.load();
  if (!mode) return tl::unexpected(mode.error());
  mode_ = *mode;
  drain_began_ = last_traffic_ = Clock::now();
  SignalRoutes::Config config;
  config.table = config_.table;
  auto routes = SignalRoutes::create(loop_, config);
  if (!routes) return tl::unexpected(routes.error());
  routes_ = std::move(*routes);
  auto found = routes_->read();
  if (!found) return tl::unexpected(found.error());
  found_ = std::move(*found);
  return {};
}

void Announcer::set_services(Services services) {
  std::map<Address, Vip> next;
  for (auto& [address, facts] : services) {
    Vip& vip = next[address];
    if (auto old = vips_.find(address); old != vips_.end()) {
      vip = std::move(old->second);
    } else if (auto metric = found_.find(address); metric != found_.end()) {
      vip.announced =
          metric->second < config_.metric_reduced ? Announcement::normal : Announcement::reduced;
    }
    vip.facts.services = std::move(facts);
  }
  const bool gone = std::any_of(vips_.begin(), vips_.end(),
                                [&](const auto& entry) { return next.count(entry.first) == 0; });
  vips_ = std::move(next);
  found_.clear();
  if (!std::exchange(started_, true) || gone) set_routes();
  judge();
}

void Announcer::look(bool beating, uint64_t forwarded) {
  silent_looks_ = beating || unreadable_ ? 0 : silent_looks_ + 1;
  beats_ = beats_ || beating;
  const bool moved = forwarded != std::exchange(forwarded_, forwarded);
  if (moved || unreadable_) last_traffic_ = Clock::now();
  drain_on();
  judge();
}

void Announcer::on_connected(uint64_t generation) {
  unknown_image_ = generation != 0;
  silent_limit_ = kSilentLooks;
  published_ = 0;
  adopted_.clear();
}

void Announcer::on_disconnected() {
  unknown_image_ = true;
  beats_ = false;
  silent_limit_ = kSilentLooksAlone;
  judge();
}

void Announcer::on_published(uint64_t generation, std::set<Address> vips) {
  published_ = generation;
  published_vips_ = std::move(vips);
}

void Announcer::on_adopted(uint64_t generation) {
  if (generation != published_) return;
  adopted_ = published_vips_;
  unknown_image_ = false;
  judge();
}

void Announcer::set_lease_lapsing(bool lapsing) {
  lease_lapsing_ = lapsing;
  judge();
}

DataplaneLife Announcer::life() const {
  if (unreadable_) return DataplaneLife::unsure;
  if (silent_looks_ >= silent_limit_) return DataplaneLife::dead;
  return beats_ && !unknown_image_ ? DataplaneLife::alive : DataplaneLife::unsure;
}

Result<void> Announcer::set_drained(bool drained) {
  if (drained == (mode_ != NodeMode::normal)) return {};
  const NodeMode next = drained ? NodeMode::draining : NodeMode::normal;
  if (auto saved = file_.save(next); !saved) return saved;
  spdlog::info("node mode={}", node_mode_name(next));
  mode_ = next;
  drain_began_ = Clock::now();
  judge();
  return {};
}

NodeModeStatus Announcer::mode() const {
  return {mode_, Clock::now() - last_traffic_ >= kQuiet};
}

void Announcer::drain_on() {
  if (mode_ != NodeMode::draining) return;
  const auto took = Clock::now() - drain_began_;
  const bool over = took >= std::chrono::seconds(config_.drain_seconds);
  if (!over && (took < kDrainAtLeast || !mode().quiet)) return;
  spdlog::info("node mode=drained: {}", mode().quiet ? "no traffic comes any more"
                                                     : "its time is over, traffic still comes");
  mode_ = NodeMode::drained;
  // In doubt it is drained once more after a restart.
  if (auto saved = file_.save(mode_); !saved) spdlog::error("{}", saved.error().text());
}

void Announcer::judge() {
  if (!started_) return;
  const NodeFacts node{life(), mode_, lease_lapsing_};
  bool changed = false;
  for (auto& [address, vip] : vips_) {
    vip.facts.adopted = adopted_.count(address) != 0;
    changed |= judge(vip, node, address);
  }
  const bool pause = node.dataplane == DataplaneLife::unsure;
  const bool resumes = paused_ && !pause;
  paused_ = pause;
  if (changed || resumes) set_routes();
  if (pause) routes_->pause();
}

bool Announcer::judge(Vip& vip, const NodeFacts& node, const Address& address) {
  Decision decision = decide(vip.facts, node, rules_, vip.announced);
  if (decision.announcement <= vip.announced || !decision.may_settle) {
    vip.worse_since = {};
  } else if (vip.worse_since == Clock::time_point{}) {
    vip.worse_since = Clock::now();
    return false;
  } else if (Clock::now() - vip.worse_since < kSettle) {
    return false;
  }
  vip.reason = std::move(decision.reason);
  if (decision.announcement == vip.announced) return false;
  spdlog::log(
      decision.announcement == Announcement::normal ? spdlog::level::info : spdlog::level::warn,
      "vip {} {} (was {}){}{}", address.text(), announcement_name(decision.announcement),
      announcement_name(vip.announced), vip.reason.empty() ? "" : ": ", vip.reason);
  vip.announced = decision.announcement;
  vip.worse_since = {};
  return true;
}

void Announcer::set_routes() {
  SignalRoutes::Metrics metrics;
  for (const auto& [address, vip] : vips_) {
    if (vip.announced == Announcement::withdrawn) continue;
    metrics[address] =
        vip.announced == Announcement::normal ? config_.metric_normal : config_.metric_reduced;
  }
  if (auto set = routes_->set(metrics); !set) spdlog::warn("{}", set.error().text());
}

std::vector<VipStatus> Announcer::vips() const {
  std::vector<VipStatus> out;
  out.reserve(vips_.size());
  for (const auto& [address, vip] : vips_) out.push_back({address, vip.announced, vip.reason});
  return out;
}

}  // namespace guideway
