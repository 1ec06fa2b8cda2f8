# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# The virtual machine and what stands around it. Sourced by scripts/vm-test, which sets `vm` (a
# name), `state` (its directory), `cache` (see vm_image.sh).
#
#   gwvm-VM-client  eth0    198.51.100.2/24   2001:db8:100::2/64
#   gwvm-VM-router  client  198.51.100.1/24   2001:db8:100::1/64
#                   br0     10.0.0.1/24       fd00:0:0:1::1/64     ports e1000e virtio ipip b1 b2
#                   mgmt    192.0.2.1/24                            TAP of the node's third NIC
#   node (the VM)   e1000e (00:04.0) and virtio (00:05.0): one of them the port; 10.0.0.11 on gw0
#                   management (00:06.0): 192.0.2.11
#                   ipip (00:07.0): in a namespace of the VM, a backend 10.0.0.31
#   gwvm-VM-bI      eth0    10.0.0.(20+I)/24  fd00:0:0:1::(20+I)/64;  lo: the VIPs

vip4=203.0.113.10 vip6=2001:db8:203::10

ns() { echo "gwvm-$vm-$1"; }
in_ns() { ip netns exec "$(ns "$1")" "${@:2}"; }

make_namespace() { # ROLE
  ip netns add "$(ns "$1")"
  in_ns "$1" sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
    net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0 \
    net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=0
  ip -n "$(ns "$1")" link set lo up
}

# A veth that fills in checksums itself: DPDK in the VM sees packets as they are.
make_link() { # ROLE INTERFACE PEER
  ip -n "$(ns "$1")" link add "$2" type veth peer name "$3" netns "$(ns router)"
  in_ns "$1" ethtool -K "$2" tx off tso off gso off gro off >/dev/null
  in_ns router ethtool -K "$3" tx off tso off gso off gro off >/dev/null
  ip -n "$(ns "$1")" link set "$2" up
  ip -n "$(ns router)" link set "$3" up
}

make_router() {
  make_namespace router
  in_ns router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
    net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0
  # With a MAC of its own: else it takes a port's, and another one when ports come.
  ip -n "$(ns router)" link add br0 address 02:00:00:00:00:01 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
  ip -n "$(ns router)" address add 10.0.0.1/24 dev br0
  ip -n "$(ns router)" address add fd00:0:0:1::1/64 dev br0 nodad
  ip -n "$(ns router)" link set br0 up
  local tap
  for tap in e1000e virtio ipip mgmt; do
    # shellcheck disable=SC2046  # nothing, or a word
    ip -n "$(ns router)" tuntap add "$tap" mode tap $([[ $tap != virtio ]] || echo multi_queue)
    [[ $tap == mgmt ]] || ip -n "$(ns router)" link set "$tap" master br0
    ip -n "$(ns router)" link set "$tap" up
  done
  ip -n "$(ns router)" address add 192.0.2.1/24 dev mgmt
}

make_client() {
  make_namespace client
  make_link client eth0 client
  ip -n "$(ns router)" address add 198.51.100.1/24 dev client
  ip -n "$(ns router)" address add 2001:db8:100::1/64 dev client nodad
  ip -n "$(ns client)" address add 198.51.100.2/24 dev eth0
  ip -n "$(ns client)" address add 2001:db8:100::2/64 dev eth0 nodad
  ip -n "$(ns client)" route add default via 198.51.100.1
  ip -n "$(ns client)" route add default via 2001:db8:100::1
}

make_backend() { # INDEX
  local role=b$1 at=$((20 + $1))
  make_namespace "$role"
  make_link "$role" eth0 "$role"
  ip -n "$(ns router)" link set "$role" master br0
  ip -n "$(ns "$role")" address add 10.0.0.$at/24 dev eth0
  ip -n "$(ns "$role")" address add fd00:0:0:1::$at/64 dev eth0 nodad
  ip -n "$(ns "$role")" route add default via 10.0.0.1
  ip -n "$(ns "$role")" route add default via fd00:0:0:1::1
  in_ns "$role" sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
  ip -n "$(ns "$role")" address add "$vip4/32" dev lo
  ip -n "$(ns "$role")" address add "$vip6/128" dev lo nodad
  mkdir -p "$state/$role"
  nginx_config "$role" >"$state/$role/nginx.conf"
  start "$role" nginx nginx -p "$state/$role" -e "$state/$role/nginx.log" -c "$state/$role/nginx.conf"
}

make_network() {
  make_router
  make_client
  make_backend 1
  make_backend 2
}

# start ROLE WHAT CMD...: in the background; it ends with its namespace, see stop_all.
start() {
  setsid ip netns exec "$(ns "$1")" "${@:3}" </dev/null >"$state/log/$1.$2" 2>&1 &
  echo $! >"$state/pids/$1.$2"
}

