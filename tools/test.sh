#!/usr/bin/env bash
# Runs the tests and measures what they cover of the core: tools/test.sh [pytest argument…]
#
# - With arguments it is one run of pytest.
# - Without, there are two at a time. What starts real parts waits for them most of the time, so it runs beside
#   the rest; what it prints comes after that, whole.
# - It fails if either does, or if too little is covered.
set -euo pipefail
# Job control: without it bash lets a run in the background, and all that it starts, ignore Ctrl-C.
set -m
cd "$(dirname "$0")/.."
. tools/progress.sh

REAL=(tests/docs tests/e2e)
OUTPUT=$CACHE/test-real.txt
rm -f .coverage .coverage.rest .coverage.real

if [ $# -gt 0 ]; then
  .venv/bin/python -m coverage run -m pytest "$@"
  .venv/bin/python -m coverage report
  exit
fi

real_run=
end() {
  [ -z "$real_run" ] || kill -- "-$real_run" 2>/dev/null || true
  quiet
}
trap end EXIT

say "${REAL[*]}: with real parts, beside the rest; their output follows it"
COVERAGE_FILE=.coverage.real .venv/bin/python -m coverage run -m pytest "${REAL[@]}" >"$OUTPUT" 2>&1 &
real_run=$!
failed=0
COVERAGE_FILE=.coverage.rest .venv/bin/python -m coverage run -m pytest "${REAL[@]/#/--ignore=}" || failed=1
real=0
wait "$real_run" || real=$?
real_run=
cat "$OUTPUT"
[ "$real" = 0 ] || failed=1
.venv/bin/python -m coverage combine -q .coverage.rest .coverage.real
.venv/bin/python -m coverage report || failed=1
exit "$failed"
