// SPDX-License-Identifier: Apache-2.0
// All keys with a prefix, read page by page at one revision of the store.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "controlplane/etcd_calls.h"
#include "controlplane/etcd_types.h"

namespace guideway {

class EtcdRangeRead : public std::enable_shared_from_this<EtcdRangeRead> {
 public:
  using Done = std::function<void(EtcdResult<EtcdRange>)>;

  static constexpr int64_t kPageKeys = 1000;
  static constexpr size_t kPageMost = 64 << 20;    // as JSON; fewer keys are asked for beyond it
  static constexpr size_t kRangeMost = 512 << 20;  // keys and values

  // In the CurlThread, and `done` as well. It keeps itself alive.
  static void start(EtcdCalls& calls, std::string prefix, Done done);

 private:
  EtcdRangeRead(EtcdCalls& calls, std::string prefix, Done done)
      : calls_(calls), prefix_(std::move(prefix)), done_(std::move(done)) {}
  void begin();
  void ask();
  void take(EtcdPage page);
  void take_error(EtcdCallError error);

  EtcdCalls& calls_;
  const std::string prefix_;
  Done done_;
  EtcdRange range_;
  std::string from_;
  size_t bytes_ = 0;
  int64_t page_keys_ = kPageKeys;
  int begun_ = 0;
};

}  // namespace guideway
