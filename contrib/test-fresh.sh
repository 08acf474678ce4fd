#!/bin/bash
# Follows the README on a fresh Debian, as root and as an unprivileged user: `make test-fresh FRESH="bookworm trixie"`. The
# last commit is built and tested in a root that mmdebstrap(1) makes, with mount and pid namespaces of its own: whatever
# is mounted and runs there is gone with them. The roots stay packed in target/fresh for a week, with the logs.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=$PWD/target/fresh
packages=make,git,ca-certificates,passwd,mount

# root SUITE: packs a root, if there is no recent one.
root() {
    find "$cache" -name "$1.tar" -mtime +7 -delete
    [ -e "$cache/$1.tar" ] && return
    mmdebstrap --quiet --variant=apt --include="$packages" "$1" "$cache/new-$1.tar"
    mv "$cache/new-$1.tar" "$cache/$1.tar"
}

# enter ROOT COMMAND: in namespaces of its own, with ROOT as its root. It is no chroot, in which the kernel allows no
# user namespaces. Of the host it has the network, its certificates, and /sys without cgroups.
enter() {
    # shellcheck disable=SC2016 # for the inner shell
    unshare --mount --pid --fork --kill-child --uts --ipc --propagation private bash -euc '
        mount --bind "$1" "$1"
        cd "$1"
        mount -t proc proc proc
        mount -t sysfs -o ro sysfs sys
        mount -t tmpfs -o mode=755 tmpfs dev
        for node in null zero full random urandom tty; do
            touch dev/$node
            mount --bind /dev/$node dev/$node
        done
        mkdir dev/pts dev/shm
        mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
        mount -t tmpfs -o mode=1777 tmpfs dev/shm
        ln -s pts/ptmx dev/ptmx
        ln -s /proc/self/fd dev/fd
        hostname fresh
        pivot_root . mnt
        umount -l /mnt
        exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
            timeout --kill-after=10 900 bash -euo pipefail -c "$2"
    ' enter "$@" </dev/null
}

# step NAME COMMAND: in the root, its time and outcome as a row of the table.
step() {
    local begin=$SECONDS outcome=ok
    echo "== $suite: $1" >>"$log"
    enter "$made" "$2" >>"$log" 2>&1 &
    inside=$!
    if ! wait "$inside"; then
        outcome="FAILED: $log"
        failed=1
    fi
    inside=
    printf '%-10s %-44s %4d s  %s\n' "$suite" "$1" $((SECONDS - begin)) "$outcome"
}

# as_user COMMAND: prints the command that runs COMMAND as an unprivileged user, without a session.
as_user() {
    printf 'cd /home/user; exec setpriv --reuid=user --regid=user --init-groups --reset-env bash -euo pipefail -c %q' "$1"
}

# fresh SUITE: all steps, in a subshell.
fresh() {
    suite=$1 log=$cache/$1.log failed=0 made="" inside=""
    trap 'clean' EXIT
    trap 'exit 1' TERM
    : >"$log"
    root "$suite" >>"$log" 2>&1
    made=$(mktemp -d "$cache/$suite.XXXXXX")
    tar -C "$made" --exclude='./dev/*' -xf "$cache/$suite.tar"
    git bundle create --quiet "$made/davit.git" HEAD
    cp /etc/resolv.conf "$made/etc/resolv.conf"
    cp /etc/ssl/certs/ca-certificates.crt "$made/etc/ssl/certs/ca-certificates.crt"

    step "user without Rust: make demo says what to do" "useradd -m user; $(as_user '
        git clone -q -c advice.detachedHead=false /davit.git davit; cd davit
        if make demo 2>said; then exit 1; fi
        cat said; grep "sudo make toolchain" said')"
    step "make demo, installs Rust" 'git clone -q -c advice.detachedHead=false /davit.git /srv/davit; cd /srv/davit
        make demo 2>&1 | tee said; ! grep "no musl" said'
    step "make install" 'cd /srv/davit; make install
        PATH=/usr/sbin:/usr/bin; make install DESTDIR=/tmp/packed PREFIX=/usr CARGO=missing
        cmp target/davit /tmp/packed/usr/bin/davit; cmp target/davit /usr/local/bin/davit; /usr/local/bin/davit --version'
    step "make unit" 'cd /srv/davit; make unit'
    # What is compiled already is not compiled again.
    step "user: make demo" "rm /srv/davit/target/davit; chown -R user /srv/davit; $(as_user '
        cd /srv/davit; make demo 2>&1 | tee said; ! grep "no musl" said')"
    exit "$failed"
}

# Ends what runs in the root, and removes it.
# shellcheck disable=SC2317 # a trap calls it
clean() {
    rm -f "$cache/new-$suite.tar"
    [ -z "$inside" ] || kill -KILL "$inside" 2>/dev/null || true
    for _ in 1 2 3 4 5; do
        [ -z "$made" ] || rm -rf --one-file-system "$made" 2>/dev/null || { sleep 1 && continue; }
        break
    done
}

if [ "$(id -u)" -ne 0 ]; then
    echo "skip: test-fresh: not root"
    exit 0
fi
contrib/test-deps.sh mmdebstrap
mkdir -p "$cache"
suites=()
trap 'kill "${suites[@]}"; wait' INT TERM
for suite in "$@"; do
    fresh "$suite" &
    suites+=("$!")
done
failed=0
for suite in "${suites[@]}"; do
    wait "$suite" || failed=1
done
exit "$failed"
