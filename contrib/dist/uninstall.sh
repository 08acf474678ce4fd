#!/bin/sh
# Removes what install.sh of this tarball installed, with the same PREFIX and DESTDIR. The state of containers
# (/run/davit) stays, and so do changes of podman's configuration for davit.
set -eu
cd "$(dirname "$0")"
prefix=${PREFIX-/usr/local}
destdir=${DESTDIR-}
conf=etc/containers/containers.conf.d/50-davit.conf

find bin share -type f | while read -r file; do
    rm -f "$destdir$prefix/$file"
done

rm -f "$destdir/$conf.new"
if [ -e "$destdir/$conf" ]; then
    if sed "s|@BINDIR@|$prefix/bin|g" "$conf.in" | cmp -s - "$destdir/$conf"; then
        rm -f "$destdir/$conf"
    else
        echo "kept, since it was changed: $destdir/$conf"
    fi
fi
