# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# What runs in the lab: nginx and the small servers on backends, the agent there, the two daemons on
# nodes. Each process is recorded as STATE/pids/ROLE.WHAT and ended by that pid, and only if the
# process of that pid is still in the lab's namespace. Sourced by scripts/lab, after topology.sh.

downloads=/var/tmp/guideway-lab
download_sha256=5f9ee105b3a89647aa6d455f68b57b9cb54e65aca4f9375f895fa12078ca0424

# 100 MB of numbers, the same everywhere, made once.
make_download() {
  local file=$downloads/100M
  [[ ! -f $file ]] || return 0
  mkdir -p "$downloads"
  seq 100000001 110000000 >"$file.$$"
  [[ $(sha256sum <"$file.$$") == "$download_sha256  -" ]] || die "$file.$$ has a wrong checksum"
  mv "$file.$$" "$file"
}

# pid_of ROLE WHAT: prints the pid if that process lives in its namespace.
pid_of() {
  local pid
  pid=$(cat "$state/pids/$1.$2" 2>/dev/null) || return 1
  [[ $pid && /proc/$pid/ns/net -ef /run/netns/$(ns "$1") ]] || return 1
  echo "$pid"
}

# start_process ROLE WHAT CMD...
start_process() {
  local role=$1 what=$2
  shift 2
  if pid_of "$role" "$what" >/dev/null; then
    die "$what already runs on $role (pid $(pid_of "$role" "$what"))"
  fi
  # shellcheck disable=SC2016  # expands in the namespace
  setsid ip netns exec "$(ns "$role")" \
    sh -c 'mount --bind "$0" /sys/fs/bpf && exec "$@"' "$state/$role/bpf" "$@" \
    </dev/null >>"$state/log/$role.$what" 2>&1 &
  echo $! >"$state/pids/$role.$what"
}

# start_supervised ROLE WHAT AFTER CMD...: like start_process; when CMD has ended, however that came,
# AFTER is run (by the shell), as systemd does with ExecStopPost=.
start_supervised() {
  local role=$1 what=$2 after=$3 record=$state/pids/$1.$2
  shift 3
  if pid_of "$role" "$what" >/dev/null; then
    die "$what already runs on $role (pid $(pid_of "$role" "$what"))"
  fi
  rm -f "$record"
  # shellcheck disable=SC2016  # expands in the namespace
  setsid ip netns exec "$(ns "$role")" sh -c '
      record=$1 after=$2
      shift 2
      mount --bind "$0" /sys/fs/bpf || exit
      "$@" &
      echo $! >"$record.new" && mv "$record.new" "$record"
      wait $!
      eval "$after"' "$state/$role/bpf" "$record" "$after" "$@" \
    </dev/null >>"$state/log/$role.$what" 2>&1 &
  wait_for 10 test -e "$record" || die "$what on $role does not start"
}

