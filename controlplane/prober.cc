// SPDX-License-Identifier: Apache-2.0
#include "controlplane/prober.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "controlplane/http_prober.h"
#include "controlplane/priority.h"
#include "controlplane/probe_engine.h"
#include "controlplane/probe_socket.h"
#include "controlplane/unique_fd.h"

namespace guideway {
namespace {

constexpr int kFifoPriority = 10;
constexpr int kNice = -10;
constexpr uint64_t kShowNs = 50 * kMs;

uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// Of the calling thread.
void raise_priority() {
  const sched_param priority{.sched_priority = kFifoPriority};
  if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority) == 0) return;
  set_thread_nice(kNice);
  // Else an ordinary thread's timers are up to 50 us late.
  prctl(PR_SET_TIMERSLACK, 1'000UL);
}

}  // namespace

class Prober::Impl {
 public:
  Impl(EventLoop& loop, OnChanges on_changes, const gw_probe_secret& secret,
       std::string edge_object, UniqueFd wake)
      : loop_(loop),
        callback_(std::make_shared<OnChanges>(std::move(on_changes))),
        wake_(std::move(wake)),
        engine_(secret,
                {.make_path =
                     [secret, edge_object = std::move(edge_object)](const ProbePort& port) {
                       return std::make_unique<ProbeSocket>(port.interface, port.owned, edge_object,
                                                            secret);
                     },
                 .start_http = [this](HttpRequest request) { http_->start(std::move(request)); }}) {
  }

  ~Impl() {
    stopping_.store(true);
    wake();
    if (thread_.joinable()) thread_.join();
  }

  Result<void> start() {
    auto http = HttpProber::create([this](HttpAnswer answer) {
      {
        const std::lock_guard lock(mutex_);
        pending_.http.push_back(std::move(answer));
      }
      wake();
    });
    if (!http) return tl::unexpected(std::move(http.error()));
    http_ = std::move(*http);
    thread_ = std::thread([this] { run(); });
    return {};
  }

  void set_targets(std::vector<ProbeTarget> targets) {
    {
      const std::lock_guard lock(mutex_);
      pending_.targets = std::move(targets);
    }
    wake();
  }

  void set_ports(std::vector<ProbePort> ports) {
    {
      const std::lock_guard lock(mutex_);
      pending_.ports = std::move(ports);
    }
    wake();
  }

  std::vector<ProbeSight> sights() const {
    const std::lock_guard lock(mutex_);
    return sights_;
  }

  std::string problem(const std::string& interface) const {
    const std::lock_guard lock(mutex_);
    const auto it = problems_.find(interface);
    return it == problems_.end() ? "" : it->second;
  }

 private:
  struct Pending {
    std::optional<std::vector<ProbeTarget>> targets;
    std::optional<std::vector<ProbePort>> ports;
    std::vector<HttpAnswer> http;
  };

  void wake() {
    const uint64_t one = 1;
    // Fails only when the counter is full, and then the thread is awake anyway.
    [[maybe_unused]] const ssize_t n = write(wake_.get(), &one, sizeof one);
  }

  void run() {
    pthread_setname_np(pthread_self(), "prober");
    raise_priority();
    while (!stopping_.load()) {
      const uint64_t now = now_ns();
      take_pending(now);
      const uint64_t next = engine_.step(now);
      show(now);
      sleep_until(next, now);
    }
  }

  // Whoever holds the lock may have been preempted, and this thread has no time.
  void take_pending(uint64_t now) {
    Pending pending;
    {
      const std::unique_lock lock(mutex_, std::try_to_lock);
      if (!lock) return;
      std::swap(pending, pending_);
    }
    // Targets refer to ports.
    if (pending.ports) engine_.set_ports(std::move(*pending.ports), now);
    if (pending.targets) engine_.set_targets(std::move(*pending.targets), now);
    for (HttpAnswer& answer : pending.http) engine_.take_http(std::move(answer));
    if (pending.ports || pending.targets) shown_ns_ = 0;
  }

  void show(uint64_t now) {
    if (!engine_.has_changes() && now < shown_ns_ + kShowNs) return;
    shown_ns_ = now;
    auto sights = engine_.sights();
    auto problems = engine_.problems();
    {
      const std::lock_guard lock(mutex_);
      sights_.swap(sights);
      problems_.swap(problems);
    }
    if (!engine_.has_changes()) return;
    loop_.post([callback = std::weak_ptr(callback_), changes = engine_.take_changes()] {
      if (const auto alive = callback.lock()) (*alive)(changes);
    });
  }

  // This thread goes before all ordinary ones: however much there is to do, it leaves them a fifth.
  void sleep_until(uint64_t next, uint64_t begun) {
    const uint64_t now = now_ns();
    const uint64_t wait = std::max(next > now ? next - now : 0, (now - begun) / 4);
    const timespec timeout{.tv_sec = static_cast<time_t>(wait / 1'000'000'000),
                           .tv_nsec = static_cast<long>(wait % 1'000'000'000)};
    pollfd fd{.fd = wake_.get(), .events = POLLIN, .revents = 0};
    if (ppoll(&fd, 1, &timeout, nullptr) <= 0) return;
    uint64_t count;
    [[maybe_unused]] const ssize_t n = read(wake_.get(), &count, sizeof count);
  }

  EventLoop& loop_;
  std::shared_ptr<OnChanges>
      callback_;  // gone with the prober: what was posted before does nothing
  UniqueFd wake_;
  ProbeEngine engine_;  // the thread's
  uint64_t shown_ns_ = 0;
  std::atomic<bool> stopping_{false};

  mutable std::mutex mutex_;  // guards what follows
  Pending pending_;
  std::vector<ProbeSight> sights_;
  std::map<std::string, std::string> problems_;

  std::unique_ptr<HttpProber> http_;
  std::thread thread_;
};

Result<std::unique_ptr<Prober>> Prober::create(EventLoop& loop, std::string edge_object,
                                               OnChanges on_changes) {
  const UniqueFd raw(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (!raw) return fail("prober", "packet socket: " + std::string(std::strerror(errno)));
  gw_probe_secret secret;
  if (getrandom(&secret, sizeof secret, 0) != sizeof secret)
    return fail("prober", "getrandom: " + std::string(std::strerror(errno)));
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return fail("prober", "eventfd: " + std::string(std::strerror(errno)));
  auto impl = std::make_unique<Impl>(loop, std::move(on_changes), secret, std::move(edge_object),
                                     std::move(wake));
  if (auto started = impl->start(); !started) return tl::unexpected(started.error());
  return std::unique_ptr<Prober>(new Prober(std::move(impl)));
}

Prober::Prober(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Prober::~Prober() = default;

void Prober::set_targets(std::vector<ProbeTarget> targets) {
  impl_->set_targets(std::move(targets));
}
void Prober::set_ports(std::vector<ProbePort> ports) {
  impl_->set_ports(std::move(ports));
}
std::vector<ProbeSight> Prober::sights() const {
  return impl_->sights();
}
std::string Prober::problem(const std::string& interface) const {
  return impl_->problem(interface);
}

}  // namespace guideway
