// SPDX-License-Identifier: Apache-2.0
// For tests: an event loop in a thread of its own, and waiting for what happens in it.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <thread>

#include "controlplane/event_loop.h"

namespace guideway {

class LoopThread {
 public:
  LoopThread() : loop_(std::move(*EventLoop::create())), thread_([this] { loop_->run(); }) {}
  ~LoopThread() { stop(); }

  EventLoop& loop() { return *loop_; }

  void stop() {
    loop_->stop();
    if (thread_.joinable()) thread_.join();
  }

  // Runs `fn` in the loop and waits.
  template <typename Fn>
  auto operator()(Fn&& fn) {
    if constexpr (std::is_void_v<std::invoke_result_t<Fn>>) {
      EXPECT_TRUE(loop_->call(fn));
    } else {
      return *loop_->call(fn);
    }
  }

  // Until `condition`, evaluated in the loop, holds; false if it does not within `limit`.
  bool eventually(const std::function<bool()>& condition,
                  std::chrono::seconds limit = std::chrono::seconds(20)) {
    auto held = std::make_shared<std::promise<void>>();
    auto future = held->get_future();
    auto timer = std::make_shared<EventLoop::TimerId>(0);
    (*this)([&] {
      *timer = loop_->every(std::chrono::milliseconds(1), [this, condition, held, timer] {
        if (!condition()) return;
        loop_->cancel(*timer);
        held->set_value();
      });
    });
    const bool ok = future.wait_for(limit) == std::future_status::ready;
    (*this)([&] { loop_->cancel(*timer); });
    return ok;
  }

 private:
  std::unique_ptr<EventLoop> loop_;
  std::thread thread_;
};

}  // namespace guideway
