// SPDX-License-Identifier: Apache-2.0
#include "controlplane/event_loop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/epoll.h>

#include <stdexcept>
#include <string>

#include "tests/controlplane/loop_thread.h"

namespace guideway {
namespace {

using std::chrono::milliseconds;

std::unique_ptr<EventLoop> make_loop() {
  return std::move(*EventLoop::create());
}

struct Pipe {
  UniqueFd out, in;
  Pipe() {
    int fds[2];
    EXPECT_EQ(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    out.reset(fds[0]);
    in.reset(fds[1]);
  }
  void put() { EXPECT_EQ(write(in.get(), "x", 1), 1); }
};

TEST(EventLoop, TimersRunInOrderAndNotEarly) {
  auto loop = make_loop();
  std::string order;
  const auto start = EventLoop::Clock::now();
  loop->after(milliseconds(20), [&] {
    order += 'c';
    EXPECT_GE(EventLoop::Clock::now() - start, milliseconds(20));
    loop->stop();
  });
  loop->after(milliseconds(1), [&] { order += 'a'; });
  loop->after(milliseconds(10), [&] { order += 'b'; });
  loop->run();
  EXPECT_EQ(order, "abc");
}

TEST(EventLoop, PeriodicTimerGoesOnUntilCancelledEvenByItself) {
  auto loop = make_loop();
  int runs = 0;
  EventLoop::TimerId id = 0;
  id = loop->every(milliseconds(1), [&] {
    if (++runs == 5) loop->cancel(id);
  });
  loop->after(milliseconds(50), [&] { loop->stop(); });
  loop->run();
  EXPECT_EQ(runs, 5);
}

TEST(EventLoop, CancelledTimerDoesNotRun) {
  auto loop = make_loop();
  bool ran = false;
  const auto id = loop->after(milliseconds(1), [&] { ran = true; });
  loop->cancel(id);
  loop->cancel(0);
  loop->cancel(id);
  loop->after(milliseconds(10), [&] { loop->stop(); });
  loop->run();
  EXPECT_FALSE(ran);
}

TEST(EventLoop, WatchesDescriptors) {
  auto loop = make_loop();
  Pipe pipe;
  int calls = 0;
  ASSERT_TRUE(loop->watch(pipe.out.get(), EPOLLIN, [&](uint32_t events) {
    EXPECT_TRUE(events & EPOLLIN);
    char c;
    EXPECT_EQ(read(pipe.out.get(), &c, 1), 1);
    if (++calls == 2) return loop->stop();
    pipe.put();
  }));
  pipe.put();
  loop->run();
  EXPECT_EQ(calls, 2);
}

TEST(EventLoop, AnUnwatchedDescriptorIsSilentAtOnce) {
  auto loop = make_loop();
  Pipe one, two;
  int calls = 0;
  // Both are ready in the same round; whichever comes first silences the other.
  const auto silence = [&](Pipe& other) {
    return [&](uint32_t) {
      ++calls;
      loop->unwatch(other.out.get());
      loop->stop();
    };
  };
  ASSERT_TRUE(loop->watch(one.out.get(), EPOLLIN, silence(two)));
  ASSERT_TRUE(loop->watch(two.out.get(), EPOLLIN, silence(one)));
  one.put();
  two.put();
  loop->run();
  EXPECT_EQ(calls, 1);
}

TEST(EventLoop, ADescriptorMayUnwatchItself) {
  auto loop = make_loop();
  Pipe pipe;
  int calls = 0;
  ASSERT_TRUE(loop->watch(pipe.out.get(), EPOLLIN, [&](uint32_t) {
    ++calls;
    loop->unwatch(pipe.out.get());
  }));
  pipe.put();
  loop->after(milliseconds(10), [&] { loop->stop(); });
  loop->run();
  EXPECT_EQ(calls, 1);
  EXPECT_FALSE(loop->change_events(pipe.out.get(), EPOLLIN));
}

TEST(EventLoop, PostsFromManyThreadsArriveOnceAndInOrder) {
  LoopThread loop;
  constexpr int kThreads = 4;
  constexpr int kPosts = 1000;
  std::vector<std::vector<int>> seen(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i) loop.loop().post([&, t, i] { seen[t].push_back(i); });
    });
  }
  for (auto& thread : threads) thread.join();
  loop([] {});
  for (const auto& one : seen) {
    ASSERT_EQ(one.size(), size_t{kPosts});
    for (int i = 0; i < kPosts; ++i) ASSERT_EQ(one[i], i);
  }
}

