#!/usr/bin/env bash
# Counts instructions per message with valgrind and compares them with bounds. The counts have no noise.
# The bounds leave a margin of one eighth for other compilers. Lower them when the counts fall.
set -euo pipefail
cd "$(dirname "$0")/.."

bounds='send 234
send_recorded 234
send_many 158
send_with 320
send_external 376
recv 215
recv_recorded 215
recv_safe 282
recv_batch 54
lockstep 2900'

if ! command -v valgrind >/dev/null; then
    echo 'valgrind is not installed: apt-get install valgrind'
    exit 3
fi

# Freezes the clock that decides how often a handle consumes coop budget.
export RUSTFLAGS="${RUSTFLAGS:-} --cfg turbostream_instructions"
# Cargo prints the path of the executable on its last line.
bench=$(cargo bench --bench instructions --no-run 2>&1 | tee >(cat >&2) | sed -n 's/.*(\(.*instructions-[0-9a-f]*\)).*/\1/p' | tail -1)
messages=$((40 * 500))
failed=0
printf '%-20s %12s %8s\n' workload instructions bound
while read -r workload bound; do
    out=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null --collect-atstart=no \
        --toggle-collect='instructions::counted::*' "$bench" "$workload" 2>&1)
    total=$(sed -n 's/.*Collected : \([0-9]*\).*/\1/p' <<<"$out")
    each=$((total / messages))
    verdict=''
    if [ "$each" -eq 0 ] || [ "$each" -gt "$bound" ]; then
        verdict='  TOO MANY'
        failed=1
    fi
    printf '%-20s %12s %8s%s\n' "$workload" "$each" "$bound" "$verdict"
done <<<"$bounds"
exit "$failed"
