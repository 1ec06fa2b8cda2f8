# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# The lab's network: namespaces, links, addresses, routes. Sourced by scripts/lab, which sets `lab`
# (its name), `state` (its directory), `nodes`, `backends` (how many) and `port` (interface | vdev).
#
#   gw-LAB-client   eth0     198.51.100.2/24     2001:db8:100::2/64
#   gw-LAB-router   client   198.51.100.1/24     2001:db8:100::1/64
#                   br0      10.0.0.1/24         fd00:0:0:1::1/64       ports n1.. b1..
#                   mgmt     192.0.2.1/24        2001:db8:192::1/64     ports m1..
#   gw-LAB-nI       eth1     10.0.0.(10+I)/24    fd00:0:0:1::(10+I)/64  the port of the dataplane
#                   eth0     192.0.2.(10+I)/24   2001:db8:192::(10+I)/64
#   gw-LAB-bI       eth0     10.0.0.(20+I)/24    fd00:0:0:1::(20+I)/64
#                   lo       the VIPs
#
# VIPs are 203.0.113.0/24 and 2001:db8:203::/64: the router sends them to the nodes (ECMP), by routes
# that stand still or by what the nodes announce (`router`: static | bird | frr).

vip4=203.0.113.10 vip4_net=203.0.113.0/24
vip6=2001:db8:203::10 vip6_net=2001:db8:203::/64

ns() { echo "gw-$lab-$1"; }
in_ns() { # in_ns ROLE CMD...
  ip netns exec "$(ns "$1")" "${@:2}"
}
node_roles() { seq -f 'n%g' 1 "$nodes"; }
backend_roles() { seq -f 'b%g' 1 "$backends"; }

kernel_has() {
  local probe
  probe=$(ns probe)
  ip netns add "$probe" || die "this kernel (or container) cannot make network namespaces"
  ip -n "$probe" link add v0 type veth peer name v1 2>/dev/null ||
    die "this kernel has no veth devices (CONFIG_VETH); try: modprobe veth"
  ip -n "$probe" link add br0 type bridge 2>/dev/null ||
    die "this kernel has no bridge (CONFIG_BRIDGE); try: modprobe bridge"
  /usr/bin/python3 -c 'import socket; socket.socket(44, socket.SOCK_RAW, 0)' 2>/dev/null ||
    die "this kernel has no AF_XDP sockets (CONFIG_XDP_SOCKETS), or they need more rights"
  grep -qw bpf /proc/filesystems || die "this kernel has no BPF file system (CONFIG_BPF_SYSCALL)"
  if [[ $port == vdev ]]; then
    [[ -c /dev/net/tun ]] || die "/dev/net/tun is missing (CONFIG_TUN); try: modprobe tun"
  fi
  ip netns del "$probe"
}

# Each namespace keeps a BPF file system of its own, which scripts/lab puts at /sys/fs/bpf of every
# process that it starts there: `ip netns exec` gives each process a fresh /sys.
make_namespace() { # ROLE
  ip netns add "$(ns "$1")"
  mkdir -p "$state/$1/bpf"
  mount -t bpf bpf "$state/$1/bpf"
  in_ns "$1" sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
    net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0 \
    net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=0
  ip -n "$(ns "$1")" link set lo up
}

# One queue each: veth picks the queue by the sender's socket, and DPDK reads one.
make_link() { # ROLE INTERFACE MAC PEER_ROLE PEER_INTERFACE
  ip -n "$(ns "$1")" link add "$2" numtxqueues 1 numrxqueues 1 address "$3" type veth \
    peer name "$5" numtxqueues 1 numrxqueues 1 netns "$(ns "$4")"
}

# Without this a veth hands on packets whose checksum nobody has filled in, or larger than its MTU:
# the kernel copes, DPDK sees them as they are.
no_offloads() { # ROLE
  # shellcheck disable=SC2016  # expands in the namespace
  in_ns "$1" bash -c 'cd /sys/class/net && for i in *; do
      [[ $i == lo ]] || ethtool -K "$i" tx off tso off gso off gro off >/dev/null 2>&1 ||
        { echo "ethtool -K $i failed" >&2; exit 1; }
    done'
}

make_router() {
  make_namespace router
  in_ns router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
    net.ipv4.fib_multipath_hash_policy=1 net.ipv6.fib_multipath_hash_policy=1 \
    net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0 \
    net.ipv4.icmp_ratelimit=0
  ip -n "$(ns router)" -batch - <<IP
link add br0 address 02:00:00:00:00:01 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
link add mgmt address 02:00:00:00:03:01 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
address add 10.0.0.1/24 dev br0
address add fd00:0:0:1::1/64 dev br0 nodad
address add 192.0.2.1/24 dev mgmt
address add 2001:db8:192::1/64 dev mgmt nodad
link set br0 up
link set mgmt up
IP
}

