#!/usr/bin/env bash
# Runs the examples under valgrind. Fails on an invalid access and on lost memory.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v valgrind >/dev/null; then
    echo 'valgrind is not installed: apt-get install valgrind'
    exit 3
fi

CARGO_PROFILE_RELEASE_DEBUG=1 cargo build --release --examples
built=${CARGO_TARGET_DIR:-target}/release/examples
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

check() {
    local example=$1 report=$scratch/report code=0
    valgrind --leak-check=full --errors-for-leak-kinds=definite,indirect --error-exitcode=99 --log-file="$report" \
        "$built/$@" >"$scratch/output" 2>&1 || code=$?
    # bounded_memory fails if its process grows. That limit does not apply under valgrind.
    if [ "$code" -ne 0 ] && ! { [ "$code" -eq 1 ] && grep -q '^Error: the process grew' "$scratch/output"; }; then
        tail -n 20 "$scratch/output"
        cat "$report"
        exit 1
    fi
    printf '%-16s %s; %s\n' "$example" "$(sed -n 's/.*ERROR SUMMARY: \([0-9]* errors\).*/\1/p' "$report")" \
        "$(sed -n 's/.*\(definitely lost: [0-9,]* bytes\).*/\1/p; s/.*All heap blocks were freed.*/everything freed/p' "$report")"
}

check quickstart
check select_cancel
check stream_pipeline
check fan_out
check bounded_memory
check log_pipeline --lines 2000 --rounds 1 --verify --output "$scratch/lines"
