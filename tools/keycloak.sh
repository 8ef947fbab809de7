#!/usr/bin/env bash
# Unpacks Keycloak, the OpenID Provider that the tests sign people in at, and prints where it is.
#
# - The version and the SHA-256 of its distribution are pinned here; it comes from Maven Central, by Maven where
#   there is one (which knows the mirror that its settings name), else by curl. MAVEN_REPOSITORY names another
#   repository for curl.
# - It needs a Java of 17 or later, from the system: none is installed.
# - Where there is no Java, that is a loud box and no error, except where CI=true.
# - Everything written stays below .cache.
set -euo pipefail
. "$(dirname "$0")/progress.sh"

VERSION=26.7.3
SHA256=77657f30b7e90d70f727712ce1c967f430fd6a5e9f458d32d8c6df0635345f47
GROUP=org.keycloak
NAME=keycloak-quarkus-dist
HOME_OF_IT=$CACHE/keycloak-$VERSION
SCRATCH=$CACHE/keycloak.new

missing() {
  if [ "${CI:-}" = true ]; then fail "no Keycloak: $*"; fi
  [ ! -s "$LOG" ] || tail -n 5 "$LOG" | sed 's/^/  | /' >&2
  box "NO KEYCLOAK: $*." "The tests with Keycloak, a real OpenID Provider, will NOT RUN."
  exit 0
}

# "1.8.0_402" is 8, "17.0.15" is 17, "21" is 21.
has_java() {
  local version
  version=$(java -version 2>&1 | sed -n 's/.* version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p' | head -n 1)
  [ -n "$version" ] && [ "$version" -ge 17 ]
}

by_maven() {
  mvn --batch-mode --no-transfer-progress "-Dmaven.repo.local=$SCRATCH/maven" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:get \
    "-Dartifact=$GROUP:$NAME:$VERSION:tar.gz" -Dtransitive=false &&
    mv "$SCRATCH/maven/${GROUP//.//}/$NAME/$VERSION/$NAME-$VERSION.tar.gz" "$SCRATCH/dist.tar.gz"
}

by_curl() {
  curl --fail --silent --show-error --location --proto '=https' --max-time 600 -o "$SCRATCH/dist.tar.gz" \
    "${MAVEN_REPOSITORY:-https://repo1.maven.org/maven2}/${GROUP//.//}/$NAME/$VERSION/$NAME-$VERSION.tar.gz"
}

download() {
  if command -v mvn >/dev/null && by_maven; then return 0; fi
  by_curl
}

digest() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1; }
is_right() { [ "$(digest <"$SCRATCH/dist.tar.gz")" = "$SHA256" ]; }

unpack() {
  tar -xzf "$SCRATCH/dist.tar.gz" -C "$SCRATCH" && rm -rf "$HOME_OF_IT" &&
    mv "$SCRATCH/keycloak-$VERSION" "$HOME_OF_IT"
}

: >"$LOG"
has_java || missing "no Java of 17 or later is installed"
if [ ! -x "$HOME_OF_IT/bin/kc.sh" ]; then
  rm -rf "$SCRATCH"
  mkdir -p "$SCRATCH"
  step "fetching Keycloak $VERSION from Maven Central (180 MB, once) …" download ||
    missing "it could not be fetched from Maven Central"
  is_right || fail "what was fetched as Keycloak $VERSION does not have the SHA-256 that is pinned in $0"
  step "unpacking Keycloak …" unpack || fail "Keycloak could not be unpacked"
  rm -rf "$SCRATCH"
fi
printf '%s\n' "$HOME_OF_IT"
