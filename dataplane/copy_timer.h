// SPDX-License-Identifier: Apache-2.0
// When the copy of the image under RUN is written that has no new table (with one, before the ACK:
// see daemon.cc). Not before the ACK, which somebody waits for: the control plane's next verdict
// does. At once when nothing else is to do, so that a change by
// hand is on disk with its ACK; while images come in a row, one copy for many of them, every 50 ms
// at most and every 500 ms at least. The copy is always one whole image (ImageStore::save); a
// dataplane that is killed meanwhile starts again with one that is at most so much older, and the
// control plane, which finds it at an older generation, sends the newest.
#pragma once

#include <algorithm>
#include <cstdint>

namespace guideway {

class CopyTimer {
 public:
  static constexpr int64_t kApartMs = 50;
  static constexpr int64_t kLatestMs = 500;

  // All times in ms, of one monotonic clock. An image was adopted.
  void changed(int64_t now) {
    if (!pending_) since_ = now;
    pending_ = true;
  }
  void written(int64_t now) {
    pending_ = false;
    next_ = now + kApartMs;
  }
  bool pending() const { return pending_; }
  // `busy`: the control plane has sent something that is not looked at yet.
  bool due(int64_t now, bool busy) const {
    return pending_ && now >= next_ && (!busy || now >= since_ + kLatestMs);
  }
  // How long to wait for other things; at most `most`.
  int64_t wait(int64_t now, int64_t most) const {
    return pending_ ? std::clamp<int64_t>(next_ - now, 0, most) : most;
  }

 private:
  bool pending_ = false;
  int64_t since_ = 0;
  int64_t next_ = 0;
};

}  // namespace guideway
