# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# What scripts/vm-test shows, each case a function. A case runs with `set -e`; what it prints is shown
# when it fails, lines that begin with 'note: ' also when not.

# shellcheck disable=SC2034  # read by scripts/vm-test
cases=(install e1000e)

note() { echo "note: $*"; }

# expect WHAT CMD...: a command that must succeed; else the case ends.
expect() {
  local what=$1
  shift
  "$@" && return 0
  echo "not so: $what"
  exit 1
}
# soon SECONDS WHAT CMD...: the same, within a time.
soon() {
  local limit=$1 what=$2
  shift 2
  wait_for "$limit" "$@" && return 0
  "$@" || true
  echo "not so within $limit s: $what"
  exit 1
}
what_the_node_says() {
  node 'guideway status; ip -br addr; ip route; journalctl -n 40 --no-pager -u "guideway-*"'
}

fetch() { # ADDRESS: prints which backend answered
  in_ns client curl -sS --max-time 5 "http://$1/name"
}
serves() { [[ $(fetch "$1") == b[0-9]* ]]; }
serves_often() { # ADDRESS COUNT
  local i
  for ((i = 0; i < $2; ++i)); do serves "$1" || { echo "request $i to $1 failed"; return 1; }; done
}

upload() { node "cat >$1"; } # PATH, from standard input

case_install() {
  upload /root/guideway-node_test_amd64.deb <"$state/guideway-node.deb"
  node 'cd /root && DEBIAN_FRONTEND=noninteractive apt-get -q -y install ./guideway-node_*.deb'
  node 'guideway --version && systemctl is-enabled guideway-dataplane guideway-controlplane'
  note "kernel $(node uname -r)"
}

edge_toml() {
  cat <<'TOML'
[pools.web4]
forwarding = "l2"
probe = { kind = "tcp", port = 80, interval_ms = 500, timeout_ms = 500 }
[pools.web4.backends]
"10.0.0.21" = {}
"10.0.0.22" = {}
[pools.web6]
forwarding = "l2"
probe = { kind = "tcp", port = 80, interval_ms = 500, timeout_ms = 500 }
[pools.web6.backends]
"fd00:0:0:1::21" = {}
"fd00:0:0:1::22" = {}
[services]
"203.0.113.10:80/tcp" = { pool = "web4" }
"[2001:db8:203::10]:80/tcp" = { pool = "web6" }
TOML
}

# The NIC to DPDK, and node.toml to say so: all there is to edit.
take_nic() { # PCI
  # A NIC that a dataplane holds cannot change its driver: vfio waits for it to let go.
  node 'systemctl stop guideway-dataplane'
  node "driverctl set-override $1 vfio-pci && readlink /sys/bus/pci/devices/$1/driver"
  node "sed -i 's/^\\(interface\\|pci\\) = .*/pci = \"$1\"/' /etc/guideway/node.toml"
}

all_served() {
  soon 60 "HTTP by IPv4 through the VIP" serves "$vip4"
  soon 60 "HTTP by IPv6 through the VIP" serves "$vip6"
  expect "20 requests by IPv4" serves_often "$vip4" 20
  expect "20 requests by IPv6" serves_often "$vip6" 20
}

case_e1000e() {
  take_nic 0000:00:04.0
  node 'guideway doctor || true'
  node 'systemctl start guideway-controlplane guideway-dataplane'
  edge_toml | upload /root/edge.toml
  soon 30 "the control plane answers" node guideway status
  node 'guideway apply /root/edge.toml'
  # Until a case starts BGP.
  ip -n "$(ns router)" route replace "$vip4/32" via 10.0.0.11
  ip -n "$(ns router)" route replace "$vip6/128" via fd00:0:0:1::11
  all_served
  note "$(node 'readlink /sys/bus/pci/devices/0000:00:04.0/driver | xargs basename')"
}
