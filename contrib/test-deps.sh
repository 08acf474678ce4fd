#!/bin/sh
# Installs the packages that the tests need, or those in the arguments, from Debian. As an unprivileged
# user it only lists the missing ones, and tests that need them skip. `--list` only prints the names.
set -eu

packages="busybox-static buildah catatonit conmon containerd containernetworking-plugins crun docker-compose
docker.io fish gcc groff-base iproute2 iptables libc6-dev libseccomp-dev netavark podman python3-grpcio runc strace uidmap zsh"
[ "${1:-}" != --list ] || { echo "$packages"; exit 0; }
[ $# -eq 0 ] || packages=$*

missing=""
for package in $packages; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "skip: not root, so these packages stay missing:$missing"
    exit 0
fi
# shellcheck disable=SC2086 # a list of words
"$(dirname "$0")/apt.sh" $missing
