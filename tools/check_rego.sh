#!/usr/bin/env bash
# Asks the real OPA whether the shipped Rego compiles strictly, is formatted, and passes its own tests.
set -euo pipefail
. "$(dirname "$0")/progress.sh"
cd "$ROOT"

OPA=$CACHE/bin/opa
REGO=authz/policy/rego
if [ ! -x "$OPA" ]; then
  # tools/build_opa.sh has said why, and has failed already where CI=true.
  box "NOT RUN: opa check, opa test, because there is no OPA."
  exit 0
fi
"$OPA" check --strict "$REGO"
"$OPA" fmt --list --fail "$REGO"
# `opa test` takes an empty run for a success.
"$OPA" test "$REGO" --format json >"$LOG" || fail "opa test failed: .cache/bin/opa test $REGO"
grep -q '"name"' "$LOG" || fail "no test found in $REGO"
