# Sourced by the scripts of tools/: says what runs, that it still runs, and why it failed.
#
# - One line a step on stderr; while a step takes long, a terminal shows the seconds, a log a line every 15 s.
# - A step's own output is kept in .cache/<script>.log and shown only when the step fails.
# - What is missing is said in a box that nobody can overlook.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=$ROOT/.cache
LOG=$CACHE/$(basename "$0" .sh).log
BEAT=
mkdir -p "$CACHE"
trap 'quiet' EXIT

say() { printf '%s\n' "$*" >&2; }

# Ends the heartbeat, if one runs.
quiet() {
  [ -z "$BEAT" ] || kill "$BEAT" 2>/dev/null || true
  BEAT=
}

heartbeat() {
  local seconds=0 pause=15
  [ -t 2 ] && pause=1
  while :; do
    # The sleep holds no pipe of ours, so that nobody waits for it when we are done.
    sleep $pause </dev/null >/dev/null 2>&1
    seconds=$((seconds + pause))
    if [ -t 2 ]; then printf '\r  %d s ' "$seconds" >&2; else say "  still at it, $seconds s"; fi
  done
}

# step <sentence> <command> [argument…]: the command's exit code.
step() {
  local sentence=$1 code=0
  shift
  say "$sentence"
  heartbeat &
  BEAT=$!
  "$@" >"$LOG" 2>&1 </dev/null || code=$?
  quiet
  [ ! -t 2 ] || printf '\r\033[K' >&2
  return $code
}

# Says what is wrong, with the end of the last step's output, and ends.
fail() {
  [ ! -s "$LOG" ] || tail -n 15 "$LOG" | sed 's/^/  | /' >&2
  say "error: $*"
  exit 1
}

# box <line>…: what is missing and what follows from it.
box() {
  local bar line
  bar=$(printf '!%.0s' $(seq 1 100))
  say "$bar"
  for line in "$@"; do say "!!! $line"; done
  say "$bar"
}
