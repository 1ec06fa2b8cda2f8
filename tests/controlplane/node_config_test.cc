// SPDX-License-Identifier: Apache-2.0
#include "dataplane/node_config.h"

#include <gtest/gtest.h>

namespace guideway {
namespace {

constexpr const char* kPort = "[[dataplane.ports]]\ninterface = \"eth1\"\n";

TEST(NodeConfig, LeastFileHasDefaults) {
  auto config = NodeConfig::parse(kPort, "node.toml");
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_FALSE(config->name.empty());
  EXPECT_EQ(config->ports.size(), 1u);
  EXPECT_EQ(config->ports[0].interface, "eth1");
  EXPECT_EQ(config->ports[0].tap, "");
  EXPECT_EQ(config->workers, 1u);
  EXPECT_EQ(config->control_socket, "/run/guideway/control.sock");
  EXPECT_EQ(config->control_mode, 0660u);
  EXPECT_EQ(config->route_table, 2203u);
  EXPECT_EQ(config->flow_table, 65536u);
  EXPECT_EQ(config->agents.key_file, "");
  EXPECT_EQ(config->agents.port, 6081u);
}

TEST(NodeConfig, EveryKeyIsRead) {
  auto config = NodeConfig::parse(R"(
[node]
name = "edge-1"
[dataplane]
workers = 2
cores = [1, 3]
hugepages = true
memory_mb = 1024
flow_table = 4096
[[dataplane.ports]]
pci = "0000:01:00.0"
[[dataplane.ports]]
vdev = "net_af_xdp0,iface=eth1"
tap = "vip0"
[tunnel]
source4 = "10.0.0.11"
source6 = "fd00::11"
[control]
mode = "0600"
group = "guideway"
[paths]
run = "/tmp/gw/"
state = "/tmp/gw-state"
[routes]
table = 100
rule_priority = 7
[agents]
key_file = "/etc/guideway/agent.key"
port = 7000
[log]
level = "debug"
)",
                                  "node.toml");
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_EQ(config->name, "edge-1");
  EXPECT_EQ(config->workers, 2u);
  EXPECT_EQ(config->cores, (std::vector<unsigned>{1, 3}));
  EXPECT_TRUE(config->hugepages);
  EXPECT_EQ(config->memory_mb, 1024u);
  EXPECT_EQ(config->flow_table, 4096u);
  EXPECT_EQ(config->ports[0].pci, "0000:01:00.0");
  EXPECT_EQ(config->ports[0].tap, "gw0");
  EXPECT_EQ(config->ports[1].vdev, "net_af_xdp0,iface=eth1");
  EXPECT_EQ(config->ports[1].tap, "vip0");
  EXPECT_EQ(config->tunnel_source4->text(), "10.0.0.11");
  EXPECT_EQ(config->tunnel_source6->text(), "fd00::11");
  EXPECT_EQ(config->run_dir, "/tmp/gw");
  EXPECT_EQ(config->state_dir, "/tmp/gw-state");
  EXPECT_EQ(config->control_socket, "/tmp/gw/control.sock");
  EXPECT_EQ(config->control_mode, 0600u);
  EXPECT_EQ(config->control_group, "guideway");
  EXPECT_EQ(config->route_table, 100u);
  EXPECT_EQ(config->rule_priority, 7u);
  EXPECT_EQ(config->agents.key_file, "/etc/guideway/agent.key");
  EXPECT_EQ(config->agents.port, 7000u);
  EXPECT_EQ(config->log_level, "debug");
}

TEST(NodeConfig, TheFlowTableIsRoundedUpToAPowerOfTwo) {
  const auto entries = [](const char* number) {
    return NodeConfig::parse("[dataplane]\nflow_table = " + std::string(number) + "\n" + kPort,
                             "n.toml")
        ->flow_table;
  };
  EXPECT_EQ(entries("1024"), 1024u);
  EXPECT_EQ(entries("1025"), 2048u);
  EXPECT_EQ(entries("100000"), 131072u);
  EXPECT_EQ(entries("16777216"), 16777216u);
}

struct Bad {
  const char* toml;  // followed by a valid port when `with_port`
  const char* error;
  bool with_port = true;
};

class BadNodeConfig : public testing::TestWithParam<Bad> {};

TEST_P(BadNodeConfig, IsAnErrorWithFileLineAndKey) {
  std::string toml = GetParam().toml;
  if (GetParam().with_port) toml += kPort;
  auto config = NodeConfig::parse(toml, "n.toml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().text(), GetParam().error);
}

const Bad kBad[] = {
    {"[node\nname = 1\n", "n.toml:1: Error while parsing table header: expected ']', saw '\\n'",
     false},
    {"[node]\nname = \"a\"\nname = \"b\"\n",
     "n.toml:3: Error while parsing key-value pair: cannot redefine existing string 'name'", false},
    {"",
     "n.toml: dataplane.ports: at least one port is needed ([[dataplane.ports]] with "
     "interface = \"eth1\")",
     false},
    {"[dataplane]\nports = []\n",
     "n.toml:2: dataplane.ports: at least one port is needed ([[dataplane.ports]] with interface "
     "= \"eth1\")",
     false},
    {"[dataplane]\nports = \"eth1\"\n",
     "n.toml:2: dataplane.ports: must be an array of tables, got a string (write "
     "[[dataplane.ports]])",
     false},
    {"[dataplane]\nports = [\"eth1\"]\n",
     "n.toml:2: dataplane.ports[0]: must be a table, got a string (write [[dataplane.ports]])",
     false},
    {"[nod]\nname = \"a\"\n",
     "n.toml:1: nod: unknown key (known here: node, dataplane, tunnel, control, paths, routes, "
     "announce, agents, cluster, log)"},
    {"[node]\nnam = \"a\"\n", "n.toml:2: node.nam: unknown key (known here: name)"},
    {"node = 3\n", "n.toml:1: node: must be a table, got an integer"},
    {"[node]\nname = 3\n", "n.toml:2: node.name: must be a string, got an integer"},
    {"[node]\nname = \"\"\n", "n.toml:2: node.name: must not be empty nor hold a zero byte"},
    {"[dataplane]\nworkers = 0\n", "n.toml:2: dataplane.workers: must be 1 to 64, got 0"},
    {"[dataplane]\nworkers = 65\n", "n.toml:2: dataplane.workers: must be 1 to 64, got 65"},
    {"[dataplane]\nworkers = \"1\"\n",
     "n.toml:2: dataplane.workers: must be an integer, got a string"},
    {"[dataplane]\nworkers = 1.0\n",
     "n.toml:2: dataplane.workers: must be an integer, got a floating-point number"},
    {"[dataplane]\nworkers = 2\ncores = [1]\n",
     "n.toml:3: dataplane.cores: needs one core per worker: 2, got 1"},
    {"[dataplane]\nworkers = 2\ncores = [1, 1]\n",
     "n.toml:3: dataplane.cores[1]: core 1 stands twice"},
    {"[dataplane]\ncores = 1\n",
     "n.toml:2: dataplane.cores: must be an array of integers, got an integer"},
    {"[dataplane]\ncores = [-1]\n", "n.toml:2: dataplane.cores[0]: must be 0 to 1023, got -1"},
    {"[dataplane]\nhugepages = 1\n",
     "n.toml:2: dataplane.hugepages: must be true or false, got an integer"},
    {"[dataplane]\nmemory_mb = 63\n",
     "n.toml:2: dataplane.memory_mb: must be 64 to 1048576, got 63"},
    {"[dataplane]\nflow_table = 1023\n",
     "n.toml:2: dataplane.flow_table: must be 1024 to 16777216, got 1023"},
    {"[dataplane]\nflow_table = 16777217\n",
     "n.toml:2: dataplane.flow_table: must be 1024 to 16777216, got 16777217"},
    {"[dataplane]\nflow_table = \"64k\"\n",
     "n.toml:2: dataplane.flow_table: must be an integer, got a string"},
    {"[[dataplane.ports]]\n", "n.toml:1: dataplane.ports[0]: needs one of interface, pci and vdev",
     false},
    {"[[dataplane.ports]]\ninterface = \"eth1\"\npci = \"0000:01:00.0\"\n",
     "n.toml:1: dataplane.ports[0]: has more than one of interface, pci and vdev", false},
    {"[[dataplane.ports]]\ninterface = \"eth1\"\ntap = \"gw0\"\n",
     "n.toml:3: dataplane.ports[0].tap: is for pci and vdev ports only (an interface port stays "
     "in the kernel itself)",
     false},
    {"[[dataplane.ports]]\ninterface = \"a b\"\n",
     "n.toml:2: dataplane.ports[0].interface: 'a b' is no interface name (1 to 15 characters)",
     false},
    {"[[dataplane.ports]]\ninterface = \"a123456789012345\"\n",
     "n.toml:2: dataplane.ports[0].interface: 'a123456789012345' is no interface name (1 to 15 "
     "characters)",
     false},
    {"[[dataplane.ports]]\npci = \"1:0\"\n",
     "n.toml:2: dataplane.ports[0].pci: '1:0' is no PCI address (like 0000:01:00.0)", false},
    {"[[dataplane.ports]]\ninterface = \"eth1\"\n",
     "n.toml:3: dataplane.ports[1]: 'eth1' is used by an earlier port already"},
    {"[[dataplane.ports]]\nvdev = \"net_null0\"\ntap = \"gw1\"\n[[dataplane.ports]]\nvdev = "
     "\"net_null1\"\n",
     "n.toml:4: dataplane.ports[1]: 'gw1' is used by an earlier port already", false},
    {"[tunnel]\nsource4 = \"fd00::1\"\n", "n.toml:2: tunnel.source4: 'fd00::1' is no IPv4 address"},
    {"[tunnel]\nsource6 = \"10.0.0.1\"\n",
     "n.toml:2: tunnel.source6: '10.0.0.1' is no IPv6 address"},
    {"[control]\nmode = 432\n", "n.toml:2: control.mode: must be a string, got an integer"},
    {"[control]\nmode = \"0888\"\n",
     "n.toml:2: control.mode: must be an octal file mode 0000 to 0777, got '0888' (like "
     "\"0660\")"},
    {"[control]\nmode = \"7777\"\n",
     "n.toml:2: control.mode: must be an octal file mode 0000 to 0777, got '7777' (like "
     "\"0660\")"},
    {"[control]\nsocket = \"control.sock\"\n",
     "n.toml:2: control.socket: must be an absolute path of at most 107 bytes, got "
     "'control.sock'"},
    {"[paths]\nrun = \"run\"\n",
     "n.toml:2: paths.run: must be an absolute path of at most 92 bytes, got 'run'"},
    {"[routes]\ntable = 254\n",
     "n.toml:2: routes.table: 254 is the kernel's own (253 default, 254 main, 255 local)"},
    {"[routes]\nrule_priority = 32766\n",
     "n.toml:2: routes.rule_priority: must be 1 to 32765, got 32766"},
    {"[announce]\ntable = 2203\n",
     "n.toml:2: announce.table: 2203 is routes.table, which holds the blackholes (254 (main) is "
     "what "
     "FRR reads; BIRD reads any other as well)"},
    {"[announce]\ntable = 255\n", "n.toml:2: announce.table: 255 is the kernel's own (local)"},
    {"[announce]\nmetric_reduced = 16777216\n",
     "n.toml:2: announce.metric_reduced: must be 1 to 16777215, got 16777216"},
    {"[announce]\nmetric_normal = 200\n",
     "n.toml:2: announce.metric_reduced: must be more than metric_normal (200), got 200"},
    {"[announce]\nmin_healthy = 0\n", "n.toml:2: announce.min_healthy: must be 1 to 65535, got 0"},
    {"[announce]\non_panic = \"run\"\n",
     "n.toml:2: announce.on_panic: must be reduce or withdraw, got 'run'"},
    {"[agents]\nport = 6081\n",
     "n.toml:1: agents.key_file: is needed: without the key no agent answers (guideway agent key)"},
    {"[agents]\nkey_file = \"agent.key\"\n",
     "n.toml:2: agents.key_file: must be an absolute path, got 'agent.key'"},
    {"[agents]\nkey_file = \"/k\"\nport = 0\n", "n.toml:3: agents.port: must be 1 to 65535, got 0"},
    {"[cluster]\n",
     "n.toml:1: cluster.endpoints: must be an array of etcd's client URLs "
     "([\"https://10.0.0.1:2379\"])"},
    {"[cluster]\nendpoints = [\"10.0.0.1:2379\"]\n",
     "n.toml:2: cluster.endpoints: must be URLs like https://10.0.0.1:2379"},
    {"[cluster]\nendpoints = [\"https://10.0.0.1:2379\"]\n",
     "n.toml:1: cluster.ca_file: is needed for https: who is believed"},
    {"[cluster]\nendpoints = [\"http://10.0.0.1:2379\"]\nprefix = \"gw\"\n",
     "n.toml:3: cluster.prefix: must begin and end with a slash, got 'gw'"},
    {"[cluster]\nendpoints = [\"http://10.0.0.1:2379\"]\ncert_file = \"/c\"\n",
     "n.toml:1: cluster.cert_file: and key_file belong together"},
    {"[cluster]\nendpoints = [\"http://10.0.0.1:2379\"]\nuser = \"a\"\n",
     "n.toml:1: cluster.user: and password_file belong together"},
    {"[cluster]\nendpoints = [\"http://10.0.0.1:2379\"]\nlease_s = 1\n",
     "n.toml:3: cluster.lease_s: must be 2 to 60, got 1"},
    {"[node]\nname = \"a/b\"\n[cluster]\nendpoints = [\"http://10.0.0.1:2379\"]\n",
     "n.toml:3: node.name: must be 1 to 63 of A-Z a-z 0-9 . - _ in a cluster, got 'a/b'"},
    {"[log]\nlevel = \"loud\"\n",
     "n.toml:2: log.level: must be trace, debug, info, warn or error, got 'loud'"},
};

INSTANTIATE_TEST_SUITE_P(Table, BadNodeConfig, testing::ValuesIn(kBad));

TEST(NodeConfig, AFileThatIsNotThereSaysWhatToDo) {
  auto config = NodeConfig::load("/nonexistent/node.toml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().text(),
            "/nonexistent/node.toml: cannot be read: No such file or directory (write it, or name "
            "another with --config)");
}

TEST(NodeConfig, ADirectoryIsNoFile) {
  auto config = NodeConfig::load("/");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().text(), "/: cannot be read: Is a directory");
}

TEST(NodeConfig, MtuOfAPortThatDpdkOwns) {
  const auto parse = [](const std::string& port) {
    return NodeConfig::parse("[[dataplane.ports]]\n" + port, "node.toml");
  };
  EXPECT_EQ(parse("vdev = \"net_null0\"\n")->ports[0].mtu, 0u);
  EXPECT_EQ(parse("vdev = \"net_null0\"\nmtu = 1540\n")->ports[0].mtu, 1540u);
  EXPECT_FALSE(parse("vdev = \"net_null0\"\nmtu = 1279\n"));
  EXPECT_FALSE(parse("vdev = \"net_null0\"\nmtu = 2031\n"));
  const auto shared = parse("interface = \"eth1\"\nmtu = 1540\n");
  ASSERT_FALSE(shared);
  EXPECT_NE(shared.error().text().find("pci and vdev ports only"), std::string::npos);
}

}  // namespace
}  // namespace guideway