stop_all() {
  local role pid
  for role in client router b1 b2 n2; do
    for pid in $(ip netns pids "$(ns "$role")" 2>/dev/null); do
      kill -9 "$pid" 2>/dev/null || true
    done
    ip netns del "$(ns "$role")" 2>/dev/null || true
  done
  rm -rf "$state" "$cache/disk.$vm"
}

# boot [KERNEL_ARGUMENT...]: the VM, until ssh answers. It writes to a copy of the disk, which ends
# with it. /dev/kvm is not used unless GUIDEWAY_VM_ACCEL=kvm: it is there on machines where guests
# hang on it.
boot() {
  [[ -e $cache/disk.$vm ]] || cp --sparse=always --reflink=auto "$cache/disk" "$cache/disk.$vm"
  local accel=${GUIDEWAY_VM_ACCEL:-tcg,thread=multi} options=romfile=
  : >"$state/console"
  start router qemu qemu-system-x86_64 -nodefaults -display none -no-user-config \
    -machine q35,kernel-irqchip=off -accel "$accel" -cpu max -smp 2 -m 2048 \
    -device intel-iommu,intremap=on,aw-bits=48 \
    -kernel "$cache/vmlinuz" -initrd "$cache/initrd" \
    -append "root=/dev/vda rw console=ttyS0 mitigations=off $*" \
    -serial "file:$state/console" -monitor "unix:$state/monitor,server,nowait" \
    -drive "file=$cache/disk.$vm,format=raw,if=none,id=disk,cache=unsafe" \
    -device virtio-blk-pci,drive=disk,addr=0x3 \
    -netdev tap,id=n1,ifname=e1000e,script=no,downscript=no,vnet_hdr=off \
    -device "e1000e,netdev=n1,mac=02:00:00:00:01:01,addr=0x4,$options" \
    -netdev tap,id=n2,ifname=virtio,queues=2,script=no,downscript=no,vnet_hdr=off \
    -device "virtio-net-pci,netdev=n2,mac=02:00:00:00:02:01,addr=0x5,disable-legacy=on,iommu_platform=on,mq=on,vectors=6,rss=on,$options" \
    -netdev tap,id=n3,ifname=mgmt,script=no,downscript=no,vnet_hdr=off \
    -device "virtio-net-pci,netdev=n3,mac=02:00:00:00:07:01,addr=0x6,$options" \
    -netdev tap,id=n4,ifname=ipip,script=no,downscript=no,vnet_hdr=off \
    -device "virtio-net-pci,netdev=n4,mac=02:00:00:00:08:01,addr=0x7,$options" \
    -device virtio-rng-pci,addr=0x8
  wait_for_node
}

# Ends the machine as an operator would, and boots it anew.
power_cycle() { # KERNEL_ARGUMENT...
  node 'systemctl poweroff' || true
  wait_for 120 fails qemu_lives || { echo "the machine does not power off"; return 1; }
  rm -f "$state/ssh"
  boot "$@"
}

monitor() { echo "$*" | socat - "UNIX-CONNECT:$state/monitor" >/dev/null; } # QEMU's own commands

qemu_lives() { kill -0 "$(cat "$state/pids/router.qemu")" 2>/dev/null; }

wait_for_node() {
  local deadline=$((SECONDS + ${GUIDEWAY_VM_BOOT_S:-900}))
  until node true 2>/dev/null; do
    qemu_lives || { tail -5 "$state/log/router.qemu" >&2; return 1; }
    ((SECONDS < deadline)) || { tail -20 "$state/console" >&2; return 1; }
    sleep 1
  done
}

# node CMD: runs a shell command in the VM. One connection serves all: ssh is slow in there.
ssh_options=(-q -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=10
  -o ServerAliveInterval=10 -o ServerAliveCountMax=6 -o BatchMode=yes)
node() {
  open_connection || return
  in_ns router timeout -k 5 "${GUIDEWAY_VM_COMMAND_S:-180}" ssh -F none "${ssh_options[@]}" -o ControlPath="$state/ssh" root@192.0.2.11 "$@"
}
# Its own process, with nothing of ours open: else who waits for the end of our output waits for it.
open_connection() {
  in_ns router ssh -F none -q -o ControlPath="$state/ssh" -O check root@192.0.2.11 \
    >/dev/null 2>&1 && return
  rm -f "$state/ssh"
  in_ns router timeout -k 5 60 setsid ssh -F none "${ssh_options[@]}" -i "$cache/key" -M -N -f \
    -o ControlPath="$state/ssh" root@192.0.2.11 </dev/null >/dev/null 2>&1
}
forget_connection() {
  in_ns router ssh -F none -q -o ControlPath="$state/ssh" -O exit root@192.0.2.11 2>/dev/null || true
}
