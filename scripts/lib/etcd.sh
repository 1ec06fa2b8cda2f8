# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# etcd in the lab: members e1.. on the management network, with mutual TLS and users. Sourced by
# scripts/lab, after processes.sh.
#
#   gw-LAB-eI   eth0   192.0.2.(30+I)/24   port f1.. of the router's `mgmt`

etcd_roles() { seq -f 'e%g' 1 "$etcd"; }
etcd_address() { echo "192.0.2.$((30 + ${1#e}))"; } # ROLE

make_etcd_host() { # INDEX
  local role=e$1
  make_namespace "$role"
  make_link "$role" eth0 "02:00:00:00:05:1$1" router "f$1"
  ip -n "$(ns router)" link set "f$1" master mgmt up
  ip -n "$(ns "$role")" -batch - <<IP
address add $(etcd_address "$role")/24 dev eth0
link set eth0 up
IP
}

# One authority, one certificate for all members and one for all nodes, made for this lab.
make_certificates() {
  local dir=$state/tls names=IP:127.0.0.1 role
  mkdir -p "$dir"
  for role in $(etcd_roles); do names+=,IP:$(etcd_address "$role"); done
  (
    cd "$dir"
    umask 077
    local ec=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
    openssl req -x509 "${ec[@]}" -keyout ca.key -out ca.pem -days 2 -subj '/CN=lab authority' \
      -addext basicConstraints=critical,CA:TRUE
    openssl req "${ec[@]}" -keyout member.key -out member.csr -subj '/CN=etcd'
    # Without a common name: etcd refuses one at its JSON gateway.
    openssl req "${ec[@]}" -keyout node.key -out node.csr -subj '/O=lab nodes/OU=guideway'
    printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$names" >member.ext
    printf 'extendedKeyUsage=clientAuth\n' >node.ext
    local one
    for one in member node; do
      openssl x509 -req -in $one.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
        -extfile $one.ext -out $one.pem
    done
    openssl rand -hex 16 >password
  ) >"$state/log/certificates" 2>&1 || { cat "$state/log/certificates" >&2; die "openssl failed"; }
}

start_etcd() { # ROLE
  local all='' role at tls=$state/tls
  for role in $(etcd_roles); do all+=${all:+,}$role=https://$(etcd_address "$role"):2380; done
  at=$(etcd_address "$1")
  mkdir -p "$state/$1/data"
  chmod 0700 "$state/$1/data"
  start_process "$1" etcd etcd --name "$1" --data-dir "$state/$1/data" --logger zap \
    --listen-client-urls "https://$at:2379,https://127.0.0.1:2379" \
    --advertise-client-urls "https://$at:2379" \
    --listen-peer-urls "https://$at:2380" --initial-advertise-peer-urls "https://$at:2380" \
    --initial-cluster "$all" --initial-cluster-token "$lab" --initial-cluster-state new \
    --client-cert-auth --trusted-ca-file "$tls/ca.pem" --cert-file "$tls/member.pem" \
    --key-file "$tls/member.key" --peer-client-cert-auth --peer-trusted-ca-file "$tls/ca.pem" \
    --peer-cert-file "$tls/member.pem" --peer-key-file "$tls/member.key" \
    --heartbeat-interval 100 --election-timeout 1000
}

# etcdctl ROLE ARGUMENT...: as root, on that member.
etcd_control() {
  local role=$1 tls=$state/tls user=()
  shift
  [[ ! -e $tls/auth ]] || user=(--user "root:$(cat "$tls/password")")
  in_ns "$role" env ETCDCTL_API=3 etcdctl --endpoints "https://$(etcd_address "$role"):2379" \
    --cacert "$tls/ca.pem" --cert "$tls/node.pem" --key "$tls/node.key" \
    --command-timeout 5s "${user[@]}" "$@"
}

etcd_is_well() { etcd_control "$1" endpoint health; }

# A user of the nodes that may read and write below their prefix, and nobody may without.
secure_etcd() {
  local password
  password=$(cat "$state/tls/password")
  {
    etcd_control e1 user add "root:$password"
    etcd_control e1 user grant-role root root
    etcd_control e1 role add guideway
    etcd_control e1 role grant-permission guideway --prefix=true readwrite /guideway/
    etcd_control e1 user add "guideway:$password"
    etcd_control e1 user grant-role guideway guideway
    etcd_control e1 auth enable
  } >>"$state/log/etcd-users" 2>&1 || { cat "$state/log/etcd-users" >&2; die "etcd refuses users"; }
  touch "$state/tls/auth"
}

start_all_etcd() {
  local role
  make_certificates
  for role in $(etcd_roles); do start_etcd "$role"; done
  for role in $(etcd_roles); do
    wait_for 30 etcd_is_well "$role" ||
      { tail -n 20 "$state/log/$role.etcd" >&2; die "etcd on $role does not come up"; }
  done
  secure_etcd
}

# What node.toml says of it.
cluster_config() {
  local all='' role
  for role in $(etcd_roles); do all+=${all:+, }\"https://$(etcd_address "$role"):2379\"; done
  cat <<TOML
[cluster]
endpoints = [$all]
ca_file = "$state/tls/ca.pem"
cert_file = "$state/tls/node.pem"
key_file = "$state/tls/node.key"
user = "guideway"
password_file = "$state/tls/password"
TOML
}