make_client() {
  make_namespace client
  in_ns client sysctl -qw net.ipv4.tcp_tw_reuse=1 net.ipv4.ip_local_port_range='20480 65535'
  make_link client eth0 02:00:00:00:04:02 router client
  ip -n "$(ns router)" -batch - <<'IP'
address add 198.51.100.1/24 dev client
address add 2001:db8:100::1/64 dev client nodad
link set client address 02:00:00:00:04:01 up
IP
  ip -n "$(ns client)" -batch - <<'IP'
address add 198.51.100.2/24 dev eth0
address add 2001:db8:100::2/64 dev eth0 nodad
link set eth0 up
route add default via 198.51.100.1
route add default via 2001:db8:100::1
IP
}

# The addresses of a node's data interface: eth1, or for an owned port the TAP that stands for it.
address_node() { # INDEX INTERFACE
  local at=$((10 + $1))
  ip -n "$(ns "n$1")" -batch - <<IP
link set $2 up
address replace 10.0.0.$at/24 dev $2
address replace fd00:0:0:1::$at/64 dev $2 nodad
route replace default via 10.0.0.1
route replace default via fd00:0:0:1::1
IP
}

make_node() { # INDEX
  local at=$((10 + $1)) role=n$1 mac
  mac=$(printf '%02x' "$1")
  make_namespace "$role"
  make_link "$role" eth1 "02:00:00:00:01:$mac" router "n$1"
  make_link "$role" eth0 "02:00:00:00:03:1$1" router "m$1"
  ip -n "$(ns router)" -batch - <<IP
link set n$1 master br0 up
link set m$1 master mgmt up
IP
  ip -n "$(ns "$role")" -batch - <<IP
address add 192.0.2.$at/24 dev eth0
address add 2001:db8:192::$at/64 dev eth0 nodad
link set eth0 up
IP
  if [[ $port == vdev ]]; then
    ip -n "$(ns "$role")" link set eth1 addrgenmode none up
  else
    address_node "$1" eth1
  fi
}

make_backend() { # INDEX
  local at=$((20 + $1)) role=b$1 mac
  mac=$(printf '%02x' "$1")
  make_namespace "$role"
  # The VIPs are this host's, but it must not tell the neighbours. Every refusal is told: a host
  # that holds most of them back looks silent to a UDP probe.
  in_ns "$role" sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2 \
    net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.core.somaxconn=4096 net.ipv4.tcp_max_syn_backlog=4096
  make_link "$role" eth0 "02:00:00:00:02:$mac" router "b$1"
  ip -n "$(ns router)" link set "b$1" master br0 up
  ip -n "$(ns "$role")" -batch - <<IP
address add 10.0.0.$at/24 dev eth0
address add fd00:0:0:1::$at/64 dev eth0 nodad
link set eth0 up
route add default via 10.0.0.1
route add default via fd00:0:0:1::1
address add $vip4/32 dev lo
address add $vip6/128 dev lo nodad
route add local $vip4_net dev lo
route add local $vip6_net dev lo
IP
}

route_vips() {
  local i hops4=() hops6=()
  for ((i = 1; i <= nodes; i++)); do
    hops4+=(nexthop via "10.0.0.$((10 + i))")
    hops6+=(nexthop via "fd00:0:0:1::$((10 + i))")
  done
  ip -n "$(ns router)" route replace "$vip4_net" "${hops4[@]}"
  ip -n "$(ns router)" -6 route replace "$vip6_net" "${hops6[@]}"
}

make_network() {
  local i role
  make_router
  make_client
  for ((i = 1; i <= nodes; i++)); do make_node "$i"; done
  for ((i = 1; i <= backends; i++)); do make_backend "$i"; done
  for ((i = 1; i <= etcd; i++)); do make_etcd_host "$i"; done
  for role in router client $(node_roles) $(backend_roles) $(etcd_roles); do no_offloads "$role"; done
  if [[ $router == static ]]; then route_vips; fi
}

picture() {
  local i line_n='' line_b='' how='(routes that stand still)'
  [[ $router == static ]] || how="as announced by BGP: $router here, $node_bgp on the nodes"
  for ((i = 1; i <= nodes; i++)); do line_n+="  n$i 10.0.0.$((10 + i))"; done
  for ((i = 1; i <= backends; i++)); do line_b+="  b$i 10.0.0.$((20 + i))"; done
  cat <<TEXT
      client  198.51.100.2  2001:db8:100::2
        |
      router  VIPs $vip4_net, $vip6_net go to the nodes
        |     $how
        |
   =====+============ bridge 10.0.0.0/24  fd00:0:0:1::/64 ======
        |                               |
   nodes (Guideway)                backends (nginx :80, DNS :53, upload :8080, echo :7)
  $line_n
                                 $line_b
   client > router > node > backend; the reply goes backend > router > client
TEXT
  if [[ $router != static ]]; then bgp_picture; fi
}
