#!/bin/sh
# Counts instructions in the virtual machine and compares them with those recorded in docs/performance.md;
# with --keep it records them there. crun and runc are those of the virtual machine.
set -eu
cd "$(dirname "$0")/.."
kit=target/bench-exact
rm -rf "$kit"
mkdir -p "$kit/cache"
bench/setup.sh programs
for program in gauge floor program; do cp "bench/cache/$program" "$kit/cache"; done
cp target/release/bench "$kit"

# Counts depend on the compilers too, and on the C library in davit.
compiler=$(rustc --version | cut -d ' ' -f 1,2)
for built in target/*/release/davit; do
    cmp -s "$built" target/davit && compiler="$compiler for $(basename "${built%/release/davit}")"
done
cc=$(command -v musl-gcc || command -v gcc)
made="$compiler; $(basename "$cc") $("$cc" -dumpfullversion)"

# Without random addresses, since page tables and memory would differ from call to call.
# Without udev, which is notified of every network namespace.
integration/vm/run --accel icount --minutes 14 --results "$kit/results" \
    --append "nokaslr norandmaps randomize_kstack_offset=off" --with "$kit/bench" --with "$kit/cache" \
    --command "udevadm settle; systemctl stop 'systemd-udevd*'
        BENCH_MADE='$made' BENCH_CACHE=cache ./bench --exact results/counts.md --rounds 3"
exec target/release/bench --compare docs/performance.md "$kit/results/counts.md" "$@"
