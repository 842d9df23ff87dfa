#!/bin/sh
# Has containerd on this machine use a mirror: writes one hosts.toml for each registry, and puts back what was there.
#
#   nodes.sh apply      writes what differs
#   nodes.sh watch      does so again every INTERVAL seconds, until SIGTERM
#   nodes.sh restore    puts back the files of before, and takes away those that it has made
#   nodes.sh status     says of each registry whether its file is this script's
#
# MIRROR      where the mirror is: http://127.0.0.1:5000
# REGISTRIES  names with spaces between them; name=URL where the registry is not at https:// and its name
# ROOT        containerd's config_path: /etc/containerd/certs.d
# FOREIGN     what becomes of a hosts.toml that somebody else has written: replace (a copy is kept), or keep
# DIAL_TIMEOUT  how long containerd 2.1 and later try to reach a mirror that is down: 2s; none leaves the line out, and
#             then it is 30 s for each request. Earlier ones ignore it
# CA          a file with the authority of an https mirror, as containerd sees it
# INTERVAL    seconds: 60
# RESTORE_ON_STOP=true: watch ends with restore
#
# Nothing but <registry>/hosts.toml is touched, and each is replaced by a rename: containerd sees the old file or the new
# one. It reads them with each pull and needs no restart. The copies are in ROOT/.sluice-backup.
set -u

ROOT=${ROOT:-/etc/containerd/certs.d}
FOREIGN=${FOREIGN:-replace}
INTERVAL=${INTERVAL:-60}
DIAL_TIMEOUT=${DIAL_TIMEOUT:-2s}
BACKUP=$ROOT/.sluice-backup
MARK='# Written by sluice nodes; changes are lost.'
failed=0

say() { echo "$*"; }
fail() {
  echo "$*" >&2
  failed=1
}

# The names alone.
names() { for entry in $REGISTRIES; do echo "${entry%%=*}"; done; }

server_of() { # entry
  case $1 in
    *=*) echo "${1#*=}" ;;
    docker.io) echo https://registry-1.docker.io ;;
    *) echo "https://$1" ;;
  esac
}

text_for() { # entry
  echo "$MARK"
  echo "server = \"$(server_of "$1")\""
  echo
  echo "[host.\"$MIRROR\"]"
  echo '  capabilities = ["pull", "resolve"]'
  [ "$DIAL_TIMEOUT" = none ] || echo "  dial_timeout = \"$DIAL_TIMEOUT\""
  [ -z "${CA:-}" ] || echo "  ca = \"$CA\""
}

is_ours() { # file
  [ -f "$1" ] && [ ! -L "$1" ] && [ "$(head -n 1 "$1")" = "$MARK" ]
}

exists() { [ -e "$1" ] || [ -L "$1" ]; }

# What standard input says becomes FILE, at once or not at all.
replace() { # file
  if cat >"$1.sluice-new" && chmod 644 "$1.sluice-new" && sync "$1.sluice-new" && mv -f "$1.sluice-new" "$1"; then
    return 0
  fi
  rm -f "$1.sluice-new"
  return 1
}

# Keeps what stands in FILE, or that nothing does; once, until it is put back.
keep() { # name file
  mkdir -p "$BACKUP" || return 1
  if exists "$2"; then
    rm -f "$BACKUP/.new" && cp -pP "$2" "$BACKUP/.new" && mv -f "$BACKUP/.new" "$BACKUP/$1" && rm -f "$BACKUP/$1.none"
  else
    : >"$BACKUP/$1.none" && rm -f "$BACKUP/$1"
  fi
}

apply_one() { # entry
  name=${1%%=*}
  file=$ROOT/$name/hosts.toml
  if [ -d "$file" ]; then
    fail "$file is a folder"
    return
  fi
  if is_ours "$file"; then
    [ "$(text_for "$1")" != "$(cat "$file")" ] || return 0
  else
    if exists "$file" && [ "$FOREIGN" = keep ]; then
      say "$file is somebody else's: left alone"
      return 0
    fi
    # Before the first change, so that there is never a new file without the old one.
    keep "$name" "$file" || {
      fail "cannot keep $file in $BACKUP"
      return
    }
  fi
  if mkdir -p "$ROOT/$name" && text_for "$1" | replace "$file"; then say "$file: written"; else fail "cannot write $file"; fi
}

restore_one() { # name
  file=$ROOT/$1/hosts.toml
  if exists "$file" && ! is_ours "$file"; then
    say "$file was changed since: left alone; the one of before stays in $BACKUP/$1"
    return 0
  fi
  if exists "$BACKUP/$1"; then
    if mkdir -p "$ROOT/$1" && mv -f "$BACKUP/$1" "$file"; then say "$file: put back"; else fail "cannot put back $file"; fi
  elif [ -e "$BACKUP/$1.none" ]; then
    if rm -f "$file" "$BACKUP/$1.none"; then say "$file: removed"; else fail "cannot remove $file"; fi
    rmdir "$ROOT/$1" 2>/dev/null || :
  fi
}

# The registries that this script has changed.
changed() {
  [ -d "$BACKUP" ] || return 0
  for kept in "$BACKUP"/*; do
    exists "$kept" || continue
    kept=${kept##*/}
    echo "${kept%.none}"
  done
}

apply() {
  for entry in $REGISTRIES; do apply_one "$entry"; done
  for name in $(changed); do
    case " $(names | tr '\n' ' ') " in
      *" $name "*) ;;
      *) restore_one "$name" ;;
    esac
  done
}

restore() {
  for name in $(changed); do restore_one "$name"; done
  rmdir "$BACKUP" 2>/dev/null || :
}

status() {
  for name in $(names); do
    file=$ROOT/$name/hosts.toml
    if is_ours "$file"; then
      say "$name: uses $(sed -n 's/^\[host\."\(.*\)"\]$/\1/p' "$file")"
    elif exists "$file"; then
      fail "$name: $file is somebody else's"
    else
      fail "$name: no $file"
    fi
  done
}

watch() {
  trap 'stopped=1' TERM INT
  stopped=
  while [ -z "$stopped" ]; do
    apply
    # In the background, so that a signal ends the wait.
    sleep "$INTERVAL" &
    wait $! || :
  done
  kill $! 2>/dev/null
  [ "${RESTORE_ON_STOP:-}" != true ] || restore
  exit 0
}

case ${1:-} in
  apply | watch) : "${MIRROR:?where the mirror is}" "${REGISTRIES:?which registries}" ;;
  status) : "${REGISTRIES:?which registries}" ;;
  restore) ;;
  *)
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
"$1"
exit $failed
