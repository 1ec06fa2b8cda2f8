// SPDX-License-Identifier: Apache-2.0
// Scheduling priorities of the control plane's threads. A verdict is worth as much as the time in
// which it reaches the dataplane, so the loop comes before ordinary work; building tables does not.
#pragma once

#include <sys/resource.h>
#include <unistd.h>

namespace guideway {

inline constexpr int kLoopNice = -10;
inline constexpr int kBuilderNice = 0;

// The nice value of the calling thread. Without the right to raise it things are slower, that is
// all. Threads inherit it from their maker.
inline void set_thread_nice(int nice) {
  (void)setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), nice);
}

}  // namespace guideway