# ended PID: no thread of it is left. A killed process's first thread may be dead, and its namespace
# gone, while another still holds locks and sockets; a zombie that nobody reaps holds nothing.
ended() {
  local state='' tasks=(/proc/"$1"/task/*)
  [[ -e ${tasks[0]} ]] || return 0
  ((${#tasks[@]} == 1)) || return 1
  state=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || return 0
  [[ ${state:0:1} == [ZX] ]]
}

children_of() { cat "/proc/$1/task/"*/children 2>/dev/null || true; }

# stop_process ROLE WHAT [SIGNAL]: returns when it is gone; after 10 s without success, by SIGKILL.
stop_process() {
  local pid pids=''
  pid=$(pid_of "$1" "$2") || return 0
  # A master that is killed takes no worker with it.
  [[ ${3:-TERM} != KILL ]] || pids=$(children_of "$pid")
  # shellcheck disable=SC2086  # a list of numbers
  kill -s "${3:-TERM}" "$pid" $pids 2>/dev/null || true
  if ! wait_for 10 ended "$pid"; then
    say "lab: $2 on $1 (pid $pid) ignores SIG${3:-TERM}: killed"
    kill -KILL "$pid" 2>/dev/null || true
    wait_for 5 ended "$pid" || die "$2 on $1 (pid $pid) does not end"
  fi
  rm -f "$state/pids/$1.$2"
}

# ---------------------------------------------------------------- backends

nginx_config() { # ROLE
  local dir=$state/$1
  cat <<CONF
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 65536;
pid $dir/nginx.pid;
error_log $dir/nginx-error.log warn;
events { worker_connections 16384; }
http {
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path $dir/body;
  proxy_temp_path $dir/proxy;
  fastcgi_temp_path $dir/fastcgi;
  uwsgi_temp_path $dir/uwsgi;
  scgi_temp_path $dir/scgi;
  default_type text/plain;
  sendfile on;
  server {
    listen 80 backlog=4096;
    listen [::]:80 ipv6only=on backlog=4096;
    location = / { return 200 "$1\n"; }
    location = /100M { alias $downloads/100M; }
    location = /nginx { stub_status; }
  }
}
CONF
}

start_nginx() { # ROLE
  nginx_config "$1" >"$state/$1/nginx.conf"
  start_process "$1" nginx nginx -p "$state/$1" -e "$state/$1/nginx-error.log" \
    -c "$state/$1/nginx.conf"
}

start_server() { # ROLE
  start_process "$1" server /usr/bin/python3 "$repo/tests/support/backend_server.py" "$1"
}

backend_serves() { # ROLE
  [[ $(in_ns "$1" ss -Hltn 'sport = 80 or sport = 8080 or sport = 7' | wc -l) -ge 4 ]] &&
    [[ $(in_ns "$1" ss -Hlun 'sport = 53' | wc -l) -ge 2 ]]
}

# What nodes and agents share.
agent_key() {
  [[ -s $state/agent.key ]] ||
    (umask 077 && "$build/controlplane/cli/guideway" agent key >"$state/agent.key") ||
    die "$build is older than these sources, or broken; try: scripts/build"
  echo "$state/agent.key"
}

start_agent() { # ROLE: takes tunnel packets from the nodes and the other backends
  local key
  key=$(agent_key) || exit 1
  start_process "$1" agent "$build/controlplane/cli/guideway" agent run --bpf-dir "$build/bpf" --interface eth0 \
    --allow 10.0.0.0/24 --allow fd00:0:0:1::/64 --key "$key"
}

# ---------------------------------------------------------------- nodes

control_socket() { echo "$state/$1/run/control.sock"; }

node_config() { # ROLE
  local at=$((10 + ${1#n})) dataplane_port='interface = "eth1"'
  if [[ $port == vdev ]]; then
    dataplane_port='vdev = "net_af_xdp0,iface=eth1"
tap = "gw0"'
  fi
  cat <<TOML
[node]
name = "$1"
[dataplane]
workers = 1
hugepages = false
memory_mb = 128
[[dataplane.ports]]
$dataplane_port
[tunnel]
source4 = "10.0.0.$at"
source6 = "fd00:0:0:1::$at"
[control]
socket = "$(control_socket "$1")"
[paths]
run = "$state/$1/run"
state = "$state/$1/state"
[agents]
key_file = "$(agent_key)"
[log]
level = "${GUIDEWAY_LOG:-info}"
TOML
  if ((etcd > 0)); then cluster_config; fi
}

start_daemon() { # ROLE dataplane|controlplane
  local role=$1 what=$2 program="$build/$2/guideway-$2" new_tap=false
  [[ -x $program ]] || die "$program is not built; try: scripts/build"
  mkdir -p "$state/$role/run" "$state/$role/state"
  [[ -f $state/$role/node.toml ]] || node_config "$role" >"$state/$role/node.toml"
  local arguments=(--config "$state/$role/node.toml" --bpf-dir "$build/bpf")
  if [[ $what == dataplane && $port == vdev ]] && ! tap_is_there "$role" >/dev/null 2>&1; then
    new_tap=true
  fi
  if [[ $what == dataplane ]]; then
    start_supervised "$role" "$what" \
      "$build/controlplane/guideway-controlplane --config $state/$role/node.toml --withdraw" \
      "$program" "${arguments[@]}"
  else
    start_process "$role" "$what" "$program" "${arguments[@]}"
  fi
  # The TAP outlives the dataplane, and its addresses with it: they are given once.
  if $new_tap; then
    wait_for 20 tap_is_there "$role" ||
      { tail -n 20 "$state/log/$role.dataplane" >&2; die "the dataplane on $role made no TAP"; }
    address_node "${role#n}" gw0
  fi
}

# An owned port's addresses live on its TAP, which the dataplane makes.
tap_is_there() { ip -n "$(ns "$1")" link show gw0; }

node_serves() { # ROLE: the control plane answers and knows a living dataplane
  "$build/controlplane/cli/guideway" --socket "$(control_socket "$1")" --json status |
    jq -e '.dataplane.connected and .dataplane.alive'
}

start_node() { # ROLE
  start_daemon "$1" dataplane
  start_daemon "$1" controlplane
  if [[ $router != static ]]; then start_bgp "$1"; fi
}

start_all() {
  local role
  for role in $(backend_roles); do
    start_nginx "$role"
    start_server "$role"
  done
  if [[ $router != static ]]; then start_bgp router; fi
  if ((etcd > 0)); then start_all_etcd; fi
  if $start_nodes; then
    for role in $(backend_roles); do start_agent "$role"; done
    for role in $(node_roles); do start_node "$role"; done
    for role in $(node_roles); do
      wait_for 20 node_serves "$role" ||
        { tail -n 20 "$state/log/$role".* >&2; die "$role does not come up; its logs are above"; }
    done
  fi
  if $start_nodes && [[ $router != static ]]; then
    wait_for 30 sessions_are_up || { bgp_picture >&2; die "not all BGP sessions come up"; }
  fi
  for role in $(backend_roles); do
    wait_for 20 backend_serves "$role" ||
      { tail -n 20 "$state/log/$role".* >&2; die "$role does not serve; its logs are above"; }
  done
}

# ---------------------------------------------------------------- the end

lab_pids() { # of the namespaces given
  local name
  for name in "$@"; do ip netns pids "$name" 2>/dev/null || true; done
}

no_pids() { [[ -z $(lab_pids "$@") ]]; }

# Ends everything in the lab's namespaces and removes them; works on whatever is left of a lab.
remove_all() {
  local spaces name pids mounted
  mapfile -t spaces < <(ip netns list | sed -n "s/^\(gw-$lab-[a-z0-9]*\).*/\1/p")
  if ((${#spaces[@]})); then
    pids=$(lab_pids "${spaces[@]}")
    # shellcheck disable=SC2086  # a list of numbers
    [[ -z $pids ]] || kill -TERM $pids 2>/dev/null || true
    if ! wait_for 5 no_pids "${spaces[@]}"; then
      pids=$(lab_pids "${spaces[@]}")
      # shellcheck disable=SC2086
      [[ -z $pids ]] || kill -KILL $pids 2>/dev/null || true
      wait_for 5 no_pids "${spaces[@]}" || say "lab: processes that do not end: $pids"
    fi
    for name in "${spaces[@]}"; do ip netns del "$name"; done
  fi
  [[ -d $state ]] || return 0
  while read -r mounted; do
    umount -l "$mounted"
  done < <(awk -v at="$state/" 'index($2, at) == 1 { print $2 }' /proc/mounts)
  rm -rf "$state"
}
