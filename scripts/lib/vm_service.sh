# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# The units: killed, stopped, upgraded, booted; all beside clients that go on. Sourced by
# scripts/vm-test, after vm_cases.sh.

# Clients of a VIP, each with a connection of its own: load_begin ADDRESS RATE ... load_end.
load_begin() {
  rm -f "$state/load.in" "$state/load.out"
  mkfifo "$state/load.in"
  in_ns client /usr/bin/python3 "$repo/scripts/lib/failure_clients.py" fresh "$1" 80 "$2" \
    <"$state/load.in" >"$state/load.out" 2>&1 &
  load_pid=$!
  exec {load_fd}>"$state/load.in"
  soon 10 "the clients have begun" grep -q ready "$state/load.out"
}
load_end() {
  exec {load_fd}>&-
  wait "$load_pid"
  tail -1 "$state/load.out" >"$state/load.json"
}
load() { jq -r ".$1" "$state/load.json"; } # requests, or an expression
# From the first request that failed or waited to the last one, ms.
outage_ms() {
  jq '[.failed[], .slow[]] | if . == [] then 0
    else ((max_by(.[0])[0] - min_by(.[0])[0]) / 1e6 | round) end' "$state/load.json"
}
no_request_failed() {
  load 'failed[:5][]' | head -5
  expect "no request of $(load requests) failed" test "$(load 'failed | length')" -eq 0
}

main_pid() { node "systemctl show -P MainPID guideway-$1"; }
restarted() { # UNIT PID: another one runs
  node "test \$(systemctl show -P MainPID guideway-$1) -ne $2 && systemctl -q is-active guideway-$1"
}
# Between two moments of a unit's life, ms.
between_ms() { # UNIT FROM TO
  node "systemctl show guideway-$1 -p $2 -p $3" |
    awk -F= -v from="$2" '$1 == from { a = $2; next } { b = $2 } END { printf "%d\n", (b - a) / 1000 }'
}
start_up_ms() { between_ms "$1" ExecMainStartTimestampMonotonic ActiveEnterTimestampMonotonic; }
restart_ms() { between_ms "$1" ActiveExitTimestampMonotonic ActiveEnterTimestampMonotonic; }
# The dataplane's last restart cost what the restart took; and the clients' second and third try, and
# what BGP takes, of an emulated machine.
cost_its_restart() { # OUTAGE_MS
  (($1 <= $(restart_ms dataplane) + 3000))
}

case_kill() {
  local pid since outage ssh
  pid=$(main_pid controlplane)
  load_begin "$vip4" 20
  node "kill -KILL $pid"
  soon 30 "systemd brings the control plane back" restarted controlplane "$pid"
  soon 30 "it answers" node 'guideway status'
  load_end
  no_request_failed
  note "control plane: none of $(load requests) requests failed"

  since=$(session_since)
  pid=$(main_pid dataplane)
  load_begin "$vip4" 20
  # shellcheck disable=SC2016  # expands there
  over_tap 'read -r line; echo "$line"' < <(sleep 20; echo survived) >"$state/ssh.out" &
  ssh=$!
  soon 20 "ssh over the TAP" node 'pgrep -f "read -r line"'
  node "kill -KILL $pid"
  soon 30 "systemd brings the dataplane back" restarted dataplane "$pid"
  soon 60 "the VIPs are learned again" vips_learned
  soon 30 "requests are answered again" serves "$vip4"
  load_end
  outage=$(outage_ms)
  expect "BGP's session has outlived the dataplane: $since" test "$(session_since)" = "$since"
  wait "$ssh"
  expect "ssh has outlived the dataplane" grep -qx survived "$state/ssh.out"
  expect "the TAP kept its address" node 'ip -br addr show gw0 | grep -q 10.0.0.11/24'
  all_served
  note "dataplane: requests failed or waited for $outage ms; restart $(restart_ms dataplane) ms, of \
that start-up $(start_up_ms dataplane) ms"
  expect "that is what the restart took" cost_its_restart "$outage"
}

# Nothing forwards: nobody is told otherwise, whoever else is dead.
case_withdraw() {
  node 'systemctl stop guideway-dataplane'
  soon 20 "the VIPs are withdrawn when the dataplane's unit stops" vips_gone
  node 'systemctl start guideway-dataplane'
  soon 60 "the VIPs are learned again" vips_learned
  node 'systemctl stop guideway-controlplane'
  expect "HTTP without the control plane" serves_often "$vip4" 20
  expect "the VIPs stay announced" vips_learned
  node 'systemctl kill -s KILL guideway-dataplane; systemctl stop guideway-dataplane'
  soon 20 "the VIPs are withdrawn with the control plane down" vips_gone
  node 'systemctl start guideway-controlplane guideway-dataplane'
  soon 60 "the VIPs are learned again" vips_learned
  # The commonest mistake of all.
  node "echo 'workers = one' >>/etc/guideway/node.toml"
  expect "no unit starts by a node.toml with an error" \
    fails node 'systemctl restart guideway-controlplane guideway-dataplane'
  soon 20 "the VIPs are withdrawn" vips_gone
  of_node_toml '/^workers = one$/d'
  node 'systemctl restart guideway-controlplane guideway-dataplane'
  soon 60 "the VIPs are learned again" vips_learned
  all_served
}

