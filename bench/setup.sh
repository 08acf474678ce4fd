#!/bin/sh
# Prepares bench/cache: the gauge, the floor, the containers' program and, if a Debian mirror can be
# reached, Debian sid's crun and runc with their own libraries. crun's ELF interpreter is changed to
# one in /mnt, where the bench mounts the libraries in its own mount namespace: crun re-executes
# itself, and has to execute crun and not the loader.
# `setup.sh programs` leaves crun and runc out.
set -eu
cd "$(dirname "$0")"
mkdir -p cache

cc="gcc -static"
command -v musl-gcc >/dev/null &&
    cc="musl-gcc -static -idirafter /usr/include -idirafter /usr/include/$(uname -m)-linux-gnu"
for name in gauge floor program; do
    [ "cache/$name" -nt "$name.c" ] || $cc -O2 -Wall -s -o "cache/$name" "$name.c"
done

[ "${1:-}" != programs ] && [ ! -e cache/runtimes/crun ] || exit 0
mirror=${BENCH_MIRROR:-http://deb.debian.org/debian}
keys=/usr/share/keyrings/debian-archive-keyring.gpg
apt=$PWD/cache/apt
mkdir -p "$apt/lists/partial" "$apt/debs/partial" cache/runtimes
echo "deb [signed-by=$keys] $mirror sid main" >"$apt/sources.list"
sid() {
    command=$1
    shift
    "$command" -q -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$apt/lists" -o Dir::Cache::archives="$apt/debs" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "$@"
}
if ! sid apt-get update >/dev/null 2>&1; then
    echo "bench: no mirror can be reached: using the installed crun and runc" >&2
    exit 0
fi
(cd "$apt/debs" && sid apt-get download crun runc libblake3-0 libc6 libcap2 libjson-c5 libseccomp2 \
    libsystemd0 libtbb12 libstdc++6 libgcc-s1 >/dev/null 2>&1)
for package in "$apt"/debs/*.deb; do dpkg-deb -x "$package" "$apt/root"; done
mkdir -p cache/runtimes/lib
cp -a "$apt/root/usr/lib/$(uname -m)-linux-gnu/"*.so* cache/runtimes/lib/
sed 's|/lib64/ld-linux-x86-64.so.2|/mnt/ld-linux-x86-64.so.2\x00\x00|' "$apt/root/usr/bin/crun" >cache/runtimes/crun
cp "$apt/root/usr/sbin/runc" cache/runtimes/runc
chmod +x cache/runtimes/*
rm -rf "$apt"
