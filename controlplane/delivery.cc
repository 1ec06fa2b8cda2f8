// SPDX-License-Identifier: Apache-2.0
#include "controlplane/delivery.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>
#include <utility>

namespace guideway {
namespace {

constexpr std::chrono::seconds kRetry{1};
constexpr std::chrono::milliseconds kHeartbeatLook{100};
constexpr size_t kNextHopLinesMax = 20;

CounterBook open_book(const std::string& path) {
  auto book = CounterBook::load(path);
  if (book) return std::move(*book);
  spdlog::warn("counters: totals per service and backend start anew: {}", book.error().text());
  return CounterBook(path);
}

void add_backends(const Intent& intent, std::set<Address>& out) {
  for (const auto& [name, pool] : intent.pools) {
    for (const auto& [address, backend] : pool.backends) out.insert(address);
  }
}

void add_vips(const Intent& intent, std::set<Address>& out) {
  for (const auto& [key, service] : intent.services) out.insert(key.vip);
}

double since_ms(EventLoop::Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(EventLoop::Clock::now() - start).count();
}

}  // namespace

Delivery::Delivery(EventLoop& loop, const NodeConfig& config)
    : loop_(loop),
      config_(config),
      book_(open_book(config.run_dir + "/counter-book.json")),
      builder_(loop, [this](std::shared_ptr<const Intent> intent, Result<TableMap> tables) {
        on_tables(std::move(intent), std::move(tables));
      }) {}

Delivery::~Delivery() {
  loop_.cancel(retry_);
  loop_.cancel(heartbeat_timer_);
}

Result<std::unique_ptr<Delivery>> Delivery::create(EventLoop& loop, const NodeConfig& config) {
  std::unique_ptr<Delivery> delivery(new Delivery(loop, config));
  if (auto opened = delivery->open(); !opened) return tl::unexpected(opened.error());
  return delivery;
}

Result<void> Delivery::open() {
  NextHops::Config hops;
  hops.source4 = config_.tunnel_source4;
  hops.source6 = config_.tunnel_source6;
  auto next_hops = NextHops::create(
      loop_, hops, [this](const std::vector<Address>& changed) { on_next_hops(changed); });
  if (!next_hops) return tl::unexpected(next_hops.error());
  next_hops_ = std::move(*next_hops);
  Routes::Config table;
  table.table = config_.route_table;
  table.rule_priority = config_.rule_priority;
  auto routes = Routes::create(loop_, table);
  if (!routes) return tl::unexpected(routes.error());
  routes_ = std::move(*routes);
  // Totals of a dataplane that is away; its successor sends them by itself.
  if (auto counters = Counters::open(config_.counters_path())) counters_ = std::move(*counters);
  publisher_ = std::make_unique<Publisher>(
      loop_, config_.dataplane_socket(),
      Publisher::Callbacks{
          [this](const DataplaneInfo& info, UniqueFd fd) { on_connected(info, std::move(fd)); },
          [this](uint64_t generation, uint64_t revision, bool adopted, const std::string& reason) {
            on_ack(generation, revision, adopted, reason);
          },
          [this](const std::string& why) { on_disconnected(why); }});
  return {};
}

void Delivery::set_intent(std::shared_ptr<const Intent> intent) {
  bool first = intent_ == nullptr;
  intent_ = std::move(intent);
  want_next_hops_and_routes();
  if (first) {
    publisher_->start();
    heartbeat_timer_ = loop_.every(kHeartbeatLook, [this] { look_at_heartbeats(); });
  }
  advance();
}

std::future<void> Delivery::adopted(uint64_t revision) {
  std::promise<void> promise;
  std::future<void> future = promise.get_future();
  if (adoption_.generation != 0 && adoption_.revision >= revision) {
    promise.set_value();
  } else {
    waiters_.push_back({revision, std::move(promise)});
  }
  return future;
}

void Delivery::advance() {
  if (intent_ == nullptr) return;
  if (!builder_.busy() && applied_ != intent_) builder_.start(intent_, tables_);
  if (dirty_ && in_flight_ == 0 && applied_ != nullptr && publisher_->connected()) publish();
}

void Delivery::on_tables(std::shared_ptr<const Intent> intent, Result<TableMap> tables) {
  if (!tables) {
    build_problem_ = "the tables of revision " + std::to_string(intent->revision) +
                     " cannot be built: " + tables.error().text();
    spdlog::error("{}", build_problem_);
    // A newer intent is tried at once, the same one after a while.
    if (intent != intent_) return advance();
    loop_.cancel(retry_);
    retry_ = loop_.after(kRetry, [this] { advance(); });
    return;
  }
  build_problem_.clear();
  applied_ = std::move(intent);
  tables_ = std::move(*tables);
  if (applied_ == intent_) want_next_hops_and_routes();
  dirty_ = true;
  advance();
}

// What the image now running uses stays wanted until its successor has been made.
void Delivery::want_next_hops_and_routes() {
  std::set<Address> backends;
  std::set<Address> vips;
  for (const Intent* intent : {intent_.get(), applied_.get()}) {
    if (intent == nullptr || (intent == applied_.get() && applied_ == intent_)) continue;
    add_backends(*intent, backends);
    add_vips(*intent, vips);
  }
  if (applied_ == intent_) {
    add_backends(*intent_, backends);
    add_vips(*intent_, vips);
  }
  next_hops_->want(backends);
  if (auto set = routes_->set(vips); !set) spdlog::warn("routes: {}", set.error().text());
}

void Delivery::publish() {
  dirty_ = false;
  uint64_t generation =
      std::max({publisher_->info()->generation, book_.last_generation(), last_generation_}) + 1;
  auto sent = build_and_send(generation);
  if (sent) {
    publish_problem_.clear();
    return;
  }
  publish_problem_ = "no image can be made of revision " + std::to_string(applied_->revision) +
                     ": " + sent.error().text();
  spdlog::error("{}", publish_problem_);
  dirty_ = true;
  loop_.cancel(retry_);
  retry_ = loop_.after(kRetry, [this] { advance(); });
}

Result<void> Delivery::build_and_send(uint64_t generation) {
  auto start = EventLoop::Clock::now();
  if (auto claimed = book_.claim(*applied_, generation); !claimed) return claimed;
  ImageNode node;
  node.generation = generation;
  node.ports = publisher_->info()->ports;
  node.next_hop = [this](const Address& address) -> const NextHopState& {
    return next_hops_->get(address);
  };
  node.service_counter = [this](const ServiceKey& key) { return book_.service_index(key); };
  node.backend_counter = [this](const std::string& pool, const Address& address) {
    return book_.backend_index(pool, address);
  };
  auto image = SealedImage::build(*applied_, tables_, node);
  if (!image) return tl::unexpected(image.error());
  last_generation_ = generation;
  size_t bytes = (*image)->bytes().size();
  if (!publisher_->publish(std::move(*image))) {
    dirty_ = true;  // the connection just went: on_connected() begins anew
    return {};
  }
  in_flight_ = generation;
  sent_at_ = EventLoop::Clock::now();
  spdlog::info(
      "published generation={} revision={} services={} pools={} root_bytes={} made_ms={:.1f}",
      generation, applied_->revision, applied_->services.size(), applied_->pools.size(), bytes,
      since_ms(start));
  return {};
}

void Delivery::on_next_hops(const std::vector<Address>& changed) {
  size_t lines = 0;
  for (const Address& address : changed) {
    if (++lines > kNextHopLinesMax) break;
    const NextHopState& state = next_hops_->get(address);
    if (state.hop) {
      spdlog::info("next hop backend={} interface={} mac={} gateway={}", address.text(),
                   state.hop->interface, mac_text(state.hop->mac),
                   state.hop->gateway ? state.hop->gateway->text() : "none");
    } else {
      spdlog::warn("next hop backend={} none: {}", address.text(), state.reason);
    }
  }
  if (changed.size() > kNextHopLinesMax) {
    spdlog::info("next hop of {} more backends changed", changed.size() - kNextHopLinesMax);
  }
  dirty_ = true;
  advance();
}

void Delivery::on_connected(const DataplaneInfo& info, UniqueFd fd) {
  spdlog::info("dataplane connected pid={} workers={} ports={} generation={} revision={}", info.pid,
               info.workers, info.ports.size(), info.generation, info.revision);
  auto counters = Counters::open(std::move(fd));
  if (counters) {
    counters_ = std::move(*counters);
    book_.adopted(info.generation, *counters_);
  } else {
    spdlog::error("{}", counters.error().text());
  }
  heartbeats_ = {};
  in_flight_ = 0;
  adoption_ = {};
  refused_.reset();
  next_hops_->set_ports(std::set<std::string>(info.ports.begin(), info.ports.end()));
  dirty_ = true;
  advance();
}

void Delivery::on_ack(uint64_t generation, uint64_t revision, bool adopted,
                      const std::string& reason) {
  if (adopted) {
    spdlog::info("adopted generation={} revision={} after_ms={:.1f}", generation, revision,
                 since_ms(sent_at_));
    adoption_ = {generation, revision};
    refused_.reset();
    if (counters_ != nullptr) book_.adopted(generation, *counters_);
    auto answered = std::partition(waiters_.begin(), waiters_.end(), [&](const Waiter& waiter) {
      return waiter.revision > revision;
    });
    for (auto waiter = answered; waiter != waiters_.end(); ++waiter) waiter->promise.set_value();
    waiters_.erase(answered, waiters_.end());
  } else {
    spdlog::error("refused generation={} revision={}: {}", generation, revision, reason);
    refused_ = RefusedImage{generation, reason};
  }
  if (generation >= in_flight_) in_flight_ = 0;
  advance();
}

void Delivery::on_disconnected(const std::string& why) {
  spdlog::warn("dataplane disconnected: {}", why);
  in_flight_ = 0;
  adoption_ = {};
  dirty_ = true;
}

void Delivery::look_at_heartbeats() {
  bool now_alive = false;
  if (counters_ != nullptr) {
    Heartbeats now = counters_->heartbeats();
    // A dataplane that has just connected gets until the next look.
    now_alive = heartbeats_.workers.empty() ? alive_ : guideway::alive(heartbeats_, now);
    heartbeats_ = std::move(now);
  }
  if (now_alive != alive_) {
    spdlog::log(now_alive ? spdlog::level::info : spdlog::level::warn, "dataplane {}",
                now_alive ? "alive" : "not alive: its heartbeat stands still");
  }
  alive_ = now_alive;
}

std::string Delivery::problem() const {
  for (const std::string& one : {publisher_->problem(), build_problem_, publish_problem_,
                                 next_hops_->problem(), routes_->problem()}) {
    if (!one.empty()) return one;
  }
  return "";
}

void Delivery::describe_dataplane(NodeStatus& node) const {
  node.connected = publisher_->connected();
  node.alive = alive_;
  node.refused = refused_;
  node.problem = problem();
  if (node.connected) {
    const DataplaneInfo& info = *publisher_->info();
    node.pid = info.pid;
    node.workers = info.workers;
    bool any = adoption_.generation != 0;
    node.generation = any ? adoption_.generation : info.generation;
    node.running_revision = any ? adoption_.revision : info.revision;
    for (const std::string& interface : info.ports) node.ports.push_back(port_status(interface));
  } else if (alive_) {
    node.pid = counters_->pid();
    node.workers = counters_->workers();
    node.generation = counters_->generation();
    node.running_revision = counters_->revision();
  }
  if (counters_ != nullptr) {
    node.epoch = counters_->epoch();
    node.received = counters_->received();
    node.verdicts = counters_->verdicts();
  }
}

void Delivery::describe(Status& status) const {
  describe_dataplane(status.node);
  StatusSource source{
      *intent_, tables_,
      [this](const Address& address) -> const NextHopState& { return next_hops_->get(address); },
      [this](const ServiceKey& key) {
        if (counters_ == nullptr) return Traffic{};
        return book_.service(key, *counters_).value_or(Traffic{});
      },
      [this](const std::string& pool, const Address& address) {
        if (counters_ == nullptr) return Traffic{};
        return book_.backend(pool, address, *counters_).value_or(Traffic{});
      }};
  make_pools_and_services(source, status);
}

Result<Explanation> Delivery::explain_flow(const Endpoint& client,
                                           const ServiceKey& service) const {
  const Intent& intent = applied_ != nullptr ? *applied_ : *intent_;
  auto explanation = explain(
      client, service, intent, tables_,
      [this](const Address& address) -> const NextHopState& { return next_hops_->get(address); });
  if (explanation) explanation->generation = adoption_.generation;
  return explanation;
}

}  // namespace guideway
