#!/usr/bin/env bash
# Compiles proto/ into a scratch folder and compares: the checked-in modules are what the .proto files say.
#
# - The working tree is left as it is, and it need not be a git clone.
set -euo pipefail
. "$(dirname "$0")/progress.sh"
cd "$ROOT"

fresh=$CACHE/protos
rm -rf "$fresh"
mkdir -p "$fresh"
.venv/bin/python tools/protos.py "$fresh"
# Both directions: what is missing, and what no .proto file accounts for.
generated() { (cd "$1" && find . -path ./.venv -prune -o -path ./.cache -prune -o -name '*_pb2.py*' -type f -print | sort); }
if ! diff <(generated "$fresh") <(generated .) >&2; then
  fail "generated files are missing or left over: run 'make protos'"
fi
for file in $(generated "$fresh"); do
  diff -q "$fresh/$file" "$file" >/dev/null || fail "${file#./} is not what proto/ compiles to: run 'make protos'"
done
rm -rf "$fresh"
