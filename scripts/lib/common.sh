# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by every script here: where things are, and how to say things. Nothing but results goes to
# standard output; say() and die() write to standard error.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034  # used by the scripts that source this file
build=${GUIDEWAY_BUILD:-$repo/build}

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$(basename "$0"): $*"
  exit 1
}

need_root() {
  [[ $EUID -eq 0 ]] || die "needs root, for $1; try: sudo $0"
}

# wait_for SECONDS CMD...: runs CMD until it succeeds; fails once the time is over.
wait_for() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || return 1
    sleep 0.05
  done
}

# quietly LABEL CMD...: shows CMD's output only when it fails.
quietly() {
  local label=$1 log status=0
  shift
  log=$(mktemp)
  "$@" >"$log" 2>&1 || status=$?
  if ((status != 0)); then
    cat "$log" >&2
    say "$label failed (exit code $status): $*"
  fi
  rm -f "$log"
  return "$status"
}
