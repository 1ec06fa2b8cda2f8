// SPDX-License-Identifier: Apache-2.0
// The checks of `guideway doctor`, on machines that are broken in known ways.
#include "controlplane/cli/doctor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "controlplane/unique_fd.h"
#include "tests/cli/fake_server.h"
#include "tests/cli/program.h"

namespace guideway::cli {
namespace {

using test::FakeServer;
using test::TemporaryFolder;
using Json = nlohmann::json;

// As a line of /proc/locks.
std::string lock_of(const std::string& path, const char* kind) {
  struct stat file {};
  EXPECT_EQ(stat(path.c_str(), &file), 0) << path;
  std::ostringstream line;
  line << "1: " << kind << "  ADVISORY  WRITE 612 " << std::hex << std::setfill('0') << std::setw(2)
       << major(file.st_dev) << ':' << std::setw(2) << minor(file.st_dev) << ':' << std::dec
       << file.st_ino << " 0 EOF\n";
  return line.str();
}

class Doctor : public testing::Test {
 protected:
  Doctor() {
    machine.root = folder.path;
    machine.release = "6.1.0-18-amd64";
    machine.is_root = true;
    machine.capabilities = ~uint64_t{0};
    machine.has_af_xdp = true;
    machine.now = 1800000000;
    machine.clock_synchronised = true;
    machine.interface = [this](const std::string& name) {
      return name == "eth1" ? eth1 : name == "gw0" ? tap : InterfaceState{};
    };
    eth1.exists = eth1.up = eth1.running = true;
    eth1.mtu = 1540;
    eth1.driver = "e1000e";
    eth1.queues = 1;
    folder.write("sys/kernel/btf/vmlinux", "");
    folder.write("proc/mounts", "bpf /sys/fs/bpf bpf rw,nosuid 0 0\n");
    folder.write("sys/devices/system/cpu/cpu0/topology", "");
    folder.write("sys/devices/system/cpu/cpu1/online", "1\n");
    config.run_dir = folder.path;
    config.state_dir = folder.path;
    config.ports.push_back({"eth1", "", "", ""});
  }

  // Every finding of level `level` must be the expected one, and it must say what to do.
  void expect_only(const Findings& findings, Level level, const std::string& check,
                   const std::string& message_part, const std::string& mend_part) {
    size_t found = 0;
    for (const Finding& finding : findings) {
      if (finding.level == Level::ok) continue;
      ++found;
      EXPECT_EQ(finding.level, level) << finding.message;
      EXPECT_EQ(finding.check, check);
      EXPECT_NE(finding.message.find(message_part), std::string::npos) << finding.message;
      EXPECT_NE(finding.mend.find(mend_part), std::string::npos) << finding.mend;
      EXPECT_NE(finding.breaks, "");
    }
    EXPECT_EQ(found, 1u) << check;
  }
  void expect_all_ok(const Findings& findings) {
    for (const Finding& finding : findings) {
      EXPECT_EQ(finding.level, Level::ok) << finding.check << ": " << finding.message;
    }
  }
  Findings node() { return check_node(machine, config, 40); }

