// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "controlplane/cli/finding.h"

namespace guideway::cli {
namespace {

const std::string kDevices = "/sys/bus/pci/devices/";

std::string driver_of(const Machine& machine, const std::string& pci) {
  return machine.link(kDevices + pci + "/driver");
}

// Mellanox's drivers share the NIC with DPDK.
bool shares_with_dpdk(const std::string& driver) {
  return driver == "mlx5_core" || driver == "mlx4_core";
}

// The kernel's interfaces of a device; virtio's are a level deeper.
std::vector<std::string> interfaces_of(const Machine& machine, const std::string& pci) {
  std::vector<std::string> names = machine.names_in(kDevices + pci + "/net");
  for (const std::string& name : machine.names_in(kDevices + pci)) {
    if (!name.starts_with("virtio")) continue;
    for (const std::string& one : machine.names_in(kDevices + pci + "/" + name + "/net"))
      names.push_back(one);
  }
  return names;
}

// "eth1 with 10.0.0.1, fd00::1"; empty if this machine does without the device's interfaces.
std::string use_of(const Machine& machine, const std::string& pci) {
  std::string uses;
  for (const std::string& name : interfaces_of(machine, pci)) {
    const InterfaceState state = machine.interface(name);
    std::string with;
    for (const Address& address : state.addresses)
      with += (with.empty() ? "" : ", ") + address.text();
    if (with.empty() && state.enslaved) with = "a bridge or bond on it";
    if (!with.empty()) uses += (uses.empty() ? "" : "; ") + name + " with " + with;
  }
  return uses;
}

void check_use(const Machine& machine, const std::string& check, const std::string& pci,
               Findings& out) {
  const std::string use = use_of(machine, pci);
  if (use.empty()) return;
  out.push_back({Level::warn, check, "is " + use,
                 "once DPDK has the NIC, what the kernel has there is cut off: an ssh session, too",
                 "first another way in; then the addresses go to the TAP"});
}

// vfio hands out groups, not devices: all of a group must be free of the kernel's drivers. Bridges
// of the PCI bus itself may keep theirs. Whether the NIC may be bound to vfio-pci.
bool check_iommu(const Machine& machine, const std::string& check, const std::string& pci,
                 Findings& out) {
  const std::string group = kDevices + pci + "/iommu_group";
  // The second: the kernel makes such groups for devices that vfio-pci has without an IOMMU, which
  // takes a privilege that the dataplane does without.
  if (!machine.has(group) || machine.line(group + "/name") == "vfio-noiommu") {
    out.push_back({Level::fail, check, "no IOMMU", "vfio-pci refuses the NIC",
                   "switch it on in the firmware, and add `intel_iommu=on iommu=pt` to the "
                   "kernel's command line"});
    return false;
  }
  static constexpr const char* kHarmless[] = {"", "vfio-pci", "pci-stub", "pcieport"};
  const size_t before = out.size();
  for (const std::string& other : machine.names_in(group + "/devices")) {
    const std::string driver = driver_of(machine, other);
    if (other == pci || std::ranges::find(kHarmless, driver) != std::end(kHarmless)) continue;
    const std::string use = use_of(machine, other);
    const bool disk = machine.line(kDevices + other + "/class").value_or("").starts_with("0x01");
    out.push_back(
        {Level::fail, check,
         "shares its IOMMU group with " + other + " of " + driver +
             (use.empty() ? "" : ", which is " + use),
         "vfio-pci refuses the NIC as long as another of its group is the kernel's",
         use.empty() && !disk
             ? "driverctl set-override " + other +
                   " vfio-pci (if this machine can do without it), or the NIC in another slot"
             : "the NIC in another slot; this machine uses " + other});
  }
  return out.size() == before;
}

void check_driver(const Machine& machine, const std::string& check, const std::string& pci,
                  bool may_bind, Findings& out) {
  const std::string driver = driver_of(machine, pci);
  const bool loaded = machine.has("/sys/bus/pci/drivers/vfio-pci");
  if (loaded && driver == "vfio-pci") return;
  // Bound to nothing by a command that fails half way, it would be nobody's.
  const std::string bind =
      "driverctl set-override " + pci + " vfio-pci (it stays so after a reboot)";
  out.push_back({Level::fail, check,
                 !loaded          ? "the module vfio-pci is not loaded"
                 : driver.empty() ? "no driver"
                                  : "belongs to " + driver,
                 "DPDK cannot take the NIC",
                 !may_bind ? "mend the IOMMU and reboot; guideway doctor then says how to go on"
                 : loaded  ? bind
                           : "modprobe vfio-pci; " + bind});
}

// Debian has each of DPDK's drivers in a package; a machine may have but those of virtual devices.
bool drives(const std::string& file, const std::string& kernel_driver) {
  static constexpr const char* kVirtual[] = {
      "af_packet", "af_xdp", "bond",    "failsafe", "kni",   "memif",      "null",
      "pcap",      "ring",   "softnic", "tap",      "vhost", "vdev_netvsc"};
  static constexpr std::string_view kPrefix = "librte_net_";
  if (!file.starts_with(kPrefix)) return false;
  const std::string name = file.substr(kPrefix.size(), file.find('.') - kPrefix.size());
  if (shares_with_dpdk(kernel_driver)) return kernel_driver == name + "_core";
  return std::ranges::find(kVirtual, name) == std::end(kVirtual);
}

void check_dpdk_drivers(const Machine& machine, const std::string& check,
                        const std::string& kernel_driver, Findings& out) {
  bool known = false;
  for (const std::string& triplet : machine.names_in("/usr/lib")) {
    const std::string dpdk = "/usr/lib/" + triplet + "/dpdk";
    for (const std::string& version : machine.names_in(dpdk)) {
      known = true;
      for (const std::string& file : machine.names_in(dpdk + "/" + version)) {
        if (drives(file, kernel_driver)) return;
      }
    }
  }
  if (!known) return;  // not Debian's DPDK
  out.push_back({Level::fail, check, "DPDK's driver for it is not installed",
                 "the dataplane does not start", "apt install librte-meta-net"});
}

}  // namespace

void check_pci(const Machine& machine, const std::string& pci, Findings& out) {
  const std::string check = "port " + pci;
  if (!machine.has(kDevices + pci)) {
    out.push_back({Level::fail, check, "there is no such PCI device",
                   "the dataplane does not start",
                   "`lspci -D | grep -i ethernet` lists them; put the right one into node.toml"});
    return;
  }
  const size_t before = out.size();
  const std::string driver = driver_of(machine, pci);
  check_use(machine, check, pci, out);
  check_dpdk_drivers(machine, check, driver, out);
  std::string good = "vfio-pci, with IOMMU";
  if (shares_with_dpdk(driver)) {
    good = "driver " + driver + ", shared with the kernel";
    const std::string verbs = driver.substr(0, driver.find('_')) + "_ib";
    if (!machine.has(kDevices + pci + "/infiniband"))
      out.push_back({Level::fail, check, "the module " + verbs + " is not loaded",
                     "DPDK cannot take the NIC", "modprobe -a " + verbs + " ib_uverbs"});
  } else {
    const bool may_bind = check_iommu(machine, check, pci, out);
    check_driver(machine, check, pci, may_bind, out);
  }
  if (out.size() == before) out.push_back({Level::ok, check, good, "", ""});
}

}  // namespace guideway::cli
