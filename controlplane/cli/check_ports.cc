// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdlib>

#include "bpf/layout.h"
#include "controlplane/cli/finding.h"

namespace guideway::cli {
namespace {

constexpr unsigned kClientMtu = 1500;  // what clients of the Internet send
constexpr unsigned kOuterHeader = 40;  // of `ipip` over IPv6; where the tunnels are not known

std::string with_mtu(const std::string& name, unsigned mtu) {
  return "ip link set dev " + name + " mtu " + std::to_string(mtu);
}

unsigned mtu_for(std::optional<unsigned> outer_bytes) {
  return kClientMtu + outer_bytes.value_or(kOuterHeader);
}

void check_mtu(const std::string& check, const std::string& mend, unsigned mtu,
               std::optional<unsigned> outer_bytes, Findings& out) {
  const unsigned outer = outer_bytes.value_or(kOuterHeader);
  if (outer == 0 || mtu >= mtu_for(outer_bytes)) return;
  out.push_back({Level::warn, check,
                 "MTU " + std::to_string(mtu) + " leaves no room for the " + std::to_string(outer) +
                     " bytes of a tunnel",
                 "packets of more than " + std::to_string(mtu - std::min(mtu, outer)) +
                     " bytes into it are answered by ICMP 'too big', and clients that do not get "
                     "it hang",
                 mend + " (if switch and backends carry it), or a smaller MSS on the backends"});
}

void check_veth(const std::string& check, const InterfaceState& state, Findings& out) {
  if (state.driver != "veth" || state.peer_offloads_checksums == false) return;
  std::string peer = state.veth_peer.empty() ? "PEER" : state.veth_peer;
  out.push_back(
      {Level::warn, check,
       state.peer_offloads_checksums ? "veth, and its peer " + peer + " leaves checksums out"
                                     : "veth; its peer is not visible from here",
       "packets sent into the peer with 'tx-checksumming: on' carry wrong checksums",
       "ethtool -K " + peer + " tx off" + (state.veth_peer.empty() ? " (where the peer is)" : "")});
}

void check_xdp(const std::string& check, const std::string& name, const InterfaceState& state,
               Findings& out) {
  if (!state.xdp_problem.empty()) {
    out.push_back({Level::warn, check, "cannot see its XDP programs: " + state.xdp_problem,
                   "another program there would go unnoticed", "sudo guideway doctor"});
    return;
  }
  for (const std::string& program : state.xdp_programs) {
    if (program == GW_EDGE_PROGRAM) continue;
    out.push_back({Level::fail, check, "another XDP program is attached: " + program,
                   "the dataplane cannot attach its own, and does not start",
                   "ip link set dev " + name + " xdp off (and stop what attached it)"});
  }
}

// AF_XDP: `edge` has nowhere to send the packets of a queue without a worker.
void check_queues(const std::string& check, const std::string& name, const InterfaceState& state,
                  unsigned workers, Findings& out) {
  if (state.queues == 0 || state.queues == workers) return;
  out.push_back({Level::fail, check,
                 "has " + std::to_string(state.queues) + " queue pair(s) for " +
                     std::to_string(workers) + " worker(s); each needs one",
                 "the dataplane does not start",
                 "ethtool -L " + name + " combined " + std::to_string(workers) +
                     ", or workers = " + std::to_string(state.queues) + " in node.toml"});
}

// The kernel goes by the stricter of the two settings. A container may not show them.
void check_rp_filter(const Machine& machine, const std::string& check, const std::string& name,
                     Findings& out) {
  int strictness = -1;
  for (const std::string& of : {std::string("all"), name}) {
    const auto value = machine.line("/proc/sys/net/ipv4/conf/" + of + "/rp_filter");
    if (value) strictness = std::max(strictness, std::atoi(value->c_str()));
  }
  // 2 is 'loose', and beats the 1 of the other.
  if (strictness != 1) return;
  out.push_back(
      {Level::warn, check, "rp_filter is strict",
       "what comes by this port and would be answered by another (BGP, ssh, answers to "
       "probes through tunnels, on a node with several ports) is dropped by the kernel",
       "sysctl -w net.ipv4.conf." + name + ".rp_filter=2 (and in /etc/sysctl.d, to keep it)"});
}

void check_interface(const Machine& machine, const std::string& name, bool shared, unsigned workers,
                     std::optional<unsigned> outer_bytes, Findings& out) {
  std::string check = "port " + name;
  InterfaceState state = machine.interface(name);
  if (!state.exists) {
    out.push_back({Level::fail, check, "there is no such interface", "the dataplane does not start",
                   "`ip -br link` lists them; put the right name into node.toml"});
    return;
  }
  size_t before = out.size();
  if (!state.up) {
    out.push_back({Level::fail, check, "is down", "no packet comes in or goes out",
                   "ip link set dev " + name + " up"});
  } else if (!state.running) {
    out.push_back({Level::fail, check, "is up, but has no carrier",
                   "no packet comes in or goes out",
                   "cable, switch port, or the other end of the veth: ethtool " + name});
  }
  check_mtu(check, with_mtu(name, mtu_for(outer_bytes)), state.mtu, outer_bytes, out);
  if (shared) check_xdp(check, name, state, out);
  if (shared) check_queues(check, name, state, workers, out);
  check_rp_filter(machine, check, name, out);
  check_veth(check, state, out);
  if (out.size() == before) {
    out.push_back({Level::ok, check,
                   "up, MTU " + std::to_string(state.mtu) +
                       (state.driver.empty() ? "" : ", driver " + state.driver),
                   "", ""});
  }
}

// The port's stand-in in the kernel, once a dataplane has made it.
void check_tap(const Machine& machine, const PortConfig& port, std::optional<unsigned> outer_bytes,
               Findings& out) {
  const InterfaceState state = machine.interface(port.tap);
  const std::string check = "tap " + port.tap;
  const std::string more = "mtu = " + std::to_string(mtu_for(outer_bytes)) +
                           " at the port in node.toml; systemctl restart guideway-dataplane";
  if (!state.exists) {  // it will have the port's
    const unsigned mtu = port.mtu != 0 ? port.mtu : kClientMtu;
    if (!port.pci.empty()) check_mtu(check, more, mtu, outer_bytes, out);
    return;
  }
  const size_t before = out.size();
  if (!state.up) {
    out.push_back({Level::fail, check, "is down",
                   "what is not VIP traffic (ARP, BGP, ssh, probes) does not get to the kernel",
                   "ip link set dev " + port.tap + " up"});
  } else if (!state.running) {
    out.push_back({Level::fail, check, "has no carrier: the NIC has no link, or no dataplane runs",
                   "no packet comes in or goes out",
                   "cable or switch port; if the dataplane does not run: journalctl -u "
                   "guideway-dataplane"});
  }
  check_mtu(check, more, state.mtu, outer_bytes, out);
  check_rp_filter(machine, check, port.tap, out);
  if (out.size() == before)
    out.push_back({Level::ok, check, "up, MTU " + std::to_string(state.mtu), "", ""});
}

// The `iface=` of "net_af_xdp0,iface=eth1", which such a device takes over entirely.
std::string interface_of(const std::string& vdev) {
  size_t at = vdev.find(",iface=");
  if (at == std::string::npos) return "";
  at += 7;
  return vdev.substr(at, vdev.find(',', at) - at);
}

}  // namespace

Findings check_ports(const Machine& machine, const NodeConfig& config,
                     std::optional<unsigned> outer_bytes) {
  Findings out;
  bool tap = false;
  for (const PortConfig& port : config.ports) {
    if (!port.interface.empty()) {
      check_interface(machine, port.interface, true, config.workers, outer_bytes, out);
      continue;
    }
    tap = true;
    if (!port.pci.empty()) check_pci(machine, port.pci, out);
    if (std::string name = interface_of(port.vdev); !name.empty()) {
      check_interface(machine, name, false, config.workers, outer_bytes, out);
    } else {
      check_tap(machine, port, outer_bytes, out);
    }
  }
  if (tap && !machine.has("/dev/net/tun")) {
    out.push_back({Level::fail, "tap", "there is no /dev/net/tun",
                   "what is not VIP traffic cannot get to the kernel", "modprobe tun"});
  }
  return out;
}

}  // namespace guideway::cli
