#!/bin/sh
# Prepares bench/cache: the gauge, the floor, the containers' program and, if a Debian mirror can be
# reached, Debian sid's crun and runc with their own libraries. crun's ELF interpreter is changed to
# one in /mnt, where the bench mounts the libraries in its own mount namespace: crun re-executes
# itself, and has to execute crun and not the loader.
# `setup.sh programs` leaves crun, runc and CRIU out.
set -eu
cd "$(dirname "$0")"
mkdir -p cache

cc="gcc -static"
command -v musl-gcc >/dev/null &&
    cc="musl-gcc -static -idirafter /usr/include -idirafter /usr/include/$(uname -m)-linux-gnu"
for name in gauge floor program; do
    [ "cache/$name" -nt "$name.c" ] || $cc -O2 -Wall -s -o "cache/$name" "$name.c"
done

[ "${1:-}" != programs ] || exit 0
../contrib/criu.sh >/dev/null || echo "bench: nothing about checkpoints" >&2
[ ! -e cache/runtimes/lib/libcriu.so.2 ] || exit 0
mkdir -p cache/runtimes
sid=$PWD/cache/sid
../contrib/sid.sh "$sid" crun runc libcriu2 || {
    rm -rf "$sid"
    echo "bench: using the installed crun and runc" >&2
    exit 0
}
mkdir -p cache/runtimes/lib
cp -a "$sid/usr/lib/$(uname -m)-linux-gnu/"*.so* cache/runtimes/lib/
# iptables-restore, which CRIU calls, is the host's and wants its own.
rm -f cache/runtimes/lib/libxtables.so*
sed 's|/lib64/ld-linux-x86-64.so.2|/mnt/ld-linux-x86-64.so.2\x00\x00|' "$sid/usr/bin/crun" >cache/runtimes/crun
cp "$sid/usr/sbin/runc" cache/runtimes/runc
chmod +x cache/runtimes/*
rm -rf "$sid"
