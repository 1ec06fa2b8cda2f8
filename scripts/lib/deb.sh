# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Debian packages for tests. Sourced.

# The package once more, one version on, with another comment in the example of node.toml, which
# nobody may be asked about.
one_version_on() { # DEB RESULT
  local tree
  tree=$(mktemp -d)
  dpkg-deb -R "$1" "$tree"
  sed -i 's/^Version: .*/&+next/; s/(= \([^)]*\))/(= \1+next)/' "$tree/DEBIAN/control"
  [[ ! -e $tree/usr/share/guideway/node.toml ]] ||
    echo '# One more comment.' >>"$tree/usr/share/guideway/node.toml"
  dpkg-deb --root-owner-group -b "$tree" "$2" >/dev/null
  rm -rf "$tree"
}
