#!/bin/sh
# Counts instructions in the virtual machine and compares them with those that docs/performance.md keeps;
# with --keep it puts them there. The peers are the guest's.
set -eu
cd "$(dirname "$0")/../.."
kit=target/bench-exact
rm -rf "$kit"
mkdir -p "$kit/cache"
integration/bench/setup.sh programs
for program in gauge floor program; do cp "integration/bench/cache/$program" "$kit/cache"; done
cp target/release/bench "$kit"

# What else counts depend on: the compilers, and the C library in davit.
compiler=$(rustc --version | cut -d ' ' -f 1,2)
for built in target/*/release/davit; do
    cmp -s "$built" target/davit && compiler="$compiler for $(basename "${built%/release/davit}")"
done
cc=$(command -v musl-gcc || command -v gcc)
made="$compiler; $(basename "$cc") $("$cc" -dumpfullversion)"

# Addresses that are not random: else tables of pages and memory differ from call to call.
# No udev: it hears of every network namespace.
integration/vm/run --accel icount --minutes 14 --results "$kit/results" \
    --append "nokaslr norandmaps randomize_kstack_offset=off" --with "$kit/bench" --with "$kit/cache" \
    --command "udevadm settle; systemctl stop 'systemd-udevd*'
        BENCH_MADE='$made' BENCH_CACHE=cache ./bench --exact results/counts.md --rounds 3"
exec target/release/bench --compare docs/performance.md "$kit/results/counts.md" "$@"
