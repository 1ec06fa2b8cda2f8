// SPDX-License-Identifier: Apache-2.0
#include "controlplane/delivery.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>
#include <utility>

#include "controlplane/announce_services.h"
#include "controlplane/pool_plan.h"
#include "dataplane/verdict.h"

namespace guideway {
namespace {

constexpr std::chrono::seconds kRetry{1};
constexpr std::chrono::seconds kRefusedRetryMax{30};
constexpr std::chrono::seconds kBookRetry{5};
constexpr std::chrono::milliseconds kHeartbeatLook{100};
constexpr std::chrono::seconds kWaitMax{6};   // over what the API waits
constexpr std::chrono::seconds kConnects{1};  // a start: the dataplane gets so long to say hello
constexpr size_t kNextHopLinesMax = 20;

CounterBook open_book(const std::string& path) {
  auto book = CounterBook::load(path);
  if (book) return std::move(*book);
  spdlog::warn("counters: totals per service and backend start anew: {}", book.error().text());
  return CounterBook(path);
}

void add_backends(const Intent& intent, std::set<Address>& out) {
  for (const auto& [name, pool] : intent.pools) {
    for (const Address& address : table_addresses(pool)) out.insert(address);
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
  for (EventLoop::TimerId timer : {retry_, refused_retry_, book_retry_, heartbeat_timer_}) {
    loop_.cancel(timer);
  }
}

Result<std::unique_ptr<Delivery>> Delivery::create(EventLoop& loop, const NodeConfig& config,
                                                   const std::string& edge_object) {
  std::unique_ptr<Delivery> delivery(new Delivery(loop, config));
  if (auto opened = delivery->open(edge_object); !opened) return tl::unexpected(opened.error());
  return delivery;
}

Result<void> Delivery::open(const std::string& edge_object) {
  NextHops::Config hops;
  hops.source4 = config_.tunnel_source4;
  hops.source6 = config_.tunnel_source6;
  auto next_hops = NextHops::create(
      loop_, hops, [this](const std::vector<Address>& changed) { on_next_hops(changed); });
  if (!next_hops) return tl::unexpected(next_hops.error());
  next_hops_ = std::move(*next_hops);
  health_ = std::make_unique<Health>(
      loop_, config_, edge_object,
      [this](const Address& address) -> const NextHopState& { return next_hops_->get(address); },
      [this](bool released) {
        if (released) {
          dirty_ = true;
          advance();
        }
        // The dataplane comes first.
        if (announce_ == 0) announce_ = loop_.after({}, [this] { tell_announcer(); });
      });
  Routes::Config table;
  table.table = config_.route_table;
  table.rule_priority = config_.rule_priority;
  auto routes = Routes::create(loop_, table);
  if (!routes) return tl::unexpected(routes.error());
  routes_ = std::move(*routes);
  auto announcer = Announcer::create(loop_, config_);
  if (!announcer) return tl::unexpected(announcer.error());
  announcer_ = std::move(*announcer);
  // Totals of a dataplane that is away; its successor sends them by itself.
  if (auto counters = Counters::open(config_.counters_path())) {
    counters_ = std::move(*counters);
    book_.opened(*counters_);
  }
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
  changed_ = !first;
  if (changed_) hold_problem_.clear();
  want_next_hops_and_routes();
  health_->set_intent(intent_);
  if (first) {
    began_ = EventLoop::Clock::now();
    publisher_->start();
    heartbeat_timer_ = loop_.every(kHeartbeatLook, [this] { look_at_heartbeats(); });
  }
  advance();
}

std::optional<Adoption> Delivery::running() const {
  if (!publisher_->connected()) return {};
  if (adoption_.generation != 0) return adoption_;
  return Adoption{publisher_->info()->generation, publisher_->info()->revision, 0};
}

std::future<void> Delivery::adopted(uint64_t revision) {
  std::promise<void> promise;
  std::future<void> future = promise.get_future();
  bool is_there = adoption_.generation != 0 && adoption_.revision >= revision;
  if (is_there || is_hopeless(revision)) {
    promise.set_value();
  } else {
    waiters_.push_back({revision, EventLoop::Clock::now() + kWaitMax, std::move(promise)});
  }
  return future;
}

bool Delivery::is_starting() const {
  return EventLoop::Clock::now() - began_ <= kConnects;
}

bool Delivery::is_hopeless(uint64_t revision) const {
  if (!publisher_->connected()) return !is_starting();
  return !hold_problem_.empty() || (refused_retry_ != 0 && refused_revision_ >= revision);
}

template <typename Answered>
void Delivery::answer_waiters(Answered answered) {
  auto end = std::partition(waiters_.begin(), waiters_.end(),
                            [&](const Waiter& waiter) { return !answered(waiter); });
  for (auto waiter = end; waiter != waiters_.end(); ++waiter) waiter->promise.set_value();
  waiters_.erase(end, waiters_.end());
}

void Delivery::advance() {
  if (intent_ == nullptr) return;
  if (!builder_.busy() && applied_ != intent_) builder_.start(intent_, tables_);
  if (dirty_ && may_publish()) publish();
}

bool Delivery::may_publish() const {
  if (in_flight_ != 0 || applied_ == nullptr || !publisher_->connected()) return false;
  if (!hold_problem_.empty()) return false;
  // The image that runs knows its next hops: one without them would stop the traffic for a moment.
  bool runs = publisher_->info()->generation != 0;
  return !first_ || ((!runs || next_hops_->settled()) && health_->settled());
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
  backends.merge(Health::watched(*intent_));
  next_hops_->want(backends);
  // What the counters say was adopted before the dataplane says it.
  bool unsure =
      counters_ != nullptr && !publisher_->connected() && counters_->revision() > intent_->revision;
  bool is_empty = intent_->revision == 0 && !publisher_->connected();
  if (!changed_ && (unsure || is_empty || !hold_problem_.empty())) return;
  if (auto set = routes_->set(vips); !set) spdlog::warn("routes: {}", set.error().text());
  announces_ = true;
  tell_announcer();
}

void Delivery::tell_announcer() {
  loop_.cancel(std::exchange(announce_, 0));
  // Before the first verdicts nothing is known that could be worth a change.
  if (!announces_ || !health_->settled()) return;
  announcer_->set_services(announce_services(
      *intent_, [this](const std::string& pool) { return health_->pool(pool); }, lone_));
}

bool Delivery::serves() const {
  return alive_ && announces_ && announcer_->mode().mode == NodeMode::normal;
}

void Delivery::set_lone(const std::map<std::string, std::string>& pools) {
  if (std::exchange(lone_, pools) != pools) tell_announcer();
}

void Delivery::publish() {
  dirty_ = false;
  loop_.cancel(std::exchange(refused_retry_, 0));
  uint64_t generation =
      std::max({publisher_->info()->generation, book_.last_generation(), last_generation_,
                counters_ != nullptr ? counters_->generation() : 0}) +
      1;
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

// Totals are worth less than the change: without a book that can be saved new names share one.
void Delivery::claim_counters(uint64_t generation) {
  auto claimed = book_.claim(*applied_, generation, counters_.get());
  std::string problem =
      claimed ? ""
              : "new services and backends have no totals: the counter book cannot be saved: " +
                    claimed.error().text();
  if (problem != book_problem_) {
    if (!problem.empty()) spdlog::error("{}", problem);
    if (problem.empty()) spdlog::info("the counter book is saved again");
  }
  book_problem_ = std::move(problem);
  loop_.cancel(std::exchange(book_retry_, 0));
  if (!claimed) book_retry_ = loop_.after(kBookRetry, [this] { retry_counters(); });
}

void Delivery::retry_counters() {
  book_retry_ = 0;
  claim_counters(std::max(last_generation_, book_.last_generation()) + 1);
  if (!book_problem_.empty()) return;
  dirty_ = true;
  advance();
}

Result<void> Delivery::build_and_send(uint64_t generation) {
  auto start = EventLoop::Clock::now();
  claim_counters(generation);
  ImageNode node;
  node.generation = generation;
  node.ports = publisher_->info()->ports;
  node.layout = publisher_->info()->layout;
  node.next_hop = [this](const Address& address) -> const NextHopState& {
    return next_hops_->get(address);
  };
  node.release = [this](const std::string& pool, const Address& address) {
    return health_->release(pool, address);
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
  sent_digest_ = digest_of(tables_);
  announcer_->on_published(generation, vips_of(*applied_));
  first_ = false;
  health_->published(generation);
  sent_at_ = EventLoop::Clock::now();
  spdlog::info(
      "published generation={} revision={} services={} pools={} root_bytes={} tables_sent={} "
      "made_ms={:.1f}",
      generation, applied_->revision, applied_->services.size(), applied_->pools.size(), bytes,
      publisher_->tables_sent(), since_ms(start));
  return {};
}

void Delivery::on_next_hops(const std::vector<Address>& changed) {
  health_->ways_changed(changed);
  const std::set<Address> watched = Health::watched(*intent_);
  size_t lines = 0;
  for (const Address& address : changed) {
    if (watched.contains(address)) continue;
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
  if (!changed.empty()) dirty_ = true;
  advance();
}

void Delivery::on_connected(const DataplaneInfo& info, UniqueFd fd) {
  spdlog::info("dataplane connected pid={} workers={} ports={} generation={} revision={} layout={}",
               info.pid, info.workers, info.ports.size(), info.generation, info.revision,
               info.layout);
  auto counters = Counters::open(std::move(fd));
  if (counters) {
    counters_ = std::move(*counters);
    book_.opened(*counters_);
    book_.adopted(info.generation, *counters_);
  } else {
    spdlog::error("{}", counters.error().text());
  }
  health_->set_dataplane(++connections_);
  heartbeats_ = {};
  announcer_->on_connected(info.generation);
  // It has just said hello; whether its workers live is seen by the second look.
  alive_ = counters_ != nullptr;
  in_flight_ = 0;
  adoption_ = {};
  first_ = true;
  refused_.reset();
  refused_wait_ = {};
  loop_.cancel(std::exchange(refused_retry_, 0));
  hold_problem_.clear();
  if (!changed_ && info.revision > intent_->revision) {
    hold_problem_ =
        "nothing is published: the dataplane runs revision " + std::to_string(info.revision) +
        ", and " + config_.state_dir + "/intent.json " +
        (intent_->revision == 0 ? "was missing or empty"
                                : "is at revision " + std::to_string(intent_->revision)) +
        "; restore that file and restart the control plane, or make any change to "
        "publish the intent as it is now";
    spdlog::error("{}", hold_problem_);
  } else {
    want_next_hops_and_routes();
  }
  next_hops_->set_ports(std::set<std::string>(info.ports.begin(), info.ports.end()));
  next_hops_->set_held({});
  health_->all_ways_changed();
  dirty_ = true;
  advance();
}

void Delivery::on_ack(uint64_t generation, uint64_t revision, bool adopted,
                      const std::string& reason) {
  if (adopted) {
    spdlog::info("adopted generation={} revision={} after_ms={:.1f}", generation, revision,
                 since_ms(sent_at_));
    health_->adopted(generation);
    adoption_ = {generation, revision, sent_digest_};
    announcer_->on_adopted(generation);
    refused_.reset();
    refused_wait_ = {};
    if (counters_ != nullptr && book_.adopted(generation, *counters_)) dirty_ = true;
    answer_waiters([&](const Waiter& waiter) { return waiter.revision <= revision; });
  } else {
    on_refused(generation, revision, reason);
  }
  if (generation >= in_flight_) in_flight_ = 0;
  advance();
  if (adopted && on_adoption_) on_adoption_();
}

void Delivery::on_refused(uint64_t generation, uint64_t revision, const std::string& reason) {
  refused_wait_ = refused_wait_ == refused_wait_.zero()
                      ? EventLoop::Clock::duration(kRetry)
                      : std::min<EventLoop::Clock::duration>(refused_wait_ * 2, kRefusedRetryMax);
  spdlog::error("refused generation={} revision={}: {}; again in {} s", generation, revision,
                reason, std::chrono::floor<std::chrono::seconds>(refused_wait_).count());
  refused_ = RefusedImage{generation, reason};
  refused_revision_ = revision;
  loop_.cancel(refused_retry_);
  refused_retry_ = loop_.after(refused_wait_, [this] {
    refused_retry_ = 0;
    dirty_ = true;
    advance();
  });
  answer_waiters([&](const Waiter& waiter) { return waiter.revision <= revision; });
}

void Delivery::on_disconnected(const std::string& why) {
  spdlog::warn("dataplane disconnected: {}", why);
  health_->set_dataplane(0);
  in_flight_ = 0;
  announcer_->on_disconnected();
  std::set<std::string> taps;
  for (const PortConfig& port : config_.ports)
    if (port.interface.empty()) taps.insert(port.tap);
  next_hops_->set_held(taps);
  adoption_ = {};
  dirty_ = true;
  loop_.cancel(std::exchange(refused_retry_, 0));
  answer_waiters([](const Waiter&) { return true; });
}

void Delivery::look_at_heartbeats() {
  auto now_is = EventLoop::Clock::now();
  answer_waiters(
      [&](const Waiter& waiter) { return now_is >= waiter.until || is_hopeless(waiter.revision); });
  bool now_alive = false;
  bool beats = false;
  if (counters_ != nullptr) {
    Heartbeats now = counters_->heartbeats();
    beats = !heartbeats_.workers.empty() && guideway::alive(heartbeats_, now);
    // A dataplane that has just connected gets until the next look.
    now_alive = heartbeats_.workers.empty() ? alive_ : beats;
    heartbeats_ = std::move(now);
  }
  if (now_alive != alive_) {
    spdlog::log(now_alive ? spdlog::level::info : spdlog::level::warn, "dataplane {}",
                now_alive ? "alive" : "not alive: its heartbeat stands still");
  }
  alive_ = now_alive;
  uint64_t forwarded =
      counters_ == nullptr ? 0 : counters_->verdicts()[static_cast<size_t>(Verdict::forwarded)];
  announcer_->set_unreadable(publisher_->forwards_by_another_layout());
  announcer_->look(beats, forwarded);
}

}  // namespace guideway
