#!/usr/bin/env bash
# Gives the tests other people's clients and servers in Python: tools/peers.sh [--optional]
#
# - What tools/peers.lock pins, with its hashes: `mcp` 1.x, which cannot share a .venv with 2.x, and the SDK of A2A.
# - They come from the package index, as wheels, into .cache/peers; the stamp is the hash of the lock.
# - Where they cannot be had, that is a loud box and no error with --optional, except where CI=true.
set -euo pipefail
. "$(dirname "$0")/progress.sh"
cd "$ROOT"

LOCK=tools/peers.lock
PEERS=$CACHE/peers
STAMP=$PEERS/.of
optional=${1:-}

install() {
  rm -rf "$PEERS" && .venv/bin/python -m venv --without-pip "$PEERS" &&
    PIP_CACHE_DIR=${PIP_CACHE_DIR:-$CACHE/pip} .venv/bin/python -m pip --python "$PEERS" install \
      --disable-pip-version-check --no-input --require-hashes --only-binary=:all: -r $LOCK
}

: >"$LOG"
if cmp -s $LOCK "$STAMP" && "$PEERS/bin/python" -c '' 2>/dev/null; then exit 0; fi
if ! step "installing what $LOCK pins (about 15 s, once) …" install; then
  [ "$optional" = --optional ] && [ "${CI:-}" != true ] || fail "other people's clients could not be installed"
  tail -n 5 "$LOG" | sed 's/^/  | /' >&2
  box "NOT INSTALLED: other people's clients, because the package index did not give them." \
    "The tests with mcp 1.x and with the SDK of A2A will NOT RUN."
  exit 0
fi
cp $LOCK "$STAMP"
