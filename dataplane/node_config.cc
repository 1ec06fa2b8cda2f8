// SPDX-License-Identifier: Apache-2.0
#include "dataplane/node_config.h"

#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>
#include <sstream>
#include <utility>

#include "dataplane/abi.h"
#include "dataplane/toml_reader.h"

namespace guideway {
namespace {

constexpr int64_t kCoreMax = 1023;
constexpr int64_t kMemoryMbMin = 64;
constexpr int64_t kMtuMin = 1280;  // IPv6 asks for that
constexpr int64_t kMtuMax = 2030;  // one packet buffer, with the Ethernet header and a tag
constexpr int64_t kMemoryMbMax = 1 << 20;
constexpr int64_t kFlowTableMin = 1024;
constexpr int64_t kFlowTableMax = 1 << 24;   // 256 MiB
constexpr int64_t kRulePriorityMax = 32765;  // 32766 is main's
constexpr size_t kInterfaceNameMax = 15;     // IFNAMSIZ - 1
constexpr size_t kDevicePathMax = 255;

bool is_interface_name(const std::string& name) {
  return !name.empty() && name.size() <= kInterfaceNameMax && name != "." && name != ".." &&
         std::none_of(name.begin(), name.end(), [](unsigned char c) {
           return c == '/' || c == ':' || std::isspace(c) != 0 || std::iscntrl(c) != 0;
         });
}

// "0000:01:00.0"
bool is_pci_address(const std::string& text) {
  static constexpr std::string_view kShape = "xxxx:xx:xx.7";
  if (text.size() != kShape.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned char c = static_cast<unsigned char>(text[i]);
    bool fits = kShape[i] == 'x'   ? std::isxdigit(c) != 0
                : kShape[i] == '7' ? c >= '0' && c <= '7'
                                   : c == static_cast<unsigned char>(kShape[i]);
    if (!fits) return false;
  }
  return true;
}

void read_port(TomlReader& reader, const toml::table& table, const std::string& path,
               PortConfig& port) {
  reader.only_keys(table, path, {"interface", "pci", "vdev", "tap", "mtu"});
  const toml::node* interface = reader.take(&table, path, "interface", port.interface);
  const toml::node* pci = reader.take(&table, path, "pci", port.pci);
  const toml::node* vdev = reader.take(&table, path, "vdev", port.vdev);
  const toml::node* tap = reader.take(&table, path, "tap", port.tap);
  const toml::node* mtu = reader.take_number(&table, path, "mtu", kMtuMin, kMtuMax, port.mtu);
  int kinds = (interface != nullptr) + (pci != nullptr) + (vdev != nullptr);
  if (kinds != 1) {
    reader.refuse(&table, path,
                  kinds == 0 ? "needs one of interface, pci and vdev"
                             : "has more than one of interface, pci and vdev");
  }
  if (interface != nullptr && !is_interface_name(port.interface)) {
    reader.refuse(interface, path + ".interface",
                  "'" + port.interface + "' is no interface name (1 to 15 characters)");
  }
  if (pci != nullptr && !is_pci_address(port.pci)) {
    reader.refuse(pci, path + ".pci", "'" + port.pci + "' is no PCI address", "like 0000:01:00.0");
  }
  if (vdev != nullptr && port.vdev.size() > kDevicePathMax) {
    reader.refuse(vdev, path + ".vdev", "must be at most 255 characters");
  }
  if (tap != nullptr && interface != nullptr) {
    reader.refuse(tap, path + ".tap", "is for pci and vdev ports only",
                  "an interface port stays in the kernel itself");
  }
  if (mtu != nullptr && interface != nullptr) {
    reader.refuse(mtu, path + ".mtu", "is for pci and vdev ports only",
                  "ip link set dev " + port.interface + " mtu ...");
  }
  if (tap != nullptr && !is_interface_name(port.tap)) {
    reader.refuse(tap, path + ".tap",
                  "'" + port.tap + "' is no interface name (1 to 15 characters)");
  }
}

void read_ports(TomlReader& reader, const toml::table* dataplane, NodeConfig& config) {
  const std::string path = "dataplane.ports";
  const toml::node* node = dataplane == nullptr ? nullptr : dataplane->get("ports");
  const toml::array* ports = node == nullptr ? nullptr : node->as_array();
  if (node != nullptr && ports == nullptr) {
    return reader.refuse(node, path, TomlReader::wrong_type("an array of tables", *node),
                         "write [[dataplane.ports]]");
  }
  if (ports == nullptr || ports->empty()) {
    return reader.refuse(node, path, "at least one port is needed",
                         "[[dataplane.ports]] with interface = \"eth1\"");
  }
  if (ports->size() > GW_PORTS_MAX) {
    return reader.refuse(
        node, path,
        "at most " + std::to_string(GW_PORTS_MAX) + " ports, got " + std::to_string(ports->size()));
  }
  std::set<std::string> used;
  for (size_t i = 0; i < ports->size(); ++i) {
    const toml::node& item = *ports->get(i);
    std::string item_path = path + "[" + std::to_string(i) + "]";
    if (!item.is_table()) {
      return reader.refuse(&item, item_path, TomlReader::wrong_type("a table", item),
                           "write [[dataplane.ports]]");
    }
    PortConfig port;
    read_port(reader, *item.as_table(), item_path, port);
    if (port.interface.empty() && port.tap.empty()) port.tap = "gw" + std::to_string(i);
    for (const std::string* name : {&port.interface, &port.pci, &port.vdev, &port.tap}) {
      if (!name->empty() && !used.insert(*name).second) {
        reader.refuse(&item, item_path, "'" + *name + "' is used by an earlier port already");
      }
    }
    config.ports.push_back(std::move(port));
  }
}

void read_cores(TomlReader& reader, const toml::table* dataplane, NodeConfig& config) {
  const toml::node* node = dataplane == nullptr ? nullptr : dataplane->get("cores");
  if (node == nullptr) return;
  const toml::array* cores = node->as_array();
  if (cores == nullptr) {
    return reader.refuse(node, "dataplane.cores",
                         TomlReader::wrong_type("an array of integers", *node));
  }
  std::set<unsigned> used;
  for (size_t i = 0; i < cores->size(); ++i) {
    unsigned core = 0;
    std::string path = "dataplane.cores[" + std::to_string(i) + "]";
    if (!reader.number(*cores->get(i), path, 0, kCoreMax, core)) return;
    if (!used.insert(core).second) {
      return reader.refuse(cores->get(i), path, "core " + std::to_string(core) + " stands twice");
    }
    config.cores.push_back(core);
  }
  if (!config.cores.empty() && config.cores.size() != config.workers) {
    reader.refuse(node, "dataplane.cores",
                  "needs one core per worker: " + std::to_string(config.workers) + ", got " +
                      std::to_string(config.cores.size()));
  }
}

void read_source(TomlReader& reader, const toml::table* tunnel, std::string_view key, bool v4,
                 std::optional<Address>& out) {
  std::string text;
  const toml::node* node = reader.take(tunnel, "tunnel", key, text);
  if (node == nullptr) return;
  std::optional<Address> address = Address::parse(text);
  if (!address || address->is_v4() != v4) {
    return reader.refuse(node, "tunnel." + std::string(key),
                         "'" + text + "' is no " + std::string(v4 ? "IPv4" : "IPv6") + " address");
  }
  out = address;
}

void read_control(TomlReader& reader, const toml::table& root, NodeConfig& config) {
  const toml::table* control = reader.section(root, "control", {"socket", "mode", "group"});
  const toml::node* socket = reader.take(control, "control", "socket", config.control_socket);
  if (config.control_socket.empty()) config.control_socket = config.run_dir + "/control.sock";
  static constexpr size_t kSocketPathMax = sizeof(sockaddr_un::sun_path) - 1;
  if (config.control_socket.front() != '/' || config.control_socket.size() > kSocketPathMax) {
    reader.refuse(socket, "control.socket",
                  "must be an absolute path of at most " + std::to_string(kSocketPathMax) +
                      " bytes, got '" + config.control_socket + "'");
  }
  std::string mode;
  if (const toml::node* node = reader.take(control, "control", "mode", mode)) {
    bool octal = mode.size() >= 3 && mode.size() <= 4 &&
                 mode.find_first_not_of("01234567") == std::string::npos;
    unsigned value = octal ? static_cast<unsigned>(std::stoul(mode, nullptr, 8)) : 0;
    if (!octal || value > 0777) {
      return reader.refuse(node, "control.mode",
                           "must be an octal file mode 0000 to 0777, got '" + mode + "'",
                           "like \"0660\"");
    }
    config.control_mode = value;
  }
  reader.take(control, "control", "group", config.control_group);
}

void read_directory(TomlReader& reader, const toml::table* paths, std::string_view key,
                    std::string& out) {
  static constexpr size_t kLongest = sizeof(sockaddr_un::sun_path) - sizeof "/dataplane.sock";
  const toml::node* node = reader.take(paths, "paths", key, out);
  if (node == nullptr) return;
  if (out.front() != '/' || out.size() > kLongest) {
    return reader.refuse(node, "paths." + std::string(key),
                         "must be an absolute path of at most " + std::to_string(kLongest) +
                             " bytes, got '" + out + "'");
  }
  while (out.size() > 1 && out.back() == '/') out.pop_back();
}

void read_dataplane(TomlReader& reader, const toml::table& root, NodeConfig& config) {
  const toml::table* dataplane = reader.section(
      root, "dataplane", {"workers", "cores", "hugepages", "memory_mb", "flow_table", "ports"});
  reader.take_number(dataplane, "dataplane", "workers", 1, GW_WORKERS_MAX, config.workers);
  read_cores(reader, dataplane, config);
  reader.take_bool(dataplane, "dataplane", "hugepages", config.hugepages);
  reader.take_number(dataplane, "dataplane", "memory_mb", kMemoryMbMin, kMemoryMbMax,
                     config.memory_mb);
  reader.take_number(dataplane, "dataplane", "flow_table", kFlowTableMin, kFlowTableMax,
                     config.flow_table);
  config.flow_table = std::bit_ceil(config.flow_table);
  read_ports(reader, dataplane, config);
}

void read_routes(TomlReader& reader, const toml::table& root, NodeConfig& config) {
  const toml::table* routes = reader.section(root, "routes", {"table", "rule_priority"});
  const toml::node* table = reader.take_number(
      routes, "routes", "table", 1, std::numeric_limits<uint32_t>::max(), config.route_table);
  if (config.route_table >= 253 && config.route_table <= 255) {
    reader.refuse(table, "routes.table",
                  std::to_string(config.route_table) +
                      " is the kernel's own (253 default, 254 main, 255 local)");
  }
  reader.take_number(routes, "routes", "rule_priority", 1, kRulePriorityMax, config.rule_priority);
}

void read_announce(TomlReader& reader, const toml::table& root, NodeConfig& config) {
  static constexpr int64_t kMetricMax = (1 << 24) - 1;  // FRR takes the byte above for a distance
  static constexpr int64_t kBackendsMax = 65535;
  static constexpr int64_t kDrainSecondsMax = 86400;
  AnnounceConfig& out = config.announce;
  const std::string path = "announce";
  const toml::table* announce = reader.section(
      root, path,
      {"table", "metric_normal", "metric_reduced", "min_healthy", "on_panic", "drain_seconds"});
  const toml::node* table = reader.take_number(announce, path, "table", 1,
                                               std::numeric_limits<uint32_t>::max(), out.table);
  if (out.table == config.route_table) {
    reader.refuse(table, path + ".table",
                  std::to_string(out.table) + " is routes.table, which holds the blackholes",
                  "254 (main) is what FRR reads; BIRD reads any other as well");
  }
  if (out.table == 255) reader.refuse(table, path + ".table", "255 is the kernel's own (local)");
  const toml::node* normal =
      reader.take_number(announce, path, "metric_normal", 1, kMetricMax, out.metric_normal);
  const toml::node* reduced =
      reader.take_number(announce, path, "metric_reduced", 1, kMetricMax, out.metric_reduced);
  if (out.metric_reduced <= out.metric_normal) {
    reader.refuse(reduced != nullptr ? reduced : normal, path + ".metric_reduced",
                  "must be more than metric_normal (" + std::to_string(out.metric_normal) +
                      "), got " + std::to_string(out.metric_reduced));
  }
  reader.take_number(announce, path, "min_healthy", 1, kBackendsMax, out.min_healthy);
  reader.take_number(announce, path, "drain_seconds", 1, kDrainSecondsMax, out.drain_seconds);
  std::string on_panic;
  const toml::node* panic = reader.take(announce, path, "on_panic", on_panic);
  if (panic != nullptr && on_panic != "reduce" && on_panic != "withdraw") {
    reader.refuse(panic, path + ".on_panic", "must be reduce or withdraw, got '" + on_panic + "'");
  }
  out.panic_withdraws = on_panic == "withdraw";
}

void read_agents(TomlReader& reader, const toml::table& root, NodeConfig& config) {
  const toml::table* agents = reader.section(root, "agents", {"key_file", "port"});
  if (agents == nullptr) return;
  const toml::node* file = reader.take(agents, "agents", "key_file", config.agents.key_file);
  if (config.agents.key_file.empty()) {
    reader.refuse(agents, "agents.key_file", "is needed: without the key no agent answers",
                  "guideway agent key");
  } else if (config.agents.key_file.front() != '/') {
    reader.refuse(file, "agents.key_file",
                  "must be an absolute path, got '" + config.agents.key_file + "'");
  }
  reader.take_number(agents, "agents", "port", 1, 65535, config.agents.port);
}

void read_cluster_files(TomlReader& reader, const toml::table* cluster, ClusterConfig& out) {
  const std::string path = "cluster";
  for (auto [key, file] :
       {std::pair("ca_file", &out.ca_file), std::pair("cert_file", &out.cert_file),
        std::pair("key_file", &out.key_file), std::pair("password_file", &out.password_file)}) {
    const toml::node* node = reader.take(cluster, path, key, *file);
    if (node != nullptr && file->front() != '/')
      reader.refuse(node, path + "." + key, "must be an absolute path, got '" + *file + "'");
  }
  if (out.cert_file.empty() != out.key_file.empty())
    reader.refuse(cluster, path + ".cert_file", "and key_file belong together");
  if (out.user.empty() != out.password_file.empty())
    reader.refuse(cluster, path + ".user", "and password_file belong together");
}

void read_cluster(TomlReader& reader, const toml::table& root, NodeConfig& config) {
  ClusterConfig& out = config.cluster;
  const std::string path = "cluster";
  const toml::table* cluster = reader.section(root, path,
                                              {"endpoints", "prefix", "ca_file", "cert_file",
                                               "key_file", "user", "password_file", "lease_s"});
  if (cluster == nullptr) return;
  const toml::node* node = cluster->get("endpoints");
  const toml::array* endpoints = node == nullptr ? nullptr : node->as_array();
  if (endpoints == nullptr || endpoints->empty()) {
    reader.refuse(node == nullptr ? cluster : node, path + ".endpoints",
                  "must be an array of etcd's client URLs", "[\"https://10.0.0.1:2379\"]");
    return;
  }
  bool tls = false;
  for (const toml::node& one : *endpoints) {
    const std::string url = one.value_or(std::string());
    const bool good = url.size() < 256 && url.find_first_of(" \t\r\n@?#") == std::string::npos;
    if (!good || !(url.starts_with("https://") || url.starts_with("http://"))) {
      reader.refuse(&one, path + ".endpoints", "must be URLs like https://10.0.0.1:2379");
      return;
    }
    tls = tls || url.starts_with("https://");
    out.endpoints.push_back(url);
  }
  node = reader.take(cluster, path, "prefix", out.prefix);
  if (out.prefix.front() != '/' || out.prefix.back() != '/' || out.prefix.size() > 200)
    reader.refuse(node, path + ".prefix",
                  "must begin and end with a slash, got '" + out.prefix + "'");
  reader.take(cluster, path, "user", out.user);
  read_cluster_files(reader, cluster, out);
  if (tls && out.ca_file.empty())
    reader.refuse(cluster, path + ".ca_file", "is needed for https: who is believed");
  reader.take_number(cluster, path, "lease_s", 2, 60, out.lease_s);
  const bool nameable = config.name.size() <= 63 &&
                        std::all_of(config.name.begin(), config.name.end(), [](unsigned char c) {
                          return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_';
                        });
  if (!nameable)
    reader.refuse(cluster, "node.name",
                  "must be 1 to 63 of A-Z a-z 0-9 . - _ in a cluster, got '" + config.name + "'");
}

void read_log(TomlReader& reader, const toml::table& root, NodeConfig& config) {
  const toml::table* log = reader.section(root, "log", {"level"});
  const toml::node* level = reader.take(log, "log", "level", config.log_level);
  static constexpr std::string_view kLevels[] = {"trace", "debug", "info", "warn", "error"};
  if (std::find(std::begin(kLevels), std::end(kLevels), config.log_level) == std::end(kLevels)) {
    reader.refuse(level, "log.level",
                  "must be trace, debug, info, warn or error, got '" + config.log_level + "'");
  }
}

std::string host_name() {
  char buffer[256] = {};
  if (gethostname(buffer, sizeof buffer - 1) != 0) return "localhost";
  return buffer;
}

}  // namespace

Result<NodeConfig> NodeConfig::parse(std::string_view toml, std::string_view file_name) {
  toml::table root;
  try {
    root = toml::parse(toml, file_name);
  } catch (const toml::parse_error& error) {
    return fail(std::string(file_name) + ":" + std::to_string(error.source().begin.line),
                std::string(error.description()));
  }
  TomlReader reader(file_name);
  NodeConfig config;
  reader.only_keys(root, "",
                   {"node", "dataplane", "tunnel", "control", "paths", "routes", "announce",
                    "agents", "cluster", "log"});
  reader.take(reader.section(root, "node", {"name"}), "node", "name", config.name);
  if (config.name.empty()) config.name = host_name();
  const toml::table* paths = reader.section(root, "paths", {"run", "state"});
  read_directory(reader, paths, "run", config.run_dir);
  read_directory(reader, paths, "state", config.state_dir);
  const toml::table* tunnel = reader.section(root, "tunnel", {"source4", "source6"});
  read_source(reader, tunnel, "source4", true, config.tunnel_source4);
  read_source(reader, tunnel, "source6", false, config.tunnel_source6);
  read_dataplane(reader, root, config);
  read_control(reader, root, config);
  read_routes(reader, root, config);
  read_announce(reader, root, config);
  read_agents(reader, root, config);
  read_cluster(reader, root, config);
  read_log(reader, root, config);
  if (reader.error) return tl::unexpected<Error>(std::move(*reader.error));
  return config;
}

Result<NodeConfig> NodeConfig::load(const std::string& path) {
  static constexpr size_t kBytesMax = 1 << 20;
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return fail(path, std::string("cannot be read: ") + std::strerror(errno),
                "write it, or name another with --config");
  }
  std::string text(kBytesMax + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return fail(path, std::string("cannot be read: ") + std::strerror(errno));
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kBytesMax) return fail(path, "is over 1 MiB: not a node.toml");
  return parse(text, path);
}

}  // namespace guideway