# The last commit that knew layout 3 of the image only; docs/operations.md, Upgrade.
layout_before=ff3d0505b2a4d80dfdfa61932588d9662f775204
package_before=
make_package_before() { # sets package_before
  local source=$cache/before
  package_before=$cache/guideway-node_$layout_before.deb
  [[ ! -e $package_before ]] || return 0
  expect "the repository has its history" git -C "$repo" cat-file -e "$layout_before^{commit}"
  rm -rf "$source"
  mkdir -p "$source"
  git -C "$repo" archive "$layout_before" | tar -x -C "$source"
  env -u GUIDEWAY_PACKAGE_BUILD GUIDEWAY_BUILD="$source/build" "$source/scripts/package"
  cp "$source"/build/packages/guideway-node_*.deb "$package_before.new"
  mv "$package_before.new" "$package_before"
  rm -rf "$source"
}
runs_from() { # DAEMON FOLDER
  node "readlink /proc/\$(systemctl show -P MainPID guideway-$1)/exe | grep -q '^$2/'"
}
runs_its_revision() {
  node 'guideway status --json' |
    jq -e '.revision == .dataplane.revision and .dataplane.problem == null' >/dev/null
}
# Packets by l2, ipip and gue, by IPv4 and by IPv6, and a change that the dataplane takes.
goes_on() { # WEIGHT
  soon 60 "the VIPs are learned" vips_learned
  all_served
  soon 60 "ipip" serves_by "$tunnel_vip4" b3
  soon 60 "ipip by IPv6" serves_by "$tunnel_vip6" b3
  soon 60 "gue" serves_by "$gue_vip4" b3
  soon 60 "gue by IPv6" serves_by "$gue_vip6" b3
  node "guideway backend weight web4 10.0.0.21 $1"
  soon 30 "the dataplane has taken it" runs_its_revision
  all_served
}

use_before() { # DAEMON
  node "mkdir -p /run/systemd/system/guideway-$1.service.d
    printf '[Service]\nExecStart=\nExecStart=/opt/before/usr/sbin/guideway-$1\n' \
      >/run/systemd/system/guideway-$1.service.d/before.conf
    systemctl daemon-reload && systemctl restart guideway-$1"
  expect "the $1 of before runs" runs_from "$1" /opt/before
}
use_now() { # DAEMON
  node "rm -f /run/systemd/system/guideway-$1.service.d/before.conf
    systemctl daemon-reload && systemctl restart guideway-$1"
  expect "the $1 of now runs" runs_from "$1" /usr
}
layout_spoken() { # by the log of the control plane that runs; one of before does not tell
  node "journalctl _PID=\$(systemctl show -P MainPID guideway-controlplane) |
    grep -o ' layout=[0-9]*' | tail -1"
}

# Each daemon beside one of the layout before.
case_apart() {
  make_package_before
  upload /root/before.deb <"$package_before"
  node 'dpkg-deb -x /root/before.deb /opt/before'
  trap 'use_now controlplane; use_now dataplane' EXIT
  use_before controlplane
  goes_on 51
  use_now controlplane
  goes_on 52
  expect "both of now: layout 4" test "$(layout_spoken)" = " layout=4"
  use_before dataplane
  goes_on 53
  expect "a dataplane of before: layout 3" test "$(layout_spoken)" = " layout=3"
  use_now dataplane
  goes_on 54
  trap - EXIT
  note "a control plane, and a dataplane, of layout 3 beside the other of now; l2, ipip, gue, a change each"
}

next_package() {
  [[ -e $state/next.deb ]] || one_version_on "$state/guideway-node.deb" "$state/next.deb"
}
install_next() {
  node 'cd /root && DEBIAN_FRONTEND=noninteractive apt-get -q -y --allow-downgrades --reinstall \
    install ./guideway-node_next_amd64.deb'
}

