// SPDX-License-Identifier: Apache-2.0
// RUN/dataplane.sock: the dataplane's end of the message in abi.h. Used by the main thread. A peer
// that breaks the rules is disconnected; the image that runs goes on.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "controlplane/result.h"
#include "controlplane/unique_fd.h"
#include "dataplane/abi.h"
#include "dataplane/image_store.h"

namespace guideway {

class ControlServer {
 public:
  // hello: a HELLO with everything but generation and revision filled in.
  struct Config {
    std::string path;
    gw_message hello;
    int counters_fd;
    std::function<void()> on_adopted;  // before the ACK
  };

  // Listens, mode 0600, in place of whatever a dead process left at the path.
  static Result<ControlServer> listen(Config config, ImageStore& store);

  // The copy of an adopted image is the caller's to write: ImageStore::save().

  // Descriptors to poll for input; -1 if none.
  int listener() const { return listener_.get(); }
  int peer() const { return peer_.get(); }

  void accept_peer();  // when listener() is readable
  void handle_peer();  // when peer() is readable or hung up; takes what waits there, some at a time

 private:
  ControlServer(Config config, ImageStore& store) : config_(std::move(config)), store_(&store) {}
  bool handle_message();
  void handle(const gw_message& message, UniqueFd fd);
  void adopt(uint64_t generation, const UniqueFd& fd);
  void send(const gw_message& message, int fd);

  Config config_;
  ImageStore* store_;
  UniqueFd listener_;
  UniqueFd peer_;
};

}  // namespace guideway
