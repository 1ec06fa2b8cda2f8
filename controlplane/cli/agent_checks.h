// SPDX-License-Identifier: Apache-2.0
// What on a backend keeps decapsulated packets from being served, or makes them slow, although
// `redirect` does its part.
#pragma once

#include <string>
#include <vector>

#include "bpf/prefix.h"
#include "controlplane/result.h"

namespace guideway::cli {

struct DefaultRoute {
  bool v4 = true;
  unsigned interface_index = 0;
  unsigned mtu = 0;     // of its interface
  unsigned advmss = 0;  // 0: the kernel's choice, by the MTU
};

struct BackendFacts {
  std::string interface;
  unsigned interface_index = 0;
  unsigned mtu = 0;
  unsigned rp_filter = 0;       // the effective one: 0 off, 1 strict, 2 loose
  unsigned arp_ignore = 0;      // the effective one
  bool v4_on_loopback = false;  // lo has an address beside 127.0.0.0/8: a VIP, most likely
  std::vector<DefaultRoute> routes;
};

struct Warning {
  std::string what;
  std::string mend;  // a command; may be empty
};

Result<BackendFacts> backend_facts(const std::string& interface);

// Pure. `asked`: nodes ask this agent (it has a key), so that packets may come with the list of
// hops of `gue`.
std::vector<Warning> backend_warnings(const BackendFacts& facts, const std::vector<Prefix>& allowed,
                                      bool asked);

}  // namespace guideway::cli
