// SPDX-License-Identifier: Apache-2.0
// How many TCP sockets this host holds of the flows in some ranges of hashes: what has to be
// nought before a pool's earlier epoch may go (docs/design/hops.md).
//
// Read from the kernel by sock_diag(7). The sockets are those of the network namespace that this
// runs in, which are those that `redirect` finds as well.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "controlplane/agent_protocol.h"
#include "controlplane/result.h"
#include "dataplane/flow.h"

namespace guideway::cli {

// What is asked, made ready to be asked of many sockets.
class SocketQuestion {
 public:
  explicit SocketQuestion(const AgentRequest& request);

  // `flow` as a node sees it: `vip` is the socket's own end.
  bool about(const FlowKey& flow) const;
  // What to ask the kernel for, a port at a time; 0: all ports at once.
  const std::vector<uint16_t>& ports() const { return ports_; }
  bool empty() const { return services_.empty() || ranges_.empty(); }

 private:
  bool serves(const Address& vip, uint16_t port) const;

  uint64_t seed_;
  std::vector<std::pair<Address, uint16_t>> services_;  // ascending; port 0: all
  std::vector<HashRange> ranges_;                       // ascending, none overlaps another
  std::vector<uint16_t> ports_;
};

// Counted is each state but LISTEN, CLOSE, whose sockets are of no flow, and TIME_WAIT: there both
// ends have closed and all data was acknowledged, so what can still come is a repeated FIN, whose
// sender at worst gets an honest RST for a connection that is over. (A socket that waits in
// FIN_WAIT2 for the other end is counted, although the kernel keeps it with those in TIME_WAIT.)
// Connection requests count, as SYN_RECV; SYN cookies have no socket, see hops.md.
//
// An IPv6 socket with IPv4 addresses is an IPv4 flow.
//
// Waits for nobody; what it takes is the kernel's dump: 1.2 us for each socket with a service's
// port, 0.1 us for each other one and each port asked (of 100,000 sockets, in a virtual machine).
// Twice as much if there are sockets with such a port, but none in the ranges: a dump goes on in
// the middle of a chain, and misses a socket if one before it has gone since. That the same one is
// missed twice is too much bad luck.
Result<uint64_t> count_sockets(const AgentRequest& request);

}  // namespace guideway::cli
