#!/usr/bin/env bash
# Finds SoftHSM2, the PKCS#11 token in software that the tests of the HSM key store use, or installs it.
#
# - It is installed from the system's packages, and only where root asks on a machine with apt-get.
# - DEPUTY_SOFTHSM names another PKCS#11 module of SoftHSM to test with.
# - Where there is none, that is a loud box and no error, except where CI=true.
set -euo pipefail
. "$(dirname "$0")/progress.sh"

find_module() {
  local path
  for path in "${DEPUTY_SOFTHSM:-}" /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so \
    /usr/lib64/softhsm/libsofthsm2.so /usr/lib64/pkcs11/libsofthsm2.so \
    /usr/local/lib/softhsm/libsofthsm2.so /opt/homebrew/lib/softhsm/libsofthsm2.so; do
    if [ -n "$path" ] && [ -f "$path" ] && command -v softhsm2-util >/dev/null; then
      printf '%s\n' "$path"
      return 0
    fi
  done
  return 1
}

install_it() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y --no-install-recommends softhsm2 ||
    { apt-get update && apt-get install -y --no-install-recommends softhsm2; }
}

missing() {
  if [ "${CI:-}" = true ]; then fail "no SoftHSM2: $*"; fi
  box "NO SOFTHSM2: $*." "The tests of keys in an HSM will NOT RUN."
  exit 0
}

: >"$LOG"
if find_module; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  missing "install the package softhsm2 (only root can, where there is apt-get)"
fi
step "installing softhsm2 from the system's packages …" install_it || missing "the package could not be installed"
find_module || missing "the package does not have the module where it was expected"
