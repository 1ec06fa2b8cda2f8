// SPDX-License-Identifier: Apache-2.0
// Threads that come when there is work and go when there is none for a while.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

namespace guideway {

class TaskPool {
 public:
  TaskPool(unsigned threads_max, unsigned waiting_max);
  ~TaskPool();  // shutdown()
  TaskPool(const TaskPool&) = delete;
  TaskPool& operator=(const TaskPool&) = delete;

  // False, and the task is not taken, if all threads are busy and `waiting_max` tasks wait already.
  bool submit(std::function<void()> task);
  // Runs what waits, and waits for it. Nothing may be submitted afterwards.
  void shutdown();

 private:
  // Outlives the pool as long as a thread needs it.
  struct State {
    std::mutex mutex;
    std::condition_variable work;
    std::condition_variable ended;
    std::deque<std::function<void()>> tasks;
    unsigned threads = 0;
    unsigned busy = 0;  // threads that run a task
    bool stopping = false;
  };
  static void work(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_;
  unsigned threads_max_;
  unsigned waiting_max_;
};

}  // namespace guideway
