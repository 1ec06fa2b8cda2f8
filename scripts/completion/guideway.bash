# SPDX-License-Identifier: Apache-2.0
# bash completion for guideway. Names of pools, backends and services come from the control plane,
# if it answers. Needs nothing but bash and grep.

# The values of one JSON member, of what `guideway --json ARGUMENTS` prints.
_guideway_values() {
  local member=$1
  shift
  timeout 2 guideway "${_guideway_socket[@]}" --json "$@" 2>/dev/null |
    grep -oE "\"$member\" *: *\"[^\"]*\"" | sed -E 's/.*: *"([^"]*)"$/\1/'
}

# Those of WORDS, blanks or newlines between them, that begin with the word `current`. After a ':'
# something has to follow.
_guideway_offer() {
  local word
  while read -r word; do
    [[ -n $word && $word == "$current"* ]] || continue
    [[ $word == *: ]] && COMPREPLY+=("$word") || COMPREPLY+=("$word ")
  done < <(tr ' ' '\n' <<<"$1")
  return 0
}

_guideway_files() {
  local file
  while read -r file; do
    [[ -d $file ]] && COMPREPLY+=("$file/") || COMPREPLY+=("$file ")
  done < <(compgen -f -- "$current")
  return 0
}

# Options of the command in `command`; those of `guideway` itself may stand anywhere.
_guideway_options() {
  local options="--help --socket --json"
  case $command in
    "") options+=" --version" ;;
    "service add") options+=" --pool --no-wait --force" ;;
    "pool add" | "pool set")
      options+=" --forwarding --table-slots --probe --probe-interval --probe-timeout --fall --rise"
      options+=" --probe-query --probe-host --slow-start --hold --no-wait --force"
      ;;
    "backend add") options+=" --weight --no-wait --force" ;;
    "backend drain") options+=" --deadline --wait --no-wait --force" ;;
    "service remove" | "pool remove" | "backend remove" | "backend weight" | "backend enable" | \
      "backend disable") options+=" --no-wait --force" ;;
    events) options+=" --since --limit --follow" ;;
    apply) options+=" --dry-run --no-wait --force" ;;
    "node drain" | "node enable") options+=" --wait --timeout" ;;
    doctor) options+=" --config" ;;
    "agent run") options+=" --interface --allow --once --bpf-dir --key --listen" ;;
    "agent status" | "agent detach") options+=" --interface" ;;
  esac
  _guideway_offer "$options"
}

# The word after ${#arguments[@]} positional ones.
_guideway_argument() {
  case "$command:${#arguments[@]}" in
    :0) _guideway_offer "status apply export explain events doctor service pool backend node cluster agent" ;;
    service:0) _guideway_offer "add remove list" ;;
    pool:0) _guideway_offer "add set remove list show" ;;
    backend:0) _guideway_offer "add remove drain enable disable weight list" ;;
    node:0) _guideway_offer "drain enable" ;;
    cluster:0) _guideway_offer "status join leave" ;;
    agent:0) _guideway_offer "run status detach key" ;;
    apply:0) _guideway_files ;;
    "service remove:0" | "service add:0" | explain:1)
      _guideway_offer "$(_guideway_values service service list)" ;;
    "pool remove:0" | "pool show:0" | "pool add:0" | "pool set:0" | "backend add:0" | \
      "backend remove:0" | "backend drain:0" | "backend enable:0" | "backend disable:0" | \
      "backend weight:0" | "backend list:0")
      _guideway_offer "$(_guideway_values name pool list)" ;;
    "backend remove:1" | "backend weight:1" | "backend add:1" | "backend drain:1" | \
      "backend enable:1" | "backend disable:1")
      _guideway_offer "$(_guideway_values address pool show "${arguments[0]}")" ;;
  esac
}

_guideway() {
  # Words as the shell will see them; bash's own COMP_WORDS breaks them at ':'.
  local line=${COMP_LINE:0:COMP_POINT} current="" previous="" command="" word
  local -a words arguments=() _guideway_socket=()
  read -ra words <<<"$line"
  if [[ $line != *[[:space:]] ]]; then
    current=${words[-1]}
    unset 'words[-1]'
  fi

  for word in "${words[@]:1}"; do
    case $previous in
      --socket) _guideway_socket=(--socket "$word") previous="" && continue ;;
      --pool | --forwarding | --table-slots | --weight | --config | --interface | --allow | \
        --bpf-dir | --key | --listen | --probe | --probe-interval | --probe-timeout | --fall | --rise | \
        --probe-query | --probe-host | --slow-start | --hold | --deadline | --since | --limit | --timeout)
        previous="" && continue ;;
    esac
    previous=$word
    case $word in
      -*) ;;
      *)
        case $command in
          "") command=$word ;;
          service | pool | backend | node | cluster | agent) command+=" $word" ;;
          *) arguments+=("$word") ;;
        esac
        ;;
    esac
  done

  COMPREPLY=()
  case $previous in
    --socket | --config | --bpf-dir | --key) _guideway_files ;;
    --interface) _guideway_offer "$(cd /sys/class/net && echo *)" ;;
    --allow | --listen) ;;
    --pool) _guideway_offer "$(_guideway_values name pool list)" ;;
    --forwarding) _guideway_offer "l2 ipip gue" ;;
    --probe) _guideway_offer "none icmp tcp: udp: http:" ;;
    --probe-query) _guideway_offer "dns echo" ;;
    --table-slots | --weight | --probe-interval | --probe-timeout | --fall | --rise | \
      --probe-host | --slow-start | --hold | --deadline | --since | --limit | --timeout) ;;
    *) if [[ $current == -* ]]; then _guideway_options; else _guideway_argument; fi ;;
  esac

  # Bash replaces only what follows the last ':' of the word.
  if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
    COMPREPLY=("${COMPREPLY[@]#"${current%:*}:"}")
  fi
}

complete -o nospace -F _guideway guideway
