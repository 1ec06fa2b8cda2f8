# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# BGP in the lab: BIRD or FRR in the namespaces of the router and of the nodes, with the packaged
# examples as they are. Sockets, pids and logs of each are in STATE/ROLE/bgp. Sourced by scripts/lab,
# after processes.sh.

frr_daemons=(zebra bfdd bgpd)
frr_programs=/usr/lib/frr

bgp_kind() { # ROLE
  if [[ $1 == router ]]; then echo "$router"; else echo "$node_bgp"; fi
}

bgp_example() { # ROLE KIND
  if [[ $1 == router ]]; then echo "$repo/docs/examples/$2-router.conf"
  else echo "$repo/docs/examples/$2.conf"; fi
}

start_bgp() { # ROLE
  local kind dir=$state/$1/bgp
  kind=$(bgp_kind "$1")
  [[ $kind != static ]] || die "this lab speaks no BGP; try: scripts/lab up --router bird"
  mkdir -p "$dir"
  # A copy, which may be changed for one namespace. Only BFD's time differs, if --bfd says so.
  [[ -f $dir/$kind.conf ]] ||
    sed -E "s/^( *(interval|(receive|transmit)-interval) )100\b/\1$bfd/" \
      "$(bgp_example "$1" "$kind")" >"$dir/$kind.conf"
  "start_$kind" "$1" "$dir"
}

start_bird() { # ROLE DIR
  start_process "$1" bgp bird -f -c "$2/bird.conf" -s "$2/bird.ctl" -P "$2/bird.pid"
}

# Three daemons, which talk over sockets of their own. zebra first; what they are to do is told them
# all at once by vtysh. --v6-rr-semantics: see docs/bgp.md.
start_frr() { # ROLE DIR
  local role=$1 dir=$2 daemon
  # FRR's daemons give up root and make their sockets themselves.
  chmod 755 "$state_root" "$state" "$state/$role"
  chown frr:frr "$dir"
  for daemon in "${frr_daemons[@]}"; do
    local options=(--vty_socket "$dir" -z "$dir/zserv.api" -i "$dir/$daemon.pid" -P 0 --log stdout)
    case $daemon in
      zebra) options+=(--v6-rr-semantics) ;;
      bfdd) options+=(--bfdctl "$dir/bfdd.sock") ;;
      bgpd) options+=(-p 179) ;;
    esac
    start_process "$role" "$(frr_record "$daemon")" "$frr_programs/$daemon" "${options[@]}"
    wait_for 10 test -S "$dir/$daemon.vty" ||
      { tail -n 20 "$state/log/$role.$daemon" >&2; die "$daemon does not start on $role"; }
  done
  in_ns "$role" vtysh --vty_socket "$dir" -f "$dir/frr.conf" >>"$state/log/$role.bgp" 2>&1 ||
    { tail -n 20 "$state/log/$role.bgp" >&2; die "FRR on $role refuses $dir/frr.conf"; }
}

# bgpd stands for all three: it goes by the name that BIRD has.
frr_record() { if [[ $1 == bgpd ]]; then echo bgp; else echo "$1"; fi; }

stop_bgp() { # ROLE SIGNAL
  local daemon
  if [[ $(bgp_kind "$1") != frr ]]; then
    stop_process "$1" bgp "$2"
    return
  fi
  for daemon in bgpd bfdd zebra; do
    stop_process "$1" "$(frr_record "$daemon")" "$2"
    rm -f "$state/$1/bgp/$daemon.vty" "$state/$1/bgp/$daemon.pid"
  done
  rm -f "$state/$1/bgp/zserv.api"
}

bgp_command() { # ROLE [CMD...]
  local dir=$state/$1/bgp
  case $(bgp_kind "$1") in
    bird) exec birdc -s "$dir/bird.ctl" "${@:2}" ;;
    frr)
      if (($# > 1)); then exec vtysh --vty_socket "$dir" -c "${*:2}"; fi
      exec vtysh --vty_socket "$dir"
      ;;
    *) die "this lab speaks no BGP; try: scripts/lab up --router bird" ;;
  esac
}

# ROLE: one line per BGP session that is up: the address of the other end.
sessions() {
  case $(bgp_kind "$1") in
    bird)
      birdc -s "$state/$1/bgp/bird.ctl" show protocols all 2>/dev/null |
        awk '/^ *Neighbor address:/ { address = $3; sub(/%.*/, "", address) }
             /^ *BGP state:/ { up = $3 == "Established" }
             /^ *Neighbor ID:/ { if (up) print address }'
      ;;
    frr)
      vtysh --vty_socket "$state/$1/bgp" -c 'show bgp summary json' 2>/dev/null |
        jq -r '.[] | .peers? // empty | to_entries[] | select(.value.state == "Established") | .key'
      ;;
  esac
}

# The addresses of the other ends of a role's BFD sessions that are up.
bfd_sessions() { # ROLE
  case $(bgp_kind "$1") in
    bird)
      birdc -s "$state/$1/bgp/bird.ctl" show bfd sessions 2>/dev/null |
        awk '$3 == "Up" { sub(/%.*/, "", $1); print $1 }'
      ;;
    frr)
      vtysh --vty_socket "$state/$1/bgp" -c 'show bfd peers json' 2>/dev/null |
        jq -r '.[] | select(.status == "up") | .peer'
      ;;
  esac
}

sessions_are_up() {
  (($(sessions router | wc -l) == 2 * nodes && $(bfd_sessions router | wc -l) == 2 * nodes))
}

bgp_picture() {
  local role
  echo "   BGP, AS 65000 (router) with AS 65001 (nodes); sessions that are up:"
  for role in router $(node_roles); do
    printf '     %-7s %-5s %s\n' "$role" "$(bgp_kind "$role")" "$(sessions "$role" | sort -V | xargs)"
  done
  printf '   BFD, %s ms x 3; up:\n     router        %s\n' "$bfd" "$(bfd_sessions router | sort -V | xargs)"
  echo "   the router's routes to VIPs:"
  { ip -n "$(ns router)" route show root "$vip4_net"; ip -n "$(ns router)" -6 route show root "$vip6_net"; } |
    awk '!/^[ \t]/ { if (line) print line; line = "     " $1 }
         { for (i = 1; i < NF; i++) if ($i == "via") line = line " " $(i + 1) }
         END { print line ? line : "     none" }'
}

# What an upgrade of all nodes does (docs/operations.md).
roll() {
  local role cli=$build/controlplane/cli/guideway
  for role in $(node_roles); do
    say "lab: $role: out of service"
    "$cli" --socket "$(control_socket "$role")" node drain --wait
    stop_process "$role" controlplane
    stop_process "$role" dataplane
    say "lab: $role: stopped; the new version starts"
    start_daemon "$role" dataplane
    start_daemon "$role" controlplane
    wait_for 20 node_serves "$role" || die "$role does not come up; see scripts/lab logs $role"
    "$cli" --socket "$(control_socket "$role")" node enable --wait
  done
}
