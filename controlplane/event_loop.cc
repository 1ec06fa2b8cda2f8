// SPDX-License-Identifier: Apache-2.0
#include "controlplane/event_loop.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include <cerrno>
#include <climits>
#include <cstring>

namespace guideway {
namespace {

constexpr uint64_t kWakeId = 0;  // next_id_ starts above it
constexpr int kEventsMax = 64;
// What other threads ask for must not keep netlink and the dataplane waiting.
constexpr auto kPostedAtOnce = std::chrono::milliseconds(5);

}  // namespace

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  std::unique_ptr<EventLoop> loop(new EventLoop);
  loop->epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  loop->wake_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!loop->epoll_ || !loop->wake_) return fail("event loop", std::strerror(errno));
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kWakeId}};
  if (epoll_ctl(loop->epoll_.get(), EPOLL_CTL_ADD, loop->wake_.get(), &event) != 0)
    return fail("event loop", std::strerror(errno));
  return loop;
}

EventLoop::~EventLoop() = default;

Result<void> EventLoop::watch(int fd, uint32_t events, FdCallback callback) {
  unwatch(fd);
  const uint64_t id = next_id_++;
  epoll_event event{.events = events, .data = {.u64 = id}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return fail("event loop", std::strerror(errno));
  watch_of_fd_[fd] = id;
  watches_[id] = {fd, std::make_shared<FdCallback>(std::move(callback))};
  return {};
}

Result<void> EventLoop::change_events(int fd, uint32_t events) {
  const auto it = watch_of_fd_.find(fd);
  if (it == watch_of_fd_.end()) return fail("event loop", "descriptor is not watched");
  epoll_event event{.events = events, .data = {.u64 = it->second}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0)
    return fail("event loop", std::strerror(errno));
  return {};
}

void EventLoop::unwatch(int fd) {
  const auto it = watch_of_fd_.find(fd);
  if (it == watch_of_fd_.end()) return;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  watches_.erase(it->second);
  watch_of_fd_.erase(it);
}

EventLoop::TimerId EventLoop::after(Clock::duration delay, Callback callback) {
  return add_timer(delay, Clock::duration::zero(), std::move(callback));
}

EventLoop::TimerId EventLoop::every(Clock::duration period, Callback callback) {
  return add_timer(period, std::max<Clock::duration>(period, std::chrono::microseconds(1)),
                   std::move(callback));
}

EventLoop::TimerId EventLoop::add_timer(Clock::duration delay, Clock::duration period,
                                        Callback callback) {
  const TimerId id = next_id_++;
  const auto due = Clock::now() + delay;
  timers_[{due, id}] = {period, std::move(callback)};
  timer_due_[id] = due;
  return id;
}

void EventLoop::cancel(TimerId id) {
  if (id != 0 && id == running_timer_) running_timer_ = 0;
  const auto it = timer_due_.find(id);
  if (it == timer_due_.end()) return;
  timers_.erase({it->second, id});
  timer_due_.erase(it);
}

bool EventLoop::post(Callback callback) {
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return false;
    posted_.push_back(std::move(callback));
  }
  wake();
  return true;
}

void EventLoop::wake() {
  const uint64_t one = 1;
  // Fails only when the counter is full, and then the loop is awake anyway.
  [[maybe_unused]] const ssize_t n = write(wake_.get(), &one, sizeof one);
}

Result<void> EventLoop::on_signals(SignalCallback callback) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  if (const int error = pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0)
    return fail("signals", std::strerror(error));
  if (signals_) unwatch(signals_.get());
  signals_.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return fail("signals", std::strerror(errno));
  signal_callback_ = std::move(callback);
  return watch(signals_.get(), EPOLLIN, [this](uint32_t) { read_signals(); });
}

void EventLoop::read_signals() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof info) == sizeof info) {
    const SignalCallback callback = signal_callback_;
    callback(static_cast<int>(info.ssi_signo));
  }
}

void EventLoop::stop() {
  stopping_.store(true);
  wake();
}

int EventLoop::wait_ms() {
  if (!batch_.empty()) return 0;
  {
    // Posted while an earlier batch was under way: its wake-up has been used up.
    const std::lock_guard lock(mutex_);
    if (!posted_.empty()) return 0;
  }
  if (timers_.empty()) return -1;
  const auto left = timers_.begin()->first.first - Clock::now();
  if (left <= Clock::duration::zero()) return 0;
  // Rounded up: a timer must not be found early, and the loop not spin until it is due.
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  return static_cast<int>(std::min<long long>(ms, INT_MAX));
}

void EventLoop::run_posted(Clock::duration limit) {
  if (batch_.empty()) {
    const std::lock_guard lock(mutex_);
    batch_.swap(posted_);
  }
  const auto start = Clock::now();
  while (!batch_.empty()) {
    const Callback callback = std::move(batch_.front());
    batch_.pop_front();
    callback();
    if (Clock::now() - start >= limit) break;
  }
}

void EventLoop::run_timers() {
  const auto now = Clock::now();
  // Timers made by these callbacks have higher ids or later times; only those due now run.
  while (!timers_.empty() && timers_.begin()->first.first <= now && !stopping_.load()) {
    auto node = timers_.extract(timers_.begin());
    const TimerId id = node.key().second;
    Timer& timer = node.mapped();
    timer_due_.erase(id);
    running_timer_ = id;
    timer.callback();
    if (running_timer_ == id && timer.period > Clock::duration::zero()) {
      auto due = node.key().first + timer.period;
      if (due <= now) due = now + timer.period;
      timer_due_[id] = due;
      node.key().first = due;
      timers_.insert(std::move(node));
    }
    running_timer_ = 0;
  }
}

void EventLoop::run() {
  thread_.store(std::this_thread::get_id());
  epoll_event events[kEventsMax];
  while (!stopping_.load()) {
    const int n = epoll_wait(epoll_.get(), events, kEventsMax, wait_ms());
    for (int i = 0; i < n && !stopping_.load(); ++i) {
      if (events[i].data.u64 == kWakeId) {
        uint64_t count;
        [[maybe_unused]] const ssize_t got = read(wake_.get(), &count, sizeof count);
        continue;
      }
      const auto it = watches_.find(events[i].data.u64);
      if (it == watches_.end()) continue;  // unwatched by an earlier callback of this round
      const auto callback = it->second.callback;
      (*callback)(events[i].events);
    }
    run_posted(kPostedAtOnce);
    run_timers();
  }
  // What was posted before stop() runs; nothing is taken from then on.
  while (true) {
    run_posted(Clock::duration::max());
    const std::lock_guard lock(mutex_);
    ended_ = posted_.empty();
    if (ended_) break;
  }
  thread_.store({});
}

}  // namespace guideway