  TemporaryFolder folder;
  Machine machine;
  InterfaceState eth1;
  InterfaceState tap;
  NodeConfig config;
};

TEST_F(Doctor, AGoodMachineIsOk) {
  expect_all_ok(check_machine(machine));
  expect_all_ok(node());
}

TEST_F(Doctor, Kernel) {
  for (const char* release : {"6.0.12", "5.10.0-28-amd64", "4.19", "odd"}) {
    machine.release = release;
    expect_only(check_machine(machine), Level::fail, "kernel", "is older than 6.1", "apt install");
  }
  for (const char* release : {"6.1.0", "6.18.44-x", "7.0"}) {
    machine.release = release;
    expect_all_ok(check_machine(machine));
  }
}

TEST_F(Doctor, MachineFaults) {
  std::filesystem::remove(folder.path + "/sys/kernel/btf/vmlinux");
  expect_only(check_machine(machine), Level::fail, "btf", "vmlinux", "CONFIG_DEBUG_INFO_BTF");
  folder.write("sys/kernel/btf/vmlinux", "");

  machine.has_af_xdp = false;
  expect_only(check_machine(machine), Level::fail, "af_xdp", "no AF_XDP", "CONFIG_XDP_SOCKETS");
  machine.has_af_xdp = true;

  machine.capabilities &= ~(uint64_t{1} << CAP_NET_ADMIN | uint64_t{1} << CAP_BPF);
  expect_only(check_machine(machine), Level::fail, "privileges", "CAP_NET_ADMIN, CAP_BPF",
              "container");
  machine.is_root = false;
  expect_only(check_machine(machine), Level::warn, "privileges", "not root", "sudo");
  machine.is_root = true;
  machine.capabilities = ~uint64_t{0};

  machine.clock_synchronised = false;
  expect_only(check_machine(machine), Level::warn, "clock", "not synchronised",
              "apt install systemd-timesyncd");
  folder.write("lib/systemd/systemd-timesyncd", "");
  expect_only(check_machine(machine), Level::warn, "clock", "not synchronised", "timedatectl");
  folder.write("usr/sbin/chronyd", "");
  expect_only(check_machine(machine), Level::warn, "clock", "not synchronised", "chrony");
  machine.now = 100;
  expect_only(check_machine(machine), Level::fail, "clock", "before 2024", "chrony");
}

TEST_F(Doctor, Cores) {
  config.workers = 2;
  eth1.queues = 2;
  config.cores = {0, 1};
  expect_all_ok(node());
  config.cores = {1, 7};
  expect_only(node(), Level::fail, "cores", "not online: 7", "lscpu");
  config.cores = {0, 1};
  folder.write("sys/devices/system/cpu/cpu1/online", "0\n");
  expect_only(node(), Level::fail, "cores", "not online: 1", "lscpu");
}

TEST_F(Doctor, IsolatedCores) {
  config.cores = {1};
  for (const char* isolated : {"1\n", "0-1,4\n", "0,1\n", "7,1-3\n"}) {
    folder.write("sys/devices/system/cpu/isolated", isolated);
    expect_all_ok(node());
  }
  for (const char* isolated :
       {"\n", "0\n", "10-12\n", "0,2-3\n"}) {  // none: the kernel gives an empty line
    folder.write("sys/devices/system/cpu/isolated", isolated);
    expect_only(node(), Level::warn, "isolated cores", "workers': 1", "isolcpus=1 nohz_full=1");
  }
  config.cores.clear();
  expect_all_ok(node());
}

TEST_F(Doctor, BpfFileSystem) {
  folder.write("proc/mounts", "bpf /mnt bpf rw 0 0\nsysfs /sys/fs/bpf sysfs rw 0 0\n");
  expect_only(check_machine(machine), Level::warn, "bpffs", "no BPF file system",
              "mount -t bpf bpf /sys/fs/bpf");
}

TEST_F(Doctor, Queues) {
  eth1.queues = 4;
  expect_only(node(), Level::fail, "port eth1", "4 queue pair(s) for 1 worker(s)",
              "ethtool -L eth1 combined 1");
  config.workers = 4;
  expect_all_ok(node());
}

TEST_F(Doctor, ReversePathFilter) {
  const std::string folder_of = "proc/sys/net/ipv4/conf/";
  folder.write(folder_of + "all/rp_filter", "0\n");
  folder.write(folder_of + "eth1/rp_filter", "2\n");
  expect_all_ok(node());
  folder.write(folder_of + "all/rp_filter", "1\n");
  expect_all_ok(node());  // the kernel takes the larger, and 2 is the looser
  folder.write(folder_of + "eth1/rp_filter", "0\n");
  expect_only(node(), Level::warn, "port eth1", "strict", "net.ipv4.conf.eth1.rp_filter=2");
}

TEST_F(Doctor, TapOfAnOwnedPort) {
  folder.write("dev/net/tun", "");
  config.ports[0] = {"", "", "net_null0", "gw0"};
  expect_all_ok(node());  // not there before the first start
  config.ports[0] = {"", "0000:01:00.0", "", "gw0"};
  std::filesystem::create_directories(folder.path + "/sys/bus/pci/devices/0000:01:00.0/infiniband");
  std::filesystem::create_directory_symlink(
      "x/mlx5_core", folder.path + "/sys/bus/pci/devices/0000:01:00.0/driver");
  expect_only(node(), Level::warn, "tap gw0", "MTU 1500", "mtu = 1540");
  config.ports[0].mtu = 1540;
  expect_all_ok(node());
  config.ports[0] = {"", "", "net_null0", "gw0"};
  tap.exists = tap.up = tap.running = true;
  tap.mtu = 1500;
  expect_only(node(), Level::warn, "tap gw0", "MTU 1500", "mtu = 1540");
  tap.mtu = 1540;
  expect_all_ok(node());
  tap.running = false;
  expect_only(node(), Level::fail, "tap gw0", "no carrier", "journalctl -u guideway-dataplane");
  tap.up = false;
  expect_only(node(), Level::fail, "tap gw0", "is down", "ip link set dev gw0 up");
}

TEST_F(Doctor, Hugepages) {
  config.hugepages = true;
  config.memory_mb = 512;
  expect_only(node(), Level::fail, "hugepages", "only 0 MB", "sysctl -w vm.nr_hugepages=256");
  folder.write("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "255\n");
  folder.write("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "256\n");
  expect_only(node(), Level::fail, "hugepages", "only 510 MB", "sysctl");
  folder.write("sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "5\n");
  expect_only(node(), Level::fail, "hugepages", "only 500 MB", "sysctl");
  folder.write("sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "0\n");
  // 510 MB and one page more, on top of those that another program has.
  folder.write("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "300\n");
  folder.write("proc/meminfo", "Hugetlb: 0 kB\nHugepagesize:       2048 kB\n");
  expect_only(node(), Level::fail, "hugepages", "only 510 MB", "sysctl -w vm.nr_hugepages=301 ");
  folder.write("proc/meminfo", "Hugepagesize:    1048576 kB\n");
  expect_only(node(), Level::fail, "hugepages", "only 510 MB",
              "echo 301 >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages ");
  folder.write("sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "1\n");
  expect_all_ok(node());
}

TEST_F(Doctor, Interface) {
  config.ports[0].interface = "eth9";
  expect_only(node(), Level::fail, "port eth9", "no such interface", "ip -br link");
  config.ports[0].interface = "eth1";
  eth1.up = false;
  expect_only(node(), Level::fail, "port eth1", "is down", "ip link set dev eth1 up");
  eth1.up = true;
  eth1.running = false;
  expect_only(node(), Level::fail, "port eth1", "no carrier", "ethtool eth1");
}

TEST_F(Doctor, TunnelHeadroom) {
  eth1.mtu = 1539;
  expect_only(node(), Level::warn, "port eth1", "MTU 1539", "ip link set dev eth1 mtu 1540");
  expect_only(check_node(machine, config, {}), Level::warn, "port eth1", "MTU 1539", "1540");
  expect_only(check_node(machine, config, 120), Level::warn, "port eth1",
              "the 120 bytes of a tunnel", "mtu 1620");
  expect_all_ok(check_node(machine, config, 0));
}

TEST_F(Doctor, XdpPrograms) {
  eth1.xdp_programs = {"guideway_edge"};
  expect_all_ok(node());
  eth1.xdp_programs = {"xdp_dispatcher"};
  expect_only(node(), Level::fail, "port eth1", "another XDP program is attached: xdp_dispatcher",
              "ip link set dev eth1 xdp off");
  eth1.xdp_programs = {};
  eth1.xdp_problem = "Operation not permitted";
  expect_only(node(), Level::warn, "port eth1", "Operation not permitted", "sudo");
}

TEST_F(Doctor, VethChecksums) {
  eth1.driver = "veth";
  expect_only(node(), Level::warn, "port eth1", "not visible from here", "ethtool -K PEER tx off");
  eth1.veth_peer = "veth0";
  eth1.peer_offloads_checksums = true;
  expect_only(node(), Level::warn, "port eth1", "veth0 leaves checksums out",
              "ethtool -K veth0 tx off");
  eth1.peer_offloads_checksums = false;
  expect_all_ok(node());
}

TEST_F(Doctor, PciPort) {
  const std::string pci = "0000:01:00.0";
  const std::string group = folder.path + "/sys/kernel/iommu_groups/7";
  const std::string device = folder.path + "/sys/bus/pci/devices/" + pci;
  config.ports[0] = {"", pci, "", "gw0", 1540};
  folder.write("dev/net/tun", "");
  expect_only(node(), Level::fail, "port " + pci, "no such PCI device", "lspci");

  std::filesystem::create_directories(group + "/devices/" + pci);
  std::filesystem::create_directories(device);
  std::filesystem::create_directory_symlink(group, device + "/iommu_group");
  expect_only(node(), Level::fail, "port " + pci, "vfio-pci is not loaded", "modprobe vfio-pci");
  std::filesystem::create_directories(folder.path + "/sys/bus/pci/drivers/vfio-pci");
  std::filesystem::create_directory_symlink("../../drivers/e1000e", device + "/driver");
  expect_only(node(), Level::fail, "port " + pci, "belongs to e1000e",
              "driverctl set-override " + pci + " vfio-pci");
  std::filesystem::remove(device + "/driver");
  std::filesystem::create_directory_symlink("../../drivers/vfio-pci", device + "/driver");
  expect_all_ok(node());

  const std::string neighbour = folder.path + "/sys/bus/pci/devices/0000:01:00.1";
  std::filesystem::create_directories(group + "/devices/0000:01:00.1");
  expect_all_ok(node());  // without a driver
  std::filesystem::create_directories(neighbour);
  std::filesystem::create_directory_symlink("../../drivers/pcieport", neighbour + "/driver");
  expect_all_ok(node());
  std::filesystem::remove(neighbour + "/driver");
  std::filesystem::create_directory_symlink("../../drivers/ahci", neighbour + "/driver");
  expect_only(node(), Level::fail, "port " + pci, "IOMMU group with 0000:01:00.1 of ahci",
              "driverctl set-override 0000:01:00.1 vfio-pci");
  std::filesystem::remove(neighbour + "/driver");

  folder.write("sys/kernel/iommu_groups/7/name", "vfio-noiommu\n");
  expect_only(node(), Level::fail, "port " + pci, "no IOMMU", "intel_iommu=on");
  std::filesystem::remove(device + "/iommu_group");
  expect_only(node(), Level::fail, "port " + pci, "no IOMMU", "intel_iommu=on");
  std::filesystem::remove(device + "/driver");
  std::filesystem::create_directory_symlink("../../drivers/mlx5_core", device + "/driver");
  expect_only(node(), Level::fail, "port " + pci, "mlx5_ib is not loaded", "modprobe -a mlx5_ib");
  std::filesystem::create_directories(device + "/infiniband");
  expect_all_ok(node());
  std::filesystem::remove(folder.path + "/dev/net/tun");
  expect_only(node(), Level::fail, "tap", "/dev/net/tun", "modprobe tun");
}

TEST_F(Doctor, PciPortThatThisMachineUses) {
  const std::string pci = "0000:01:00.0";
  const std::string device = folder.path + "/sys/bus/pci/devices/" + pci;
  std::filesystem::create_directories(folder.path + "/sys/bus/pci/drivers/vfio-pci");
  std::filesystem::create_directories(device + "/virtio2/net/eth1");
  std::filesystem::create_directory_symlink("../../drivers/virtio-pci", device + "/driver");
  eth1.addresses = {*Address::parse("10.0.0.1"), *Address::parse("fd00::1")};
  Findings findings;
  check_pci(machine, pci, findings);
  ASSERT_EQ(findings.size(), 3u);
  EXPECT_EQ(findings[0].level, Level::warn);
  EXPECT_EQ(findings[0].message, "is eth1 with 10.0.0.1, fd00::1");
  // A NIC that vfio-pci refuses is not to lose its driver first.
  EXPECT_EQ(findings[1].message, "no IOMMU");
  EXPECT_EQ(findings[2].message, "belongs to virtio-pci");
  EXPECT_EQ(findings[2].mend.find("driverctl"), std::string::npos) << findings[2].mend;

  std::filesystem::create_directories(device + "/iommu_group/devices/" + pci);
  eth1.addresses.clear();
  eth1.enslaved = true;
  findings.clear();
  check_pci(machine, pci, findings);
  ASSERT_EQ(findings.size(), 2u);
  EXPECT_EQ(findings[0].message, "is eth1 with a bridge or bond on it");
  EXPECT_EQ(findings[1].mend, "driverctl set-override " + pci +
                                  " vfio-pci (it stays so after a "
                                  "reboot)");
}

TEST_F(Doctor, NeighbourInTheIommuGroupThatThisMachineUses) {
  const std::string devices = folder.path + "/sys/bus/pci/devices/";
  const std::string pci = "0000:01:00.0";
  const std::string other = "0000:01:00.1";
  std::filesystem::create_directories(folder.path + "/sys/bus/pci/drivers/vfio-pci");
  std::filesystem::create_directories(devices + pci + "/iommu_group/devices/" + other);
  std::filesystem::create_directory_symlink("../../drivers/vfio-pci", devices + pci + "/driver");
  std::filesystem::create_directories(devices + other + "/net/eth1");
  std::filesystem::create_directory_symlink("../../drivers/igb", devices + other + "/driver");
  eth1.addresses = {*Address::parse("10.0.0.1")};
  Findings findings;
  check_pci(machine, pci, findings);
  expect_only(findings, Level::fail, "port " + pci, "of igb, which is eth1 with 10.0.0.1",
              "another slot; this machine uses 0000:01:00.1");
  eth1.addresses.clear();
  findings.clear();
  check_pci(machine, pci, findings);
  expect_only(findings, Level::fail, "port " + pci, "of igb", "driverctl set-override " + other);
  folder.write("sys/bus/pci/devices/" + other + "/class", "0x010601\n");
  findings.clear();
  check_pci(machine, pci, findings);
  expect_only(findings, Level::fail, "port " + pci, "of igb", "another slot");
}

TEST_F(Doctor, DpdkDrivers) {
  const std::string pci = "0000:01:00.0";
  const std::string device = folder.path + "/sys/bus/pci/devices/" + pci;
  std::filesystem::create_directories(device + "/infiniband");
  std::filesystem::create_directory_symlink("../../drivers/mlx5_core", device + "/driver");
  const std::string pmds = "usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0/";
  const auto findings = [&] {
    Findings found;
    check_pci(machine, pci, found);
    return found;
  };
  for (const char* file : {"librte_bus_pci.so.23.0", "librte_net_af_xdp.so.23.0",
                           "librte_net_null.so.23.0", "librte_net_e1000.so.23.0"}) {
    folder.write(pmds + file, "");
    expect_only(findings(), Level::fail, "port " + pci, "DPDK's driver", "librte-meta-net");
  }
  folder.write(pmds + "librte_net_mlx5.so.23.0", "");
  expect_all_ok(findings());
  folder.write("usr/lib/x86_64-linux-gnu/dpdk/pmds-24.0/librte_net_null.so.24.0", "");
  expect_all_ok(findings());
}

TEST_F(Doctor, HugepagesOfTheDataplaneThatRuns) {
  config.hugepages = true;
  config.memory_mb = 512;
  folder.write("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "6\n");
  folder.write("proc/612/status", "VmRSS:\t  9 kB\nHugetlbPages:\t  512000 kB\n");
  folder.write("dataplane.lock", "");
  config.run_dir = "";  // under the machine's root
  const std::string of = " MB of hugepages, dataplane.memory_mb is 512";
  EXPECT_EQ(node()[1].message, "only 12" + of);
  folder.write("proc/locks", lock_of(folder.path + "/dataplane.lock", "FLOCK"));
  EXPECT_EQ(node()[1].message, "512" + of);
}

TEST_F(Doctor, LockOwner) {
  folder.write("a", "");
  folder.write("b", "");
  const std::string a = folder.path + "/a";
  EXPECT_FALSE(machine.lock_owner("/a"));
  folder.write("proc/locks", lock_of(a, "POSIX") + lock_of(folder.path + "/b", "FLOCK"));
  EXPECT_FALSE(machine.lock_owner("/a"));
  EXPECT_FALSE(machine.lock_owner("/none"));
  folder.write("proc/locks", "odd\n" + lock_of(a, "FLOCK"));
  EXPECT_EQ(machine.lock_owner("/a"), "612");

  // As the kernel writes it.
  const Machine here = Machine::here();
  const std::string path = "/dev/shm/gwdoctor" + std::to_string(getpid());
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  ASSERT_TRUE(fd) << path;
  EXPECT_FALSE(here.lock_owner(path));
  EXPECT_EQ(flock(fd.get(), LOCK_EX), 0);
  EXPECT_EQ(here.lock_owner(path), std::to_string(getpid()));
  unlink(path.c_str());
}

TEST_F(Doctor, VdevOnAnInterface) {
  folder.write("dev/net/tun", "");
  config.ports[0] = {"", "", "net_af_xdp0,iface=eth9,queue_count=1", ""};
  expect_only(node(), Level::fail, "port eth9", "no such interface", "ip -br link");
  config.ports[0].vdev = "net_null0";
  expect_all_ok(node());
}

TEST_F(Doctor, Folders) {
  config.state_dir = folder.write("a-file", "");
  expect_only(node(), Level::fail, "state folder", "is not a folder", "mkdir");
  config.state_dir = folder.path + "/new";
  expect_all_ok(node());
  config.state_dir = folder.path + "/no/such/parent";
  expect_only(node(), Level::fail, "state folder", "cannot be made", "mkdir -p");
}

TEST_F(Doctor, ControlGroup) {
  config.control_group = "root";
  expect_all_ok(node());
  config.control_group = "gw-no-such-group";
  expect_only(node(), Level::fail, "control group", "no group gw-no-such-group", "groupadd");
}

Json running_status() {
  return Json::parse(R"({"revision":12,"dataplane":{"connected":true,"alive":true,"generation":17,
    "revision":12,"refused":null,"problem":null},
    "services":[{"service":"203.0.113.10:443/tcp"},{"service":"[2001:db8::10]:443/tcp"},
                {"service":"203.0.113.11/udp"}],
    "pools":[{"name":"web","forwarding":"l2"}]})");
}

Findings with_status(const Machine& machine, const Json& status) {
  return check_daemons(machine, "/s", Answer(status.dump())).findings;
}

TEST_F(Doctor, Daemons) {
  Json status = running_status();
  expect_all_ok(with_status(machine, status));
  Daemons daemons = check_daemons(machine, "/s", Answer(status.dump()));
  EXPECT_EQ(daemons.outer_bytes, 0u);
  status["pools"] = Json::array();
  EXPECT_FALSE(check_daemons(machine, "/s", Answer(status.dump())).outer_bytes.has_value());
  status = running_status();

  status["dataplane"]["revision"] = 11;
  expect_only(with_status(machine, status), Level::warn, "dataplane", "runs revision 11",
              "journalctl");
  status["dataplane"]["refused"] = {{"generation", 18}, {"reason", "checksum"}};
  expect_only(with_status(machine, status), Level::fail, "dataplane",
              "refused generation 18: checksum", "journalctl");
  status["dataplane"]["alive"] = false;
  expect_only(with_status(machine, status), Level::fail, "dataplane", "stands still",
              "systemctl restart");
  status["dataplane"]["connected"] = false;
  status["dataplane"]["problem"] = "no socket";
  expect_only(with_status(machine, status), Level::fail, "dataplane",
              "not connected to it: no socket", "systemctl start guideway-dataplane");
}

TEST_F(Doctor, WhatTunnelsAdd) {
  const auto added = [&](const char* forwarding, const Json& backends) {
    Json status = running_status();
    status["pools"].push_back({{"forwarding", forwarding}, {"backends", backends}});
    return check_daemons(machine, "/s", Answer(status.dump())).outer_bytes;
  };
  const Json v4 = {{{"address", "10.0.0.1"}}};
  const Json both = {{{"address", "10.0.0.1"}}, {{"address", "fd00::1"}}};
  EXPECT_EQ(added("l2", both), 0u);
  EXPECT_EQ(added("ipip", Json::array()), 0u);  // the other pool, of l2, adds nothing
  EXPECT_EQ(added("ipip", v4), 20u);
  EXPECT_EQ(added("ipip", both), 40u);
  // UDP, GUE, and as many later hops as there may be.
  EXPECT_EQ(added("gue", v4), 20u + 8 + 8 + 4 * 4);
  EXPECT_EQ(added("gue", both), 40u + 8 + 8 + 4 * 16);
}

TEST_F(Doctor, VipIsAnAddressOfTheNode) {
  for (const char* vip : {"203.0.113.10", "2001:db8::10", "203.0.113.11"}) {
    machine.addresses = {*Address::parse("10.0.0.1"), *Address::parse(vip)};
    expect_only(with_status(machine, running_status()), Level::fail, std::string("vip ") + vip,
                "address of this node", std::string("ip addr del ") + vip);
  }
}

TEST_F(Doctor, NoControlPlane) {
  Failure failure{kUnreachable, 0, {"", "cannot reach it", "restart it"}, ""};
  expect_only(check_daemons(machine, folder.path + "/none", tl::unexpected(failure)).findings,
              Level::warn, "control plane", "cannot reach it",
              "systemctl start guideway-controlplane");
  expect_only(check_daemons(machine, folder.write("sock", ""), tl::unexpected(failure)).findings,
              Level::fail, "control plane", "cannot reach it", "restart it");
}

TEST_F(Doctor, WholeRun) {
  FakeServer server;
  server.answer("GET /v1/status", 200, running_status().dump());
  std::string toml = folder.write(
      "node.toml", "[[dataplane.ports]]\ninterface = \"eth1\"\n[control]\nsocket = \"" +
                       server.socket() + "\"\n[paths]\nrun = \"" + folder.path + "\"\nstate = \"" +
                       folder.path + "\"\n");
  std::ostringstream out, err;
  Context context(out, err);
  EXPECT_EQ(doctor(context, toml, machine), kOk) << out.str();
  EXPECT_EQ(out.str(),
            "ok    kernel         6.1.0-18-amd64\n"
            "ok    btf            present\n"
            "ok    af_xdp         the kernel has AF_XDP sockets\n"
            "ok    privileges     root, with all capabilities needed\n"
            "ok    clock          synchronised\n"
            "ok    bpffs          mounted at /sys/fs/bpf\n"
            "ok    node.toml      " +
                toml +
                " is valid\n"
                "ok    cores          1 worker(s), not pinned\n"
                "ok    port eth1      up, MTU 1540, driver e1000e\n"
                "ok    run folder     " +
                folder.path +
                " is writable\n"
                "ok    state folder   " +
                folder.path +
                " is writable\n"
                "ok    control plane  answers at " +
                server.socket() +
                ", revision 12\n"
                "ok    dataplane      alive, generation 17\n"
                "ok    vips           none of 3 VIPs is an address of this node\n"
                "\n"
                "14 ok, 0 warnings, 0 failures\n");

  eth1.up = false;
  context.json = true;
  out.str("");
  EXPECT_EQ(doctor(context, toml, machine), kRefused);
  Json json = Json::parse(out.str());
  EXPECT_EQ(json["fail"], 1);
  EXPECT_EQ(json["ok"], 13);
}

TEST(DoctorProgram, ABadNodeTomlIsAFailure) {
  TemporaryFolder folder;
  std::string toml = folder.write("node.toml", "[node]\nnmae = \"edge-1\"\n");
  auto outcome =
      test::run({test::guideway(), "--socket", folder.path + "/none", "doctor", "--config", toml});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.out.find("FAIL  node.toml"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("nmae"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("warn  control plane"), std::string::npos) << outcome.out;
}

}  // namespace
}  // namespace guideway::cli
