// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/machine.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "bpf/attachment.h"
#include "bpf/redirect.h"

namespace guideway::cli {
namespace {

// One SIOC... question about an interface.
class Question {
 public:
  explicit Question(const std::string& name)
      : socket_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    if (name.size() < IFNAMSIZ) std::memcpy(request_.ifr_name, name.c_str(), name.size() + 1);
  }
  ~Question() {
    if (socket_ >= 0) close(socket_);
  }
  Question(const Question&) = delete;
  Question& operator=(const Question&) = delete;

  bool ask(unsigned long what, void* data = nullptr) {
    if (data != nullptr) request_.ifr_data = static_cast<char*>(data);
    return socket_ >= 0 && ioctl(socket_, what, &request_) == 0;
  }
  const ifreq& answer() const { return request_; }

 private:
  int socket_;
  ifreq request_{};
};

std::string driver_of(const std::string& name) {
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  if (!Question(name).ask(SIOCETHTOOL, &info)) return "";
  return std::string(info.driver, strnlen(info.driver, sizeof info.driver));
}

// The combined channels; a driver that does not know the question has one.
unsigned queues_of(const std::string& name) {
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  if (!Question(name).ask(SIOCETHTOOL, &channels)) return 1;
  return std::max(1u, channels.combined_count);
}

std::string veth_peer(const Machine& machine, const std::string& name) {
  auto index = machine.line("/sys/class/net/" + name + "/iflink");
  char buffer[IFNAMSIZ];
  if (!index ||
      if_indextoname(static_cast<unsigned>(std::atoi(index->c_str())), buffer) == nullptr) {
    return "";
  }
  // The index counts in the peer's namespace; only a peer that points back is the right one.
  auto back = machine.line(std::string("/sys/class/net/") + buffer + "/iflink");
  auto own = machine.line("/sys/class/net/" + name + "/ifindex");
  return back && own && *back == *own && driver_of(buffer) == "veth" ? buffer : "";
}

std::optional<bool> offloads_checksums(const std::string& name) {
  ethtool_value value{};
  value.cmd = ETHTOOL_GTXCSUM;
  if (!Question(name).ask(SIOCETHTOOL, &value)) return {};
  return value.data != 0;
}

void read_xdp(const std::string& name, InterfaceState& state) {
  auto found = Interface::find(name);
  if (!found) {
    state.xdp_problem = found.error().text();
    return;
  }
  auto attached = xdp_attachments(*found);
  if (!attached) {
    state.xdp_problem = attached.error().text();
    return;
  }
  for (const Attachment& attachment : *attached) state.xdp_programs.push_back(attachment.program);
}

InterfaceState interface_state(const std::string& name) {
  InterfaceState state;
  if (name.empty() || name.size() >= IFNAMSIZ) return state;
  Question flags(name);
  state.exists = flags.ask(SIOCGIFFLAGS);
  if (!state.exists) return state;
  state.up = (flags.answer().ifr_flags & IFF_UP) != 0;
  state.running = (flags.answer().ifr_flags & IFF_RUNNING) != 0;
  Question mtu(name);
  if (mtu.ask(SIOCGIFMTU)) state.mtu = static_cast<unsigned>(mtu.answer().ifr_mtu);
  state.driver = driver_of(name);
  state.queues = queues_of(name);
  if (auto addresses = host_addresses(name)) {
    std::ranges::copy_if(*addresses, std::back_inserter(state.addresses), [](const Address& one) {
      return one.is_v4() || !IN6_IS_ADDR_LINKLOCAL(reinterpret_cast<const in6_addr*>(one.v6()));
    });
  }
  state.enslaved = Machine{}.has("/sys/class/net/" + name + "/master");
  if (state.driver == "veth") {
    state.veth_peer = veth_peer(Machine{}, name);
    if (!state.veth_peer.empty())
      state.peer_offloads_checksums = offloads_checksums(state.veth_peer);
  }
  read_xdp(name, state);
  return state;
}

uint64_t effective_capabilities() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("CapEff:", 0) == 0) return std::strtoull(line.c_str() + 7, nullptr, 16);
  }
  return 0;
}

}  // namespace

Machine Machine::here() {
  Machine machine;
  utsname names{};
  if (uname(&names) == 0) machine.release = names.release;
  machine.is_root = geteuid() == 0;
  machine.capabilities = effective_capabilities();
  int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
  // Without CAP_NET_RAW the kernel says EPERM, which proves nothing against it.
  machine.has_af_xdp = fd >= 0 || errno == EPERM;
  if (fd >= 0) close(fd);
  machine.now = time(nullptr);
  timex clock{};
  machine.clock_synchronised = adjtimex(&clock) != TIME_ERROR;
  if (auto addresses = host_addresses()) machine.addresses = std::move(*addresses);
  machine.interface = interface_state;
  return machine;
}

bool Machine::has(const std::string& path) const {
  std::error_code ignored;
  return std::filesystem::exists(root + path, ignored);
}

std::optional<std::string> Machine::line(const std::string& path) const {
  std::ifstream file(root + path);
  std::string text;
  if (!std::getline(file, text)) return {};
  return text;
}

std::string Machine::link(const std::string& path) const {
  std::error_code problem;
  auto target = std::filesystem::read_symlink(root + path, problem);
  return problem ? "" : target.filename().string();
}

bool Machine::mounted(const std::string& type, const std::string& path) const {
  std::ifstream mounts(root + "/proc/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string device, where, what;
    if (words >> device >> where >> what && where == path && what == type) return true;
  }
  return false;
}

std::vector<std::string> Machine::names_in(const std::string& path) const {
  std::vector<std::string> names;
  std::error_code problem;
  for (const auto& entry : std::filesystem::directory_iterator(root + path, problem))
    names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

// "1: FLOCK  ADVISORY  WRITE 612 fe:00:1835 0 EOF": device in hexadecimal, inode in decimal.
std::optional<std::string> Machine::lock_owner(const std::string& path) const {
  struct stat file {};
  if (stat((root + path).c_str(), &file) != 0) return {};
  char wanted[64];
  std::snprintf(wanted, sizeof wanted, "%02x:%02x:%lu", major(file.st_dev), minor(file.st_dev),
                static_cast<unsigned long>(file.st_ino));
  std::ifstream locks(root + "/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::istringstream words(line);
    std::string number, kind, manner, access, pid, which;
    if (words >> number >> kind >> manner >> access >> pid >> which && kind == "FLOCK" &&
        which == wanted)
      return pid;
  }
  return {};
}

uint64_t Machine::number(const std::string& path) const {
  return std::strtoull(line(path).value_or("0").c_str(), nullptr, 10);
}

std::optional<uint64_t> Machine::kilobytes(const std::string& path, const std::string& key) const {
  std::ifstream file(root + path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name, unit;
    uint64_t value = 0;
    if (words >> name >> value >> unit && name == key && unit == "kB") return value;
  }
  return {};
}

}  // namespace guideway::cli
