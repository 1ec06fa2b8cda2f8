# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# Backend b3: a namespace of the virtual machine with a NIC of its own, for what only a stock kernel
# has. Sourced by scripts/vm-test, after vm_cases.sh.

tunnel_vip4=203.0.113.12 tunnel_vip6=2001:db8:203::12
gue_vip4=203.0.113.14 gue_vip6=2001:db8:203::14

b3() { node "ip netns exec b3 $*"; }

make_b3() {
  node 'ip netns list | grep -q b3' || node "set -e
    ip netns add b3
    ip link set enp0s7 netns b3
    ip -n b3 link set lo up
    ip netns exec b3 sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2 \
      net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.enp0s7.accept_dad=0
    ip -n b3 address add 10.0.0.31/24 dev enp0s7
    ip -n b3 address add fd00:0:0:1::31/64 dev enp0s7 nodad
    ip -n b3 address add fd00:0:0:1::32/64 dev enp0s7 nodad
    ip -n b3 link set enp0s7 up
    ip -n b3 route add default via 10.0.0.1
    ip -n b3 route add default via fd00:0:0:1::1
    mkdir -p /srv/b3 && echo b3 >/srv/b3/index.html
    systemd-run -q --unit=b3-http -p NetworkNamespacePath=/run/netns/b3 \
      python3 -m http.server --bind :: --directory /srv/b3 80"
}

state_of() { # POOL: of its only backend
  node "guideway pool show $1 --json" | jq -r '.backends[0].state'
}
is_state() { [[ $(state_of "$1") == "$2" ]]; }

# Nothing but the stock kernel's tunnel devices, and the VIPs on lo.
stock_tunnels() {
  node "set -e
    modprobe -a ipip ip6_tunnel
    ip -n b3 link set tunl0 up
    ip -n b3 link set ip6tnl0 up
    ip netns exec b3 sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tunl0.rp_filter=0
    ip -n b3 address replace $tunnel_vip4/32 dev lo
    ip -n b3 address replace $tunnel_vip6/128 dev lo nodad"
}

case_ipip() {
  make_b3
  stock_tunnels
  soon 60 "the probe through the tunnel is green" is_state tunnel4 up
  soon 60 "the same by IPv6" is_state tunnel6 up
  soon 60 "HTTP by way of the stock kernel's ipip device" serves_by "$tunnel_vip4" b3
  soon 60 "HTTP by way of its ip6tnl device" serves_by "$tunnel_vip6" b3
  node 'ip -n b3 link set tunl0 down'
  soon 30 "the probe is red without the device" is_state tunnel4 down
  expect "the other one stays green" is_state tunnel6 up
  node 'ip -n b3 link set tunl0 up'
  soon 60 "the probe is green again" is_state tunnel4 up
  soon 60 "HTTP again" serves_by "$tunnel_vip4" b3
  note "tunl0 and ip6tnl0 of $(node uname -r)"
}

# The package's own agent with its program `redirect`, by its unit.
agent() {
  node "set -e
    ip -n b3 address replace $gue_vip4/32 dev lo
    ip -n b3 address replace $gue_vip6/128 dev lo nodad
    mkdir -p /etc/systemd/system/guideway-agent.service.d
    printf '[Service]\nNetworkNamespacePath=/run/netns/b3\n' \
      >/etc/systemd/system/guideway-agent.service.d/b3.conf
    echo 'GUIDEWAY_AGENT_OPTIONS=\"--interface enp0s7 --allow 10.0.0.0/24 \
      --allow fd00:0:0:1::/64 --key /etc/guideway/agent.key\"' >/etc/default/guideway-agent
    systemctl daemon-reload
    systemctl restart guideway-agent"
}

case_agent() {
  node 'umask 077; guideway agent key >/etc/guideway/agent.key'
  agent
  node "printf '[agents]\nkey_file = \"/etc/guideway/agent.key\"\n' >>/etc/guideway/node.toml
    systemctl restart guideway-controlplane"
  soon 60 "the probe through the tunnel is green" is_state gue4 up
  soon 60 "HTTP by gue" serves_by "$gue_vip4" b3
  soon 60 "HTTP by gue over IPv6" serves_by "$gue_vip6" b3
  expect "redirect is attached" b3 'guideway agent status | grep "^enp0s7: redirect is attached"'
  soon 60 "the ipip pools, by redirect" serves_by "$tunnel_vip6" b3
  expect "security of the units is OK" no_worse_than_ok
  note "gue, and ipip by redirect on $(node uname -r)"
}

no_worse_than_ok() {
  local unit
  for unit in dataplane controlplane agent; do
    node "systemd-analyze security --no-pager guideway-$unit.service | tail -1" | grep -q ' OK' ||
      return 1
  done
}
