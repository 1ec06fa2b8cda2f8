// SPDX-License-Identifier: Apache-2.0
// The control plane's one event loop: one thread, epoll. Everything the control plane knows lives
// in that thread; other threads (HTTP) come in by post() and call(). A callback runs to its end
// before the next begins, and must not block.
//
// Unless said otherwise a method is called in the loop's thread, or before run().
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "controlplane/result.h"
#include "controlplane/unique_fd.h"

namespace guideway {

class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  using Callback = std::function<void()>;
  using FdCallback = std::function<void(uint32_t events)>;  // EPOLLIN, EPOLLOUT, EPOLLHUP, ...
  using SignalCallback = std::function<void(int signal)>;
  using TimerId = uint64_t;  // never 0, never given twice

  static Result<std::unique_ptr<EventLoop>> create();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Level-triggered. The descriptor stays the caller's: unwatch() it before closing it. Watching a
  // descriptor again replaces its events and callback. A callback may unwatch any descriptor,
  // its own included; no callback of an unwatched descriptor runs afterwards.
  Result<void> watch(int fd, uint32_t events, FdCallback callback);
  Result<void> change_events(int fd, uint32_t events);
  void unwatch(int fd);

  // Never earlier than asked. A period missed is skipped, not made up for. Cancelling an id that
  // has run, or 0, does nothing.
  TimerId after(Clock::duration delay, Callback callback);
  TimerId every(Clock::duration period, Callback callback);
  void cancel(TimerId id);

  // From any thread: runs the callback in the loop's thread, in order of posting. False, and the
  // callback is dropped, once the loop has ended. However many are posted, descriptors and timers
  // get their turn every 5 ms (and after each callback that takes longer).
  bool post(Callback callback);

  // From any thread: runs `fn` in the loop's thread and waits for what it returns. Nothing (for
  // a void `fn`: false) if the loop ended first. In the loop's own thread it runs at once. What
  // `fn` throws, call() throws; the loop goes on.
  template <typename Fn>
  auto call(Fn&& fn);

  // Blocks SIGTERM and SIGINT (for this thread and those it starts later: call it before any other
  // thread is started) and has `callback` called in the loop instead.
  Result<void> on_signals(SignalCallback callback);

  // Until stop(). Whatever was posted before stop() still runs; timers and descriptors do not.
  // A loop runs once.
  void run();
  void stop();  // from any thread, callbacks included

  bool in_loop() const { return thread_.load() == std::this_thread::get_id(); }

 private:
  struct Watch {
    int fd;
    std::shared_ptr<FdCallback> callback;
  };
  struct Timer {
    Clock::duration period;  // zero: one-shot
    Callback callback;
  };
  using TimerKey = std::pair<Clock::time_point, TimerId>;

  EventLoop() = default;
  TimerId add_timer(Clock::duration delay, Clock::duration period, Callback callback);
  int wait_ms();
  void run_posted(Clock::duration limit);
  void run_timers();
  void read_signals();
  void wake();

  UniqueFd epoll_;
  UniqueFd wake_;
  UniqueFd signals_;
  SignalCallback signal_callback_;
  std::atomic<std::thread::id> thread_{};
  std::atomic<bool> stopping_{false};

  uint64_t next_id_ = 1;
  std::unordered_map<int, uint64_t> watch_of_fd_;
  std::unordered_map<uint64_t, Watch> watches_;
  std::map<TimerKey, Timer> timers_;
  std::unordered_map<TimerId, Clock::time_point> timer_due_;
  TimerId running_timer_ = 0;   // being called: cancel() of it stops its period
  std::deque<Callback> batch_;  // taken from posted_, to be run

  std::mutex mutex_;  // guards posted_ and ended_
  std::deque<Callback> posted_;
  bool ended_ = false;
};

template <typename Fn>
auto EventLoop::call(Fn&& fn) {
  using R = std::invoke_result_t<Fn>;
  if constexpr (std::is_void_v<R>) {
    const auto done = call([&fn] {
      fn();
      return true;
    });
    return done.has_value();
  } else {
    if (in_loop()) return std::optional<R>(fn());
    // If the loop ends first the callback is destroyed unrun, and the promise in it breaks.
    auto promise = std::make_shared<std::promise<R>>();
    std::future<R> future = promise->get_future();
    post([&fn, promise = std::exchange(promise, nullptr)] {
      try {
        promise->set_value(fn());
      } catch (...) {
        promise->set_exception(std::current_exception());
      }
    });
    std::optional<R> result;
    try {
      result = future.get();
    } catch (const std::future_error& error) {
      if (error.code() != std::future_errc::broken_promise) throw;
    }
    return result;
  }
}

}  // namespace guideway
