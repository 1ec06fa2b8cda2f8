// SPDX-License-Identifier: Apache-2.0
// A port of the kernel's: a packet socket that sends by one interface and receives nothing, and the
// scoreboard of the `edge` there. In the network namespace of the thread that calls open(); one
// thread at a time.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <optional>
#include <string>

#include "controlplane/probe_path.h"
#include "controlplane/unique_fd.h"

namespace guideway {

class ProbeSocket : public ProbePath {
 public:
  // `owned`: the interface is a TAP, to which `edge` is to be attached from the object file.
  ProbeSocket(std::string interface, bool owned, std::string edge_object,
              const gw_probe_secret& secret);

  Result<void> open() override;
  Result<void> check() override;
  void expect(uint32_t target, uint32_t attempt, uint32_t awaited) override;
  void forget(uint32_t target) override;
  Scoreboard::Reply read(uint32_t target, uint32_t attempt) const override;
  Sent send(std::span<const Frame> frames) override;

 private:
  Result<UniqueFd> open_socket() const;

  std::string interface_;
  bool owned_;
  std::string edge_object_;
  gw_probe_secret secret_;
  UniqueFd socket_;
  std::optional<Scoreboard> board_;
  std::array<mmsghdr, kFramesMax> messages_{};
  std::array<iovec, kFramesMax> parts_{};
};

}  // namespace guideway
