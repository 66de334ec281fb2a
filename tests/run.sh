#!/bin/bash
# All tests, from a fresh checkout: installs what they need (as root or through sudo), builds, runs
# Rust's tests, then the Python areas. A step that fails is named and the others still run, except
# that without a program there is nothing to drive. The last line sums up the Python areas; the
# exit code is 0 only if everything passed.
set -uo pipefail
cd "$(dirname "$0")/.."

failed=()
step() {
    printf '\n==== %s\n' "$*"
    "$@" && return
    failed+=("$*")
    printf '==== FAILED: %s\n' "$*"
    return 1
}

step tests/peers/install.sh
if ! step cargo build --locked; then
    echo "0 passed, 1 failed"
    exit 1
fi
step cargo test --locked --quiet

printf '\n==== Python areas\n'
python3 tests/areas.py "$@" | tee target/areas.log | sed '$d'
python=${PIPESTATUS[0]}
for what in "${failed[@]}"; do
    echo "FAILED: $what"
done
tail -n 1 target/areas.log
[ "$python" = 0 ] && [ ${#failed[@]} = 0 ]
