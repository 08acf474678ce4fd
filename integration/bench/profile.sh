#!/bin/sh
# `profile.sh` says where the time of `davit run` of the default container goes, as far as this machine lets
# one look: system calls (strace), page faults by kind of memory and samples by kernel entry or function
# (perf). `profile.sh order` writes contrib/link-order.ld. Everything happens in a mount namespace of its own.
set -eu
cd "$(dirname "$0")/../.."
here=$PWD/integration/bench
cache=$here/cache

if [ "${1:-}" != inside ]; then
    # The same program, with its symbols.
    CARGO_PROFILE_RELEASE_STRIP=none CARGO="${CARGO:-cargo}" \
        contrib/build.sh --quiet --target-dir target/profile
    exec unshare --mount --cgroup "$here/profile.sh" inside "${1:-profile}"
fi

davit=$(ls -t target/profile/*/release/davit | head -1)
mount --make-rprivate /
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p "$cache/scene"
mount -t tmpfs scene "$cache/scene"
for bundle in bundle bundle-paused; do
    mkdir -p "$cache/scene/$bundle/rootfs/bin" "$cache/scene/$bundle/rootfs/proc" \
        "$cache/scene/$bundle/rootfs/dev" "$cache/scene/$bundle/rootfs/sys"
    cp "$cache/program" "$cache/scene/$bundle/rootfs/bin/true"
    cp "$cache/program" "$cache/scene/$bundle/rootfs/bin/pause"
    "$davit" spec --bundle "$cache/scene/$bundle"
    program=/bin/true
    [ $bundle = bundle ] || program=/bin/pause
    sed -i -e 's/"terminal": true/"terminal": false/' -e "s|^      \"sh\"|      \"$program\"|" \
        -e '/"linux": {/a "cgroupsPath": "/davit-test-profile",' "$cache/scene/$bundle/config.json"
done
state=$cache/scene/state

if [ "$2" = order ]; then
    gcc -O2 -Wall -o "$cache/steps" "$here/steps.c"
    "$here/order.py" "$davit" "$cache/steps" "$cache/scene/bundle" "$state" >"$cache/link-order.ld"
    cp "$cache/link-order.ld" contrib/link-order.ld
    exit 0
fi

run="$davit --root $state run --bundle $cache/scene/bundle profiled"
echo "== system calls of davit run (strace)"
timeout 60 strace -f -c -U calls,errors,name $run 2>&1 | sed -n '3,$p'
command -v perf >/dev/null || exit 0
echo "== page faults of davit run (perf): text, read-only data, data and heap, stack"
perf record -q -e page-faults -c 1 -d -o "$cache/scene/faults" $run
perf script -i "$cache/scene/faults" -F comm,addr | awk '{
    kind = length($2) > 8 ? "stack and mappings" : "program"
    pages[$1 " " kind]++
} END { for (key in pages) print pages[key], key }' | sort -rn
echo "== CPU of 200 rounds by process and entry into the kernel, us a round (perf, cpu-clock)"
rounds=$cache/scene/rounds
echo "for i in \$(seq 200); do $run; done" >"$rounds"
perf record -q -e cpu-clock -F 10000 -g -o "$cache/scene/samples" sh "$rounds"
perf script -i "$cache/scene/samples" -F comm,ip,sym | awk '
    /^[^ \t]/ { if (comm ~ /davit/) samples[comm " " entry]++; comm = $1; entry = "user" ; next }
    $2 ~ /^(__x64_sys_|__do_sys_|exc_page_fault)/ { entry = $2 }
    END { for (key in samples) printf "%7.1f %s\n", samples[key] * 100 / 200, key }' | sort -rn | head -40
