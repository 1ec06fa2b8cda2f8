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

void check_driver(const Machine& machine, const std::string& check, const std::string& pci,
                  Findings& out) {
  const std::string driver = driver_of(machine, pci);
  if (!machine.has("/sys/bus/pci/drivers/vfio-pci")) {
    out.push_back({Level::fail, check, "the module vfio-pci is not loaded",
                   "DPDK cannot take the NIC",
                   "modprobe vfio-pci; driverctl set-override " + pci + " vfio-pci"});
  } else if (driver != "vfio-pci") {
    out.push_back({Level::fail, check, driver.empty() ? "no driver" : "belongs to " + driver,
                   "DPDK cannot take the NIC",
                   "driverctl set-override " + pci + " vfio-pci (it stays so after a reboot)"});
  }
  for (const std::string& name : machine.names_in(kDevices + pci + "/net")) {
    const InterfaceState state = machine.interface(name);
    if (state.addresses.empty()) continue;
    std::string addresses;
    for (const Address& address : state.addresses)
      addresses += (addresses.empty() ? "" : ", ") + address.text();
    out.push_back({Level::warn, check, "is " + name + " with " + addresses,
                   "once DPDK has the NIC these addresses are gone, and so is an ssh session that "
                   "goes by them",
                   "another way in first, and the addresses to the TAP: see nics.md"});
  }
}

// vfio hands out groups, not devices: all of a group must be free of the kernel's drivers. Bridges
// of the PCI bus itself may keep theirs.
void check_iommu(const Machine& machine, const std::string& check, const std::string& pci,
                 Findings& out) {
  const std::string group = kDevices + pci + "/iommu_group";
  // The second: the kernel makes such groups for devices that vfio-pci has without an IOMMU.
  if (!machine.has(group) || machine.line(group + "/name") == "vfio-noiommu") {
    const bool unsafe =
        machine.line("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode").value_or("N") == "Y";
    out.push_back({unsafe ? Level::warn : Level::fail, check, "no IOMMU",
                   unsafe ? "the NIC can write anywhere in memory" : "vfio-pci refuses the NIC",
                   "switch it on in the firmware, and add `intel_iommu=on iommu=pt` to the "
                   "kernel's command line"});
    return;
  }
  static constexpr const char* kHarmless[] = {"", "vfio-pci", "pci-stub", "pcieport"};
  for (const std::string& other : machine.names_in(group + "/devices")) {
    const std::string driver = driver_of(machine, other);
    if (other == pci || std::ranges::find(kHarmless, driver) != std::end(kHarmless)) continue;
    out.push_back({Level::fail, check, "shares its IOMMU group with " + other + " of " + driver,
                   "vfio-pci refuses the NIC as long as another of its group is the kernel's",
                   "driverctl set-override " + other +
                       " vfio-pci (if this machine can do without it), or another slot"});
  }
}

// Debian has each of DPDK's drivers in a package; a machine may have but those of virtual devices.
void check_dpdk_drivers(const Machine& machine, const std::string& check, Findings& out) {
  for (const std::string& triplet : machine.names_in("/usr/lib")) {
    const std::string dpdk = "/usr/lib/" + triplet + "/dpdk";
    for (const std::string& version : machine.names_in(dpdk)) {
      const auto files = machine.names_in(dpdk + "/" + version);
      const auto drives_nics = [](const std::string& file) {
        return file.starts_with("librte_net_") && !file.starts_with("librte_net_af_");
      };
      if (std::ranges::any_of(files, drives_nics)) continue;
      out.push_back({Level::fail, check, "DPDK's drivers for NICs are not installed",
                     "the dataplane does not start", "apt install librte-meta-net"});
    }
  }
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
  check_dpdk_drivers(machine, check, out);
  const std::string driver = driver_of(machine, pci);
  if (shares_with_dpdk(driver)) {
    if (out.size() == before)
      out.push_back({Level::ok, check, "driver " + driver + ", shared with the kernel", "", ""});
    return;
  }
  check_driver(machine, check, pci, out);
  check_iommu(machine, check, pci, out);
  if (out.size() == before) out.push_back({Level::ok, check, "vfio-pci, with IOMMU", "", ""});
}

}  // namespace guideway::cli
