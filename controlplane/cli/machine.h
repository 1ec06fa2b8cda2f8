// SPDX-License-Identifier: Apache-2.0
// What `guideway doctor` sees of a machine. The checks are functions of this value, so tests give
// them machines that are broken in known ways.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dataplane/address.h"

namespace guideway::cli {

struct InterfaceState {
  bool exists = false;
  bool up = false;                 // set up by the operator
  bool running = false;            // and with a carrier
  unsigned mtu = 0;                // bytes of an IP packet
  unsigned queues = 0;             // queue pairs that AF_XDP can use; 0 if unknown
  std::string driver;              // "veth", "e1000e"; empty if unknown
  std::vector<Address> addresses;  // without link-local ones
  bool enslaved = false;           // to a bridge, a bond, ...
  std::string veth_peer;           // veth: the other end, if it is in this network namespace
  std::optional<bool> peer_offloads_checksums;  // veth: whether the peer leaves checksums out
  std::vector<std::string> xdp_programs;        // names of those attached
  std::string xdp_problem;                      // why they could not be read; else empty
};

struct Machine {
  std::string root;     // in front of /proc, /sys and /dev; empty on the real machine
  std::string release;  // of the kernel: "6.1.0-18-amd64"
  bool is_root = false;
  uint64_t capabilities = 0;  // effective, bit n: capability n
  bool has_af_xdp = false;    // the kernel makes AF_XDP sockets
  int64_t now = 0;            // seconds since 1970
  bool clock_synchronised = false;
  std::set<Address> addresses;  // of this host
  std::function<InterfaceState(const std::string&)> interface;

  static Machine here();

  bool has(const std::string& path) const;  // `root` + path exists
  // First line; nothing if it cannot be read.
  std::optional<std::string> line(const std::string& path) const;
  // Last part of what the symbolic link points to; empty if it is none.
  std::string link(const std::string& path) const;
  bool mounted(const std::string& type, const std::string& path) const;
  // Names in a folder, in order; none if it cannot be read.
  std::vector<std::string> names_in(const std::string& path) const;
  // The number in a file's first line; 0 if there is none.
  uint64_t number(const std::string& path) const;
  // Of a file of lines as "VmRSS:     1234 kB", that of `key`.
  std::optional<uint64_t> kilobytes(const std::string& path, const std::string& key) const;
  // The process that holds a flock(2) of the file, which is to be on a file system of one device
  // (not btrfs or overlayfs): the kernel lists locks by device and inode.
  std::optional<std::string> lock_owner(const std::string& path) const;
};

}  // namespace guideway::cli
