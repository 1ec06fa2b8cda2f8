// SPDX-License-Identifier: Apache-2.0
// Builds tables in a thread of its own, one intent at a time: a big table takes seconds, and the
// loop must not.
#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "controlplane/event_loop.h"
#include "controlplane/image.h"
#include "controlplane/intent.h"
#include "controlplane/result.h"

namespace guideway {

class TableBuilder {
 public:
  // Called in the loop's thread.
  using Done = std::function<void(std::shared_ptr<const Intent>, Result<TableMap>)>;

  TableBuilder(EventLoop& loop, Done done);
  ~TableBuilder();  // waits for a build under way; its result is dropped if the loop has ended
  TableBuilder(const TableBuilder&) = delete;
  TableBuilder& operator=(const TableBuilder&) = delete;

  bool busy() const { return busy_; }
  // Only when not busy. Tables of unchanged pools are shared with `before`.
  void start(std::shared_ptr<const Intent> intent, TableMap before);

 private:
  EventLoop& loop_;
  Done done_;
  std::thread thread_;
  bool busy_ = false;
};

}  // namespace guideway
