#!/usr/bin/env bash
# Asks the real program what its own OpenAPI document allows, and what it forbids, with Schemathesis: no
# answer is a 5xx, and each has a status, a content type and a body that the document names.
#
#   tests/schemathesis.sh [CASES [OPTION…]]     so many requests, 3,000 by default; more options of `st run`
#
# The program sells the demo shop out of an SQLite file in a temporary folder, on a free port of
# 127.0.0.1, and ends with this script. Schemathesis is installed from PyPI into target/schemathesis/, at
# the version below. A failure prints the request, as a command for curl.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly VERSION=4.32.5
readonly START_SECONDS_MAX=30

cases=${1:-3000}
[ $# -eq 0 ] || shift
place=$PWD/target/schemathesis
if ! "$place/bin/st" --version 2>/dev/null | grep -qF "$VERSION"; then
    python3 -m venv "$place"
    "$place/bin/pip" install --quiet "schemathesis==$VERSION"
fi
cargo build --locked --bin loms
program=$PWD/target/debug/loms

folder=$(mktemp -d "${TMPDIR:-/tmp}/loms-schemathesis.XXXXXX")
server=
clean_up() {
    if [ -n "$server" ]; then
        kill -TERM "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

cd "$folder"
LOMS_LISTEN=127.0.0.1:0 LOMS_LOG=warn DATABASE_URL=sqlite://shop.db "$program" serve >output 2>&1 &
server=$!
address=
for _ in $(seq $((START_SECONDS_MAX * 10))); do
    address=$(sed -n 's/^listening on //p' output)
    [ -z "$address" ] || break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
if [ -z "$address" ]; then
    cat output >&2
    exit 70
fi

# A share for each of the document's operations.
operations=$("$place/bin/python" - "$address/openapi.json" <<'PYTHON'
import json, sys, urllib.request
paths = json.load(urllib.request.urlopen(sys.argv[1]))["paths"]
print(sum(method in ("get", "put", "post", "delete", "patch") for path in paths.values() for method in path))
PYTHON
)
# Left out: that what the document allows is taken. It cannot say all that is asked of a CSV file, and takes
# 1.0 for a whole number. One worker: with more, Python 3.11 fails now and then.
status=0
"$place/bin/st" run "$address/openapi.json" --phases coverage,fuzzing \
    --checks all --exclude-checks positive_data_acceptance --max-examples $((1 + cases / operations)) \
    --generation-database none --continue-on-failure --no-shrink --request-timeout 10 --workers 1 \
    --suppress-health-check filter_too_much --warnings off "$@" || status=$?
if ! kill -0 "$server" 2>/dev/null; then
    echo "the program has ended" >&2
    status=1
fi
if grep panicked output; then status=1; fi
"$program" verify --database-url sqlite://shop.db || status=1
exit "$status"
