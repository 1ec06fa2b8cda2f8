// SPDX-License-Identifier: Apache-2.0
// The control plane's end of RUN/dataplane.sock (dataplane/abi.h, "message"): connects, and
// connects again; sends images; hears what became of them. Never blocks. Whatever the peer sends,
// it costs the peer its connection at most.
//
// One ROOT is under way at a time: an image published meanwhile waits for its ACK, and a newer one
// takes its place (so not every generation is answered). Lives in the loop's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controlplane/event_loop.h"
#include "controlplane/image.h"
#include "controlplane/result.h"
#include "controlplane/unique_fd.h"
#include "dataplane/abi.h"

namespace guideway {

// What HELLO says.
struct DataplaneInfo {
  uint32_t pid = 0;
  uint32_t workers = 0;
  uint64_t generation = 0;  // running when it connected; 0: none
  uint64_t revision = 0;
  uint32_t layout = GW_LAYOUT;     // the newest of roots that both know
  std::vector<std::string> ports;  // interface names by egress port index
};

class Publisher {
 public:
  struct Callbacks {
    // HELLO came and a layout fits: build an image of it for these ports and publish() it.
    // `counters` is the descriptor to map (read-only); invalid if the dataplane sent none.
    std::function<void(const DataplaneInfo&, UniqueFd counters)> on_connected;
    // `reason` is empty when adopted. The revision is that of the image.
    std::function<void(uint64_t generation, uint64_t revision, bool adopted,
                       const std::string& reason)>
        on_ack;
    // After on_connected only.
    std::function<void(const std::string& why)> on_disconnected;
  };

  Publisher(EventLoop& loop, std::string socket_path, Callbacks callbacks,
            EventLoop::Clock::duration retry = std::chrono::milliseconds(100));
  ~Publisher();
  Publisher(const Publisher&) = delete;
  Publisher& operator=(const Publisher&) = delete;

  // Connects now, else every `retry` until it can, for good.
  void start();

  // False (and nothing is sent or kept) unless connected() with a fitting layout.
  bool publish(std::shared_ptr<const SealedImage> image);

  bool connected() const { return info_.has_value(); }
  // A dataplane listens, or did at the last try: it may forward also when it takes nothing from us.
  bool present() const { return present_; }
  // It said hello and runs an image, but of no layout that this control plane writes.
  bool forwards_by_another_layout() const { return forwards_by_another_layout_; }
  // Of the present connection.
  const std::optional<DataplaneInfo>& info() const { return info_; }
  // The image of the last ROOT adopted on this connection; null if none.
  const std::shared_ptr<const SealedImage>& adopted() const { return adopted_; }
  // How many tables went with the image that was sent last; those that the dataplane held did not.
  size_t tables_sent() const { return tables_sent_; }
  // A sentence for status: why there is no connection, or what is wrong with it; empty: all well.
  std::string problem() const;

 private:
  struct Outgoing {
    gw_message message;
    std::shared_ptr<const void> keeps;  // owns fd
    int fd;
  };

  void connect_now();
  void disconnect(const std::string& why);
  void on_events(uint32_t events);
  bool receive();  // false: disconnected, or nothing more to read
  void on_message(const gw_message& message, UniqueFd fd);
  void on_hello(const gw_message& message, UniqueFd counters);
  void on_hello_of_another_layout(const gw_message& message);
  void on_ack(const gw_message& message);
  void send_next_image();
  void flush();

  EventLoop& loop_;
  std::string path_;
  Callbacks callbacks_;
  EventLoop::Clock::duration retry_;
  EventLoop::TimerId retry_timer_ = 0;

  UniqueFd socket_;
  std::optional<DataplaneInfo> info_;
  std::string problem_;
  bool present_ = false;
  bool forwards_by_another_layout_ = false;     // by the last hello
  std::shared_ptr<const SealedImage> waiting_;  // to be sent after the ACK of sent_
  std::shared_ptr<const SealedImage> sent_;     // no ACK yet
  EventLoop::Clock::time_point sent_at_{};
  std::shared_ptr<const SealedImage> adopted_;
  std::set<uint64_t> held_;  // digests of adopted_'s tables
  size_t tables_sent_ = 0;
  std::deque<Outgoing> queue_;
  uint32_t watched_events_ = 0;  // by the socket
};

}  // namespace guideway
