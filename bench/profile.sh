#!/bin/sh
# `profile.sh` shows where the time of `davit run` of the default container goes, beside the floor
# (timeline.py). `profile.sh order` writes target/link-order.ld. Both run in a mount namespace of
# their own.
set -eu
cd "$(dirname "$0")/.."
here=$PWD/bench
cache=$here/cache

if [ "${1:-}" != inside ]; then
    exec unshare --mount --cgroup "$here/profile.sh" inside "${1:-profile}"
fi

davit=$PWD/target/davit
mount --make-rprivate /
mount -t cgroup2 none /sys/fs/cgroup
mount -t bpf -o mode=700 none /sys/fs/bpf
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
    target=${CARGO_TARGET_DIR:-target}
    "$here/order.py" "$davit" "$target/davit.map" "$cache/steps" "$cache/scene/bundle" "$state" \
        >"$target/link-order.ld.new"
    mv "$target/link-order.ld.new" "$target/link-order.ld"
    exit 0
fi

echo "== davit run of the default container, and the floor"
mkdir "$cache/scene/tracing"
mount -t tracefs tracing "$cache/scene/tracing"
exec "$here/timeline.py" 200 "$cache/scene/tracing" \
    "davit=$davit --root $state run --bundle $cache/scene/bundle profiled" \
    "floor=$cache/floor /sys/fs/cgroup/davit-test-floor $cache/scene/bundle/rootfs /bin/true"
