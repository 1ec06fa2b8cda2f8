# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# What scripts/vm-test shows, each case a function: here the port's, in vm_backends.sh those with
# backends in the machine, in vm_service.sh those of the units. A case runs with `set -e`; what it
# prints is shown when it fails, lines that begin with 'note: ' also when not.

# shellcheck disable=SC2034  # read by scripts/vm-test
cases=(install doctor e1000e bgp kernel-path link mtu ipip agent apart kill withdraw upgrade two-nodes
  reboot virtio workers edge)

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
fails() { ! "$@"; }

what_the_node_says() {
  node 'guideway status; ip -br addr; ip route; networkctl --no-pager; cat /etc/guideway/node.toml |
    grep -v "^ *#"; birdc show protocols; journalctl -n 60 --no-pager -u "guideway-*" -u bird'
  local role
  in_ns router ip route
  for role in router b1 b2; do
    echo "neighbours of $role"
    in_ns "$role" ip neigh
  done
}

fetch() { # ADDRESS: prints which backend answered
  local address=$1
  [[ $address != *:* ]] || address="[$address]"
  in_ns client curl -gsS --max-time 5 "http://$address/"
}
serves() { [[ $(fetch "$1") == b[0-9]* ]]; }
serves_by() { [[ $(fetch "$1") == "$2" ]]; }
serves_often() { # ADDRESS COUNT
  local i
  for ((i = 0; i < $2; ++i)); do serves "$1" || { echo "request $i to $1 failed"; return 1; }; done
}
all_served() {
  soon 60 "HTTP by IPv4 through the VIP" serves "$vip4"
  soon 60 "HTTP by IPv6 through the VIP" serves "$vip6"
  expect "50 requests by IPv4" serves_often "$vip4" 50
  expect "50 requests by IPv6" serves_often "$vip6" 50
}

upload() { node "cat >$1"; } # PATH, from standard input
restart_dataplane() { node 'systemctl restart guideway-dataplane'; }

case_install() {
  upload /root/guideway-node_test_amd64.deb <"$state/guideway-node.deb"
  node 'cd /root && DEBIAN_FRONTEND=noninteractive apt-get -q -y install ./guideway-node_*.deb'
  node 'guideway --version && systemctl is-enabled guideway-dataplane guideway-controlplane'
  expect "the group of the control socket" node 'getent group guideway'
  note "kernel $(node uname -r)"
}

# Whether doctor finds fault: CHECK and MESSAGE are expressions.
finds() { doctor | jq -e --arg c "$1" --arg m "$2" "$finding" >/dev/null; }
doctor() { node 'guideway doctor --json || true'; }
# shellcheck disable=SC2016  # jq's own variables
finding='[.findings[] | select(.level != "ok" and (.check | test($c)) and (.message | test($m)))] |
  if . == [] then empty else first.mend end'
# Follows doctor's advice to the letter: all before a remark in brackets is a command.
mend() { # CHECK MESSAGE
  local advice
  expect "doctor finds '$2' at $1" finds "$1" "$2"
  advice=$(doctor | jq -r --arg c "$1" --arg m "$2" "$finding")
  echo "doctor: $1: $advice"
  node "${advice%% (*}"
  expect "after that doctor finds no '$2' at $1" fails finds "$1" "$2"
}
of_node_toml() { node "sed -i '$1' /etc/guideway/node.toml"; } # SED_COMMAND

# The machine has come up without an IOMMU (see boot); the NIC is the kernel's.
case_doctor() {
  of_node_toml 's/^interface = .*/pci = "0000:00:04.0"/; s/^# hugepages = .*/hugepages = true/'
  of_node_toml 's/^# memory_mb = .*/memory_mb = 256/'
  node 'umount /sys/fs/bpf'
  expect "exit status 1" fails node 'guideway doctor'
  expect "doctor finds the kernel's driver" finds 'port 0000:00:04.0' 'not loaded|belongs to e1000e'
  expect "doctor finds that there is no IOMMU" finds 'port 0000:00:04.0' 'no IOMMU'
  mend hugepages 'only 0 MB'
  mend bpffs 'no BPF file system'
  mend neighbours 'ipv4.*only'
  mend neighbours 'ipv6.*only'
  # What a line in sysctl.d does for the next boot, and another one on the kernel's command line.
  node 'sysctl vm.nr_hugepages net.ipv4.neigh.default.gc_thresh3 \
    net.ipv6.neigh.default.gc_thresh3 >/etc/sysctl.d/guideway.conf'
  power_cycle intel_iommu=on iommu=pt
  expect "after a boot with an IOMMU doctor finds one" fails finds 'port 0000:00:04.0' 'no IOMMU'
  mend 'port 0000:00:04.0' 'not loaded|belongs to e1000e'
  expect "doctor is content with the port" fails finds 'port 0000:00:04.0' .
  # What is left is that nothing runs.
  node 'systemctl start guideway-controlplane guideway-dataplane'
  soon 60 "exit status 0 of doctor" node 'guideway doctor'
  note "found, and green by its own advice: hugepages, driver, bpffs, neighbours, IOMMU"
}
# The NIC to DPDK, and node.toml to say so: all there is to edit.
take_nic() { # PCI
  # A NIC that a dataplane holds cannot change its driver: vfio waits for it to let go.
  node 'systemctl stop guideway-dataplane'
  node "driverctl set-override $1 vfio-pci && readlink /sys/bus/pci/devices/$1/driver"
  of_node_toml "s/^\\(interface\\|pci\\) = .*/pci = \"$1\"/"
  node 'systemctl start guideway-controlplane guideway-dataplane'
  soon 30 "the control plane answers" node guideway status
}