case_upgrade() {
  local control data outage since
  next_package
  upload /root/guideway-node_next_amd64.deb <"$state/next.deb"
  # One daemon at a time, as docs/operations.md says.
  control=$(main_pid controlplane) data=$(main_pid dataplane)
  load_begin "$vip4" 20
  node "printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d"
  install_next
  node 'rm /usr/sbin/policy-rc.d; systemctl daemon-reload'
  expect "both daemons are those of before" \
    test "$(main_pid controlplane) $(main_pid dataplane)" = "$control $data"
  node 'systemctl restart guideway-controlplane'
  soon 30 "the control plane answers" node 'guideway status'
  expect "another control plane runs" restarted controlplane "$control"
  expect "the dataplane is that of before" test "$(main_pid dataplane)" = "$data"
  load_end
  no_request_failed
  note "the package installed without restarts, the control plane replaced: none of \
$(load requests) requests failed"

  since=$(session_since)
  control=$(main_pid controlplane) data=$(main_pid dataplane)
  node "echo '# edited' >>/etc/guideway/node.toml"
  load_begin "$vip4" 20
  install_next
  expect "another control plane runs" restarted controlplane "$control"
  expect "another dataplane runs" restarted dataplane "$data"
  soon 60 "the VIPs are learned" vips_learned
  soon 30 "requests are answered" serves "$vip4"
  load_end
  outage=$(outage_ms)
  # shellcheck disable=SC2016  # dpkg-query's own variable
  expect "the package is one version on" node 'dpkg-query -W -f "\${Version}" guideway-node | grep -q next'
  expect "node.toml is as it was edited" node 'grep -qx "# edited" /etc/guideway/node.toml'
  expect "BGP's session has outlived the upgrade" test "$(session_since)" = "$since"
  all_served
  note "upgrade: of $(load requests) requests $(load 'failed | length') failed, within $outage ms; \
restart $(restart_ms dataplane) ms, of that start-up $(start_up_ms dataplane) ms"
  expect "that is what the restart took" cost_its_restart "$outage"
}

# A second node outside, from the same package, on veth and AF_XDP.
n2() { in_ns n2 "$state/n2/root/usr/bin/guideway" --socket "$state/n2/run/control.sock" "$@"; }
make_n2() {
  local dir=$state/n2
  make_namespace n2
  make_link n2 eth1 n2
  ip -n "$(ns router)" link set n2 master br0
  ip -n "$(ns n2)" address add 10.0.0.12/24 dev eth1
  ip -n "$(ns n2)" address add fd00:0:0:1::12/64 dev eth1 nodad
  ip -n "$(ns n2)" route add default via 10.0.0.1
  ip -n "$(ns n2)" route add default via fd00:0:0:1::1
  mkdir -p "$dir/run" "$dir/state"
  dpkg-deb -x "$state/guideway-node.deb" "$dir/root"
  cat >"$dir/node.toml" <<TOML
[node]
name = "n2"
[dataplane]
workers = 1
memory_mb = 128
[[dataplane.ports]]
interface = "eth1"
[paths]
run = "$dir/run"
state = "$dir/state"
[control]
socket = "$dir/run/control.sock"
TOML
  local daemon
  for daemon in dataplane controlplane; do
    start n2 "$daemon" "$dir/root/usr/sbin/guideway-$daemon" --config "$dir/node.toml" \
      --bpf-dir "$dir/root/usr/lib/guideway/bpf"
  done
  soon 30 "n2 answers" n2 status
  edge_toml >"$dir/edge.toml"
  n2 apply "$dir/edge.toml"
  patient_bird <"$repo/docs/examples/bird.conf" >"$dir/bird.conf"
  start n2 bird bird -f -c "$dir/bird.conf" -s "$dir/bird.ctl" -P "$dir/bird.pid"
  in_ns router sysctl -qw net.ipv4.fib_multipath_hash_policy=1 net.ipv6.fib_multipath_hash_policy=1
}
ways() { # COUNT: next hops that the router has for each VIP
  [[ $(in_ns router ip route show "$vip4" | grep -o 'via 10.0.0.1[12] ' | sort -u | wc -l) -eq $1 &&
    $(in_ns router ip -6 route show "$vip6" | grep -o 'via fd00:0:0:1::1[12] ' | sort -u | wc -l) -eq $1 ]]
}

case_two_nodes() {
  local data
  next_package
  upload /root/guideway-node_next_amd64.deb <"$state/next.deb"
  make_n2
  soon 60 "the router spreads over both nodes" ways 2
  data=$(main_pid dataplane)
  load_begin "$vip4" 40
  node 'guideway node drain --wait'
  soon 30 "the router sends nothing to the drained node" ways 1
  install_next
  expect "another dataplane runs" restarted dataplane "$data"
  node 'guideway node enable --wait'
  soon 60 "the router spreads over both nodes again" ways 2
  load_end
  no_request_failed
  note "drain, upgrade, enable beside $(load requests) requests: none failed, $(load 'slow | length') slow"
}

case_reboot() {
  local began
  stop_n2
  node 'touch /run/before'
  began=$SECONDS
  node 'systemctl reboot' || true
  soon 120 "the machine goes down" fails node true
  wait_for_node
  expect "it is a new boot" fails node 'test -e /run/before'
  soon 120 "the VIPs are learned, with nobody's help" vips_learned
  expect "the TAP has the NIC's MAC" node 'grep -qx 02:00:00:00:01:01 /sys/class/net/gw0/address'
  all_served
  expect "VFIO was there when the dataplane's unit started" \
    fails node 'journalctl -b -u guideway-dataplane | grep -q "Operation not permitted"'
  note "serves $((SECONDS - began)) s after the command"
}
stop_n2() {
  local what
  ip netns pids "$(ns n2)" >/dev/null 2>&1 || return 0
  for what in bird controlplane dataplane; do
    kill "$(cat "$state/pids/n2.$what")" 2>/dev/null || true
  done
  soon 30 "the router has but one way" ways 1
}
