# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# The disk of the virtual machine: a Debian 12 with its own kernel and systemd, and everything that
# guideway-node depends on or recommends, but not Guideway. Kept in `cache` (set by the sourcing
# script) until what goes in changes. No loop device: mkfs.ext4 -d copies a folder.

vm_packages=(
  adduser bird2 ca-certificates dbus driverctl ethtool iproute2 iputils-ping kmod linux-image-amd64
  openssh-server pciutils procps python3 systemd systemd-sysv udev util-linux
)

image_recipe() { # DEB: what the image is made from, in one word
  { cat "${BASH_SOURCE[0]}"; dpkg-deb -f "$1" Depends Recommends; } | sha256sum | cut -d' ' -f1
}

debian_mirror() {
  # shellcheck disable=SC2016  # apt's own variable
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    grep -v security | head -1
}

in_root() { chroot "$cache/root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"; }

make_root() { # DEB
  local root=$cache/root mirror
  if [[ ! -e $root/.debootstrap ]]; then
    say "vm-test: debootstrap into $root (some minutes, once)"
    rm -rf "$root"
    mirror=$(debian_mirror)
    quietly debootstrap debootstrap --variant=minbase \
      --include="$(IFS=,; echo "${vm_packages[*]}")" bookworm "$root" ${mirror:+"$mirror"}
    touch "$root/.debootstrap"
  fi
  say "vm-test: installing what guideway-node needs"
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  mount -t proc proc "$root/proc"
  local status=0
  # shellcheck disable=SC2016  # expands in there
  quietly "apt-get satisfy" in_root bash -c 'apt-get -q update && apt-get -q -y \
    --no-install-recommends install "${@:3}" && apt-get -q -y --no-install-recommends satisfy "$1" "$2"' \
    bash "$(dpkg-deb -f "$1" Depends)" "$(dpkg-deb -f "$1" Recommends)" "${vm_packages[@]}" ||
    status=$?
  umount "$root/proc"
  return "$status"
}

# What an operator has done before Guideway comes: addresses of management, ssh, BIRD not yet.
configure_root() {
  local root=$cache/root network=$cache/root/etc/systemd/network
  echo node >"$root/etc/hostname"
  printf '127.0.0.1 localhost node\n::1 localhost\n' >"$root/etc/hosts"
  printf '/dev/vda / ext4 defaults 0 1\n' >"$root/etc/fstab"
  printf '[Match]\nMACAddress=02:00:00:00:07:01\n[Network]\nAddress=192.0.2.11/24\n' \
    >"$network/10-management.network"
  # By these the TAP of the port is addressed whenever the dataplane makes it.
  printf '[Match]\nName=gw0\n[Network]\nAddress=10.0.0.11/24\nAddress=fd00:0:0:1::11/64
Gateway=10.0.0.1\nGateway=fd00:0:0:1::1\nIPv6AcceptRA=no\nIgnoreCarrierLoss=10s\n[Link]\nRequiredForOnline=no\n' \
    >"$network/20-guideway.network"
  rm -f "$cache/key" "$cache/key.pub"
  ssh-keygen -q -t ed25519 -N '' -f "$cache/key"
  install -d -m 700 "$root/root/.ssh"
  install -m 600 "$cache/key.pub" "$root/root/.ssh/authorized_keys"
  printf 'UseDNS no\nGSSAPIAuthentication no\n' >"$root/etc/ssh/sshd_config.d/vm.conf"
  in_root systemctl -q enable systemd-networkd ssh
  in_root systemctl -q disable bird
  in_root systemctl -q mask serial-getty@ttyS0 apt-daily.timer apt-daily-upgrade.timer \
    e2scrub_all.timer fstrim.timer dpkg-db-backup.timer systemd-networkd-wait-online.service
}

# make_image DEB: $cache/disk, $cache/vmlinuz, $cache/initrd, $cache/key.
make_image() {
  local recipe
  recipe=$(image_recipe "$1")
  [[ $(cat "$cache/recipe" 2>/dev/null) != "$recipe" ]] || return 0
  mkdir -p "$cache"
  rm -f "$cache/recipe"
  make_root "$1"
  configure_root
  local kernel
  kernel=$(find "$cache/root/boot" -name 'vmlinuz-*' | sort -V | tail -1)
  cp "$kernel" "$cache/vmlinuz"
  cp "${kernel/vmlinuz-/initrd.img-}" "$cache/initrd"
  say "vm-test: making the disk"
  rm -f "$cache/disk"
  truncate -s 4G "$cache/disk"
  quietly mkfs.ext4 mkfs.ext4 -q -F -d "$cache/root" "$cache/disk"
  echo "$recipe" >"$cache/recipe"
}
