#!/bin/sh
# Runs the engine tests with one runtime and prints a table: engines.sh [davit|runc|crun]
set -eu

runtime=${1:-davit}
log=$(mktemp "${TMPDIR:-/tmp}/davit-engines.XXXXXX")
trap 'rm -f "$log"' EXIT INT TERM

printf '%-22s %8s %8s %8s   (%s)\n' "tests" passed failed skipped "$runtime"
failures=0
for test in podman_run podman_life podman_exec podman_options podman_namespaces podman_notify podman_rootless \
    podman_docker_cli rootless_engines buildah containerd containerd_cri docker; do
    RUNTIME="$runtime" ${CARGO:-cargo} test --locked -q -p integration --test "$test" -- --nocapture \
        >"$log" 2>&1 || failures=$((failures + 1))
    passed=$(sed -n 's/^test result:.* \([0-9]*\) passed.*/\1/p' "$log")
    failed=$(sed -n 's/^test result:.* \([0-9]*\) failed.*/\1/p' "$log")
    skipped=$(grep -c '^skip: ' "$log" || true)
    printf '%-22s %8s %8s %8s\n' "$test" "$((${passed:-0} - skipped))" "${failed:-?}" "$skipped"
done
[ "$failures" -eq 0 ]
