// SPDX-License-Identifier: Apache-2.0
#include "controlplane/task_pool.h"

#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

namespace guideway {
namespace {

constexpr std::chrono::seconds kIdleMax{10};

}  // namespace

TaskPool::TaskPool(unsigned threads_max, unsigned waiting_max)
    : state_(std::make_shared<State>()), threads_max_(threads_max), waiting_max_(waiting_max) {}

TaskPool::~TaskPool() {
  shutdown();
}

bool TaskPool::submit(std::function<void()> task) {
  std::lock_guard lock(state_->mutex);
  size_t under_way = state_->tasks.size() + state_->busy;
  if (under_way >= size_t{threads_max_} + waiting_max_) return false;
  bool start = under_way >= state_->threads && state_->threads < threads_max_;
  state_->tasks.push_back(std::move(task));
  if (start) {
    try {
      std::thread(work, state_).detach();
      ++state_->threads;
    } catch (const std::system_error&) {
      // No more threads to be had: those that run take it in their turn.
      if (state_->threads == 0) {
        state_->tasks.pop_back();
        return false;
      }
    }
  }
  state_->work.notify_one();
  return true;
}

void TaskPool::work(const std::shared_ptr<State>& state) {
  std::unique_lock lock(state->mutex);
  for (;;) {
    state->work.wait_for(lock, kIdleMax, [&] { return !state->tasks.empty() || state->stopping; });
    if (state->tasks.empty()) break;
    std::function<void()> task = std::move(state->tasks.front());
    state->tasks.pop_front();
    ++state->busy;
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
    --state->busy;
  }
  --state->threads;
  state->ended.notify_all();
}

void TaskPool::shutdown() {
  std::unique_lock lock(state_->mutex);
  state_->stopping = true;
  state_->work.notify_all();
  state_->ended.wait(lock, [&] { return state_->threads == 0; });
}

}  // namespace guideway