edge_toml() { cat "$repo/tests/package/edge.toml"; }

# Until a case starts BGP.
static_routes() {
  ip -n "$(ns router)" route replace "$vip4/32" via 10.0.0.11 proto static
  ip -n "$(ns router)" route replace "$vip6/128" via fd00:0:0:1::11 proto static
}

case_e1000e() {
  take_nic 0000:00:04.0
  edge_toml | upload /root/edge.toml
  node 'guideway apply /root/edge.toml'
  static_routes
  all_served
  expect "exit status 0 of doctor" node 'guideway doctor'
  note "$(node 'readlink /sys/bus/pci/devices/0000:00:04.0/driver | xargs basename'), IPv4 and IPv6"
}

bird() { birdc -s "$state/router/bird.ctl" "$@"; }
established() { [[ $(bird show protocols | grep -c "node[46]_.*Established") -eq $1 ]]; }
learned() { in_ns router ip route show "$1" proto bird | grep -q .; }
vips_learned() { learned "$vip4" && in_ns router ip -6 route show "$vip6" proto bird | grep -q .; }
vips_gone() {
  ! learned "$vip4" && ! in_ns router ip -6 route show "$vip6" proto bird | grep -q .
}
# Of the session with the node, as the router's BIRD says it: a new one has another.
session_since() { bird show protocols | awk '/node4_/ { print $5 }'; }

# An emulated machine stands still for longer than BFD waits.
patient_bird() {
  sed -E 's/^( *)bfd on;/\1bfd off;/; s/hold time 9;/hold time 20;/; s/keepalive time 3;/keepalive time 5;/'
}

case_bgp() {
  mkdir -p "$state/router"
  patient_bird <"$repo/docs/examples/bird-router.conf" >"$state/router/bird.conf"
  start router bird bird -f -c "$state/router/bird.conf" -s "$state/router/bird.ctl" \
    -P "$state/router/bird.pid"
  # The router id by hand, as the example says of such ports.
  sed 's/^router id from .*/router id 10.0.0.11;/; s/"eth1"/"gw0"/' "$repo/docs/examples/bird.conf" |
    patient_bird | upload /etc/bird/bird.conf
  node 'systemctl enable --now bird'
  soon 60 "sessions by IPv4 and IPv6 over the TAP" established 2
  ip -n "$(ns router)" route del "$vip4/32" proto static
  ip -n "$(ns router)" route del "$vip6/128" proto static
  soon 30 "the router has learned the VIPs" vips_learned
  all_served
  note "BIRD on node and router, the VIPs are learned"
}

over_tap() { # CMD: by ssh to the address that the TAP has
  in_ns router timeout -k 5 90 ssh -F none "${ssh_options[@]}" -i "$cache/key" -6 \
    root@fd00:0:0:1::11 "$@"
}
neighbour() { ip -n "$(ns router)" neighbour show "$1" dev br0 | grep -qi 02:00:00:00:01:01; }

