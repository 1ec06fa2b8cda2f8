// SPDX-License-Identifier: Apache-2.0
#include <linux/capability.h>

#include <cstdio>
#include <cstdlib>

#include "controlplane/cli/finding.h"

namespace guideway::cli {
namespace {

constexpr unsigned long kNeighbours = 4096;  // each backend on a link needs one
constexpr int64_t kPlausible = 1704067200;   // 2024-01-01: older than this software

Finding check_kernel(const Machine& machine) {
  int major = 0, minor = 0;
  std::sscanf(machine.release.c_str(), "%d.%d", &major, &minor);
  if (major > 6 || (major == 6 && minor >= 1))
    return {Level::ok, "kernel", machine.release, "", ""};
  return {Level::fail, "kernel", machine.release + " is older than 6.1",
          "the BPF programs are neither written for it nor tested on it",
          "apt install linux-image-amd64 && reboot"};
}

Finding check_btf(const Machine& machine) {
  if (machine.has("/sys/kernel/btf/vmlinux")) return {Level::ok, "btf", "present", "", ""};
  return {Level::fail, "btf", "the kernel has no /sys/kernel/btf/vmlinux",
          "the BPF programs cannot be loaded",
          "use a kernel with CONFIG_DEBUG_INFO_BTF=y, as Debian's own: apt install "
          "linux-image-amd64"};
}

Finding check_af_xdp(const Machine& machine) {
  if (machine.has_af_xdp) return {Level::ok, "af_xdp", "the kernel has AF_XDP sockets", "", ""};
  return {Level::fail, "af_xdp", "the kernel has no AF_XDP sockets",
          "ports with `interface` get no packets",
          "use a kernel with CONFIG_XDP_SOCKETS=y, as Debian's own: apt install linux-image-amd64"};
}

Finding check_privileges(const Machine& machine) {
  if (!machine.is_root) {
    return {Level::warn, "privileges", "this is not root",
            "some checks see less than the daemons would; XDP programs are not visible",
            "sudo guideway doctor"};
  }
  static constexpr struct {
    int number;
    const char* name;
  } kNeeded[] = {{CAP_NET_ADMIN, "CAP_NET_ADMIN"},
                 {CAP_NET_RAW, "CAP_NET_RAW"},
                 {CAP_IPC_LOCK, "CAP_IPC_LOCK"},
                 {CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
                 {CAP_BPF, "CAP_BPF"}};
  std::string missing;
  for (const auto& needed : kNeeded) {
    if ((machine.capabilities >> needed.number & 1) == 0) {
      missing += (missing.empty() ? "" : ", ") + std::string(needed.name);
    }
  }
  if (missing.empty())
    return {Level::ok, "privileges", "root, with all capabilities needed", "", ""};
  return {Level::fail, "privileges", "root, but without " + missing,
          "a daemon started from here cannot load BPF programs, change routes or lock memory",
          "start it outside this container, or give the container these capabilities"};
}

// `timedatectl set-ntp` switches on what is installed, and fails without.
std::string set_clock(const Machine& machine) {
  if (machine.has("/usr/sbin/chronyd")) return "systemctl enable --now chrony; chronyc tracking";
  if (machine.has("/usr/sbin/openntpd") || machine.has("/usr/sbin/ntpctl"))
    return "systemctl enable --now openntpd; ntpctl -s status";
  if (machine.has("/usr/sbin/ntpd")) return "systemctl enable --now ntpsec; ntpq -p";
  if (machine.has("/lib/systemd/systemd-timesyncd")) return "timedatectl set-ntp true";
  return "apt install systemd-timesyncd";
}

Finding check_clock(const Machine& machine) {
  const std::string mend = set_clock(machine);
  if (machine.now < kPlausible) {
    return {Level::fail, "clock", "the clock says a time before 2024",
            "log times are wrong; certificates seem not valid yet", mend};
  }
  if (machine.clock_synchronised) return {Level::ok, "clock", "synchronised", "", ""};
  return {Level::warn, "clock", "the kernel's clock is not synchronised",
          "log times of several nodes cannot be compared; forwarding is not touched", mend};
}

// A container may not see the limits of its kernel: no finding then.
void check_neighbours(const Machine& machine, Findings& out) {
  for (const char* family : {"ipv4", "ipv6"}) {
    const auto most =
        machine.line(std::string("/proc/sys/net/") + family + "/neigh/default/gc_thresh3");
    if (!most) continue;
    const std::string key = std::string("net.") + family + ".neigh.default.gc_thresh3";
    if (std::strtoul(most->c_str(), nullptr, 10) >= kNeighbours) {
      out.push_back({Level::ok, "neighbours", key + " is " + *most, "", ""});
    } else {
      out.push_back({Level::warn, "neighbours", key + " is only " + *most,
                     "with more backends and gateways than that on its links, some get no packets",
                     "sysctl -w " + key + "=16384 (and in /etc/sysctl.d, to keep it)"});
    }
  }
}

// Guideway pins nothing; but tools that one wants at hand when something is wrong do.
Finding check_bpffs(const Machine& machine) {
  if (machine.mounted("bpf", "/sys/fs/bpf"))
    return {Level::ok, "bpffs", "mounted at /sys/fs/bpf", "", ""};
  return {Level::warn, "bpffs", "no BPF file system at /sys/fs/bpf",
          "other BPF programs beside Guideway's, and bpftool, can pin nothing; Guideway's work",
          "mount -t bpf bpf /sys/fs/bpf"};
}

}  // namespace

Findings check_machine(const Machine& machine) {
  Findings out = {check_kernel(machine),     check_btf(machine),   check_af_xdp(machine),
                  check_privileges(machine), check_clock(machine), check_bpffs(machine)};
  check_neighbours(machine, out);
  return out;
}

}  // namespace guideway::cli
