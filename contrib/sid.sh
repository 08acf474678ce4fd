#!/bin/sh
# Unpacks packages of Debian sid, with all that they depend on, below a directory; nothing is installed:
# sid.sh DIRECTORY PACKAGE... Fails, with a line that says so, where no mirror can be reached. `DEBIAN_MIRROR` names
# another one.
set -eu

into=$1
shift
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
keys=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$into"
apt=$(mktemp -d "$(realpath "$into")/apt.XXXXXX")
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt/lists/partial" "$apt/debs/partial"
# apt's own unprivileged user downloads.
chmod 755 "$apt"
echo "deb [signed-by=$keys] $mirror sid main" >"$apt/sources.list"
sid() {
    seconds=$1 command=$2
    shift 2
    timeout "$seconds" "$command" -q -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::Languages=none \
        -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$apt/lists" -o Dir::Cache::archives="$apt/debs" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "$@"
}
sid 180 apt-get update >/dev/null 2>&1 || {
    echo "sid.sh: no mirror of Debian can be reached" >&2
    exit 1
}
packages=$(sid 60 apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
    --no-enhances "$@" | grep '^[a-z0-9]')
cd "$apt/debs"
# shellcheck disable=SC2086 # a list of words
sid 600 apt-get download $packages >/dev/null 2>&1 || {
    echo "sid.sh: cannot be downloaded:" $packages >&2
    exit 1
}
for package in "$apt"/debs/*.deb; do dpkg-deb -x "$package" "$apt/root"; done
cp -a "$apt/root/." "$into"
