// SPDX-License-Identifier: Apache-2.0
#include <grp.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "controlplane/cli/finding.h"

namespace guideway::cli {
namespace {

constexpr uint64_t kFreeMb = 64;  // below, a folder counts as nearly full

// "2-3,6", as the kernel writes lists of CPUs.
bool names_cpu(const std::string& cpus, unsigned cpu) {
  const char* at = cpus.c_str();
  while (*at >= '0' && *at <= '9') {
    char* end = nullptr;
    const unsigned long first = std::strtoul(at, &end, 10);
    unsigned long last = first;
    if (*end == '-') last = std::strtoul(end + 1, &end, 10);
    if (cpu >= first && cpu <= last) return true;
    at = *end == ',' ? end + 1 : end;
  }
  return false;
}

// Only who pins workers wants cores for them alone.
void check_isolation(const Machine& machine, const NodeConfig& config, Findings& out) {
  const auto isolated = machine.line("/sys/devices/system/cpu/isolated");
  if (!isolated || config.cores.empty()) return;
  std::string shared;
  for (unsigned core : config.cores) {
    if (names_cpu(*isolated, core)) continue;
    shared += (shared.empty() ? "" : ",") + std::to_string(core);
  }
  if (shared.empty()) {
    out.push_back({Level::ok, "isolated cores", "the workers' are isolated: " + *isolated, "", ""});
    return;
  }
  out.push_back(
      {Level::warn, "isolated cores", "other programs may run on the workers': " + shared,
       "packets wait, and are lost when a burst comes, while another program has the core",
       "add `isolcpus=" + shared + " nohz_full=" + shared +
           "` to the kernel's command line (/etc/default/grub; update-grub; reboot)"});
}

void check_cores(const Machine& machine, const NodeConfig& config, Findings& out) {
  std::string missing;
  for (unsigned core : config.cores) {
    std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(core);
    // CPU 0 of most machines cannot be switched off and has no file `online`.
    bool online = machine.has(folder) && machine.line(folder + "/online").value_or("1") == "1";
    if (!online) missing += (missing.empty() ? "" : ", ") + std::to_string(core);
  }
  if (missing.empty()) {
    out.push_back({Level::ok, "cores",
                   std::to_string(config.workers) + " worker(s)" +
                       (config.cores.empty() ? ", not pinned" : ", each on its own core"),
                   "", ""});
    check_isolation(machine, config, out);
  } else {
    out.push_back(
        {Level::fail, "cores", "dataplane.cores names CPUs that are not online: " + missing,
         "the dataplane does not start", "choose others in node.toml; `lscpu -e` lists them"});
  }
}

// vm.nr_hugepages counts pages of the default size, which mostly is 2 MB.
std::string more_hugepages(const Machine& machine, uint64_t missing_mb) {
  const std::string pages_2mb = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
  const std::string wanted = std::to_string(machine.number(pages_2mb) + (missing_mb + 1) / 2);
  if (machine.kilobytes("/proc/meminfo", "Hugepagesize:").value_or(2048) == 2048) {
    return "sysctl -w vm.nr_hugepages=" + wanted +
           " (pages of 2 MB; in /etc/sysctl.d, to keep it), or hugepages = false in node.toml";
  }
  if (machine.has(pages_2mb)) {
    return "echo " + wanted + " >" + pages_2mb + " (to keep it: hugepagesz=2M hugepages=" + wanted +
           " on the kernel's command line), or hugepages = false in node.toml";
  }
  return "hugepages = false in node.toml, or hugepages=N on the kernel's command line; grep Huge "
         "/proc/meminfo tells their size";
}

// What the dataplane that runs by this node.toml has; 0 if none does.
uint64_t dataplane_hugepages_kb(const Machine& machine, const NodeConfig& config) {
  const auto pid = machine.lock_owner(config.run_dir + "/dataplane.lock");
  return pid ? machine.kilobytes("/proc/" + *pid + "/status", "HugetlbPages:").value_or(0) : 0;
}

void check_hugepages(const Machine& machine, const NodeConfig& config, Findings& out) {
  if (!config.hugepages) return;
  uint64_t free_kb = dataplane_hugepages_kb(machine, config);
  const std::string sizes = "/sys/kernel/mm/hugepages";
  for (const std::string& name : machine.names_in(sizes)) {  // hugepages-2048kB
    const uint64_t size_kb = std::strtoull(name.c_str() + std::strlen("hugepages-"), nullptr, 10);
    const uint64_t free = machine.number(sizes + "/" + name + "/free_hugepages");
    const uint64_t promised = machine.number(sizes + "/" + name + "/resv_hugepages");
    free_kb += size_kb * (free - std::min(free, promised));
  }
  std::string amount = std::to_string(free_kb / 1024) +
                       " MB of hugepages, dataplane.memory_mb is " +
                       std::to_string(config.memory_mb);
  if (free_kb / 1024 >= config.memory_mb) {
    out.push_back({Level::ok, "hugepages", amount, "", ""});
  } else {
    out.push_back({Level::fail, "hugepages", "only " + amount, "the dataplane does not start",
                   more_hugepages(machine, config.memory_mb - free_kb / 1024)});
  }
}

void check_folder(const std::string& check, const std::string& path, const std::string& breaks,
                  Findings& out) {
  struct stat found {};
  if (stat(path.c_str(), &found) != 0 && errno == ENOENT) {
    std::filesystem::path parent = std::filesystem::path(path).parent_path();
    if (access(parent.c_str(), W_OK | X_OK) == 0) {
      out.push_back({Level::ok, check, path + " is made at start", "", ""});
    } else {
      out.push_back(
          {Level::fail, check,
           path + " is not there and cannot be made: " + parent.string() + ": " + strerror(errno),
           breaks, "mkdir -p " + path});
    }
    return;
  }
  if (found.st_mode != 0 && !S_ISDIR(found.st_mode)) {
    out.push_back({Level::fail, check, path + " is not a folder", breaks,
                   "mv " + path + " " + path + ".old && mkdir " + path});
    return;
  }
  if (access(path.c_str(), W_OK | X_OK) != 0) {
    int problem = errno;
    // A folder of root's is no fault of the machine; the one who asks is not root.
    out.push_back({geteuid() == 0 ? Level::fail : Level::warn, check,
                   path + " is not writable: " + strerror(problem), breaks,
                   problem == EROFS ? "mount -o remount,rw " + path : "sudo guideway doctor"});
    return;
  }
  struct statvfs space {};
  if (statvfs(path.c_str(), &space) == 0 && uint64_t{space.f_bavail} * space.f_frsize < kFreeMb
                                                                                            << 20) {
    out.push_back({Level::warn, check, path + " is nearly full: less than 64 MB are free", breaks,
                   "df -h " + path});
    return;
  }
  out.push_back({Level::ok, check, path + " is writable", "", ""});
}

void check_group(const NodeConfig& config, Findings& out) {
  if (config.control_group.empty()) return;
  if (getgrnam(config.control_group.c_str()) != nullptr) {
    out.push_back({Level::ok, "control group", config.control_group + " exists", "", ""});
  } else {
    out.push_back({Level::fail, "control group", "there is no group " + config.control_group,
                   "the control socket cannot be given to it",
                   "groupadd --system " + config.control_group});
  }
}

}  // namespace

Findings check_node(const Machine& machine, const NodeConfig& config,
                    std::optional<unsigned> outer_bytes) {
  Findings out;
  check_cores(machine, config, out);
  check_hugepages(machine, config, out);
  for (Finding& finding : check_ports(machine, config, outer_bytes))
    out.push_back(std::move(finding));
  check_folder("run folder", config.run_dir, "no sockets, no counters, no copy of the image", out);
  check_folder("state folder", config.state_dir, "no change of services and pools can be stored",
               out);
  check_group(config, out);
  return out;
}

}  // namespace guideway::cli