TEST(EventLoop, CallReturnsTheResult) {
  LoopThread loop;
  EXPECT_EQ(loop.loop().call([] { return 42; }), 42);
  EXPECT_TRUE(loop.loop().call([] {}));
  // Within the loop a call runs at once.
  EXPECT_EQ(loop([&] { return *loop.loop().call([] { return 7; }); }), 7);
  EXPECT_FALSE(loop.loop().in_loop());
  EXPECT_TRUE(loop([&] { return loop.loop().in_loop(); }));
}

TEST(EventLoop, WhatACallThrowsReachesTheCaller) {
  LoopThread loop;
  EXPECT_THROW(loop.loop().call([]() -> int { throw std::runtime_error("no"); }),
               std::runtime_error);
  EXPECT_THROW(loop.loop().call([] { throw std::runtime_error("no"); }), std::runtime_error);
  EXPECT_EQ(loop.loop().call([] { return 42; }), 42);
}

// Its wake-up is used up while the rest of an earlier batch still runs.
TEST(EventLoop, APostDuringALongBatchIsNotForgotten) {
  auto loop = make_loop();
  bool last = false;
  loop->post([&] {
    loop->post([&] {
      last = true;
      loop->stop();
    });
    const auto until = EventLoop::Clock::now() + milliseconds(8);
    while (EventLoop::Clock::now() < until) {
    }
  });
  loop->post([] {});
  loop->run();
  EXPECT_TRUE(last);
}

TEST(EventLoop, ManyPostsLeaveTurnsToDescriptorsAndTimers) {
  auto loop = make_loop();
  Pipe pipe;
  int posts = 0;
  int posts_before_fd = -1;
  int posts_before_timer = -1;
  std::string order;
  ASSERT_TRUE(loop->watch(pipe.out.get(), EPOLLIN, [&](uint32_t) {
    posts_before_fd = posts;
    loop->unwatch(pipe.out.get());
  }));
  constexpr int kPosts = 100;
  for (int i = 0; i < kPosts; ++i) {
    loop->post([&, i] {
      EXPECT_EQ(posts, i);
      if (++posts == 1) {
        pipe.put();
        loop->after(EventLoop::Clock::duration::zero(), [&] { posts_before_timer = posts; });
      }
      const auto until = EventLoop::Clock::now() + milliseconds(1);
      while (EventLoop::Clock::now() < until) {
      }
      if (posts == kPosts) loop->stop();
    });
  }
  loop->run();
  EXPECT_EQ(posts, kPosts);
  EXPECT_GT(posts_before_fd, 0);
  EXPECT_LE(posts_before_fd, 10);
  EXPECT_GT(posts_before_timer, 0);
  EXPECT_LE(posts_before_timer, 10);
}

TEST(EventLoop, AfterTheEndCallsAndPostsSayNo) {
  LoopThread loop;
  loop.stop();
  EXPECT_EQ(loop.loop().call([] { return 42; }), std::nullopt);
  EXPECT_FALSE(loop.loop().call([] {}));
  EXPECT_FALSE(loop.loop().post([] {}));
}

TEST(EventLoop, CallsUnderWayEndWithTheLoop) {
  LoopThread loop;
  std::vector<std::thread> threads;
  std::atomic<int> answered{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      while (loop.loop().call([] { return 1; })) ++answered;
    });
  }
  ASSERT_TRUE(loop.eventually([&] { return answered > 100; }));
  loop.stop();
  for (auto& thread : threads) thread.join();
}

TEST(EventLoop, SignalsComeAsCallbacks) {
  auto loop = make_loop();
  int got = 0;
  ASSERT_TRUE(loop->on_signals([&](int signal) {
    got = signal;
    loop->stop();
  }));
  kill(getpid(), SIGTERM);
  loop->run();
  EXPECT_EQ(got, SIGTERM);
}

}  // namespace
}  // namespace guideway