# While it forwards: everything that is not VIP traffic gets to the kernel, and back.
case_kernel_path() {
  load_begin "$vip4" 50
  ip -n "$(ns router)" neighbour flush dev br0
  expect "ping" in_ns router ping -q -c 20 -i 0.2 -W 5 10.0.0.11
  expect "ping by IPv6" in_ns router ping -q -c 20 -i 0.2 -W 5 fd00:0:0:1::11
  expect "ARP tells the NIC's MAC" neighbour 10.0.0.11
  expect "neighbour discovery tells the NIC's MAC" neighbour fd00:0:0:1::11
  expect "ssh" over_tap 'ip -br addr show gw0'
  # Enough to fill every ring on the way.
  expect "4 MB by ssh are the same on both sides" \
    test "$(over_tap 'head -c 4000000 /dev/zero' | sha256sum)" = \
    "$(head -c 4000000 /dev/zero | sha256sum)"
  expect "BGP" established 2
  load_end
  no_request_failed
  note "ping, ssh, ARP, ND and BGP beside $(load requests) requests, none failed"
}

link() { monitor "set_link $1 $2"; } # NETDEV on|off
carrier() { node "grep -qx $1 /sys/class/net/gw0/carrier"; }

case_link() {
  link n1 off
  soon 10 "the TAP loses its carrier with the NIC's link" carrier 0
  expect "doctor says so" finds 'tap gw0' 'no carrier'
  soon 30 "the router takes the VIPs from a node without link" vips_gone
  link n1 on
  soon 30 "the TAP has its carrier again" carrier 1
  soon 60 "the VIPs are learned again" vips_learned
  all_served
}

# The router's side carries more than doctor asks for.
case_mtu() {
  local interface mtu
  node 'guideway status' >/dev/null
  expect "doctor finds that the tunnel has no room" finds 'tap gw0' 'MTU 1500'
  mtu=$(doctor | jq -r --arg c 'tap gw0' --arg m 'MTU 1500' "$finding" |
    sed -n 's/^mtu = \([0-9]*\) .*/\1/p')
  for interface in e1000e virtio ipip br0; do
    ip -n "$(ns router)" link set "$interface" mtu 1700
  done
  of_node_toml "/^pci = /a mtu = $mtu"
  restart_dataplane
  expect "the TAP has it" node "grep -qx $mtu /sys/class/net/gw0/mtu"
  expect "doctor is content" fails finds 'tap gw0' .
  all_served
  note "mtu = $mtu"
}

case_virtio() {
  take_nic 0000:00:05.0
  soon 60 "the VIPs are learned" vips_learned
  all_served
  make_b3
  stock_tunnels
  agent
  soon 60 "the ipip pool" serves_by "$tunnel_vip4" b3
  soon 60 "the ipip pool by IPv6" serves_by "$tunnel_vip6" b3
  soon 60 "the gue pool" serves_by "$gue_vip4" b3
  soon 60 "the gue pool by IPv6" serves_by "$gue_vip6" b3
  note "$(node 'readlink /sys/bus/pci/devices/0000:00:05.0/driver | xargs basename'): l2, ipip, gue"
}

received_by() { # WORKER: packets; see dataplane/abi.h and counters_region.cc
  node "od -An -t u8 -j $((4096 + 576 * $1 + 8)) -N 8 /run/guideway/counters" | tr -d ' '
}

# RSS: the NIC spreads flows over two workers. With three there is a queue missing.
case_workers() {
  local first second
  of_node_toml 's/^workers = .*/workers = 3/'
  expect "three workers do not start" fails restart_dataplane
  expect "the log says why" node "journalctl -n 40 -u guideway-dataplane |
    grep -q 'has 2 queue pair(s), 3 workers need one each'"
  of_node_toml 's/^workers = .*/workers = 2/'
  restart_dataplane
  soon 60 "the VIPs are learned" vips_learned
  first=$(received_by 0) second=$(received_by 1)
  all_served
  first=$(($(received_by 0) - first)) second=$(($(received_by 1) - second))
  expect "both workers get packets: $first, $second" test $((first > 50 && second > 50)) -eq 1
  note "$first and $second packets"
}

# The same NIC, but the kernel's own: `edge` and AF_XDP on the stock kernel.
case_edge() {
  node 'systemctl stop guideway-dataplane; ip link del gw0; driverctl unset-override 0000:00:05.0'
  node "sed 's/gw0/enp0s5/' /etc/systemd/network/20-guideway.network \
    >/etc/systemd/network/30-edge.network; networkctl reload"
  node "sed -i 's/\"gw0\"/\"enp0s5\"/' /etc/bird/bird.conf; systemctl reload bird"
  of_node_toml 's/^pci = .*/interface = "enp0s5"/; /^mtu = /d; s/^hugepages = .*/hugepages = false/'
  node 'systemctl restart guideway-dataplane'
  soon 60 "the VIPs are learned" vips_learned
  all_served
  expect "edge is attached" node 'ip link show enp0s5 | grep -q "prog/xdp"'
  note "edge and AF_XDP on $(node 'uname -r')"
}
