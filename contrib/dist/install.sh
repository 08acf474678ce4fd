#!/bin/sh
# Installs davit below PREFIX (/usr/local), and podman's configuration for it below /etc. Files go below DESTDIR, if
# that is set. Each file is replaced as a whole, so that containers can start meanwhile.
set -eu
cd "$(dirname "$0")"
prefix=${PREFIX-/usr/local}
destdir=${DESTDIR-}
conf=etc/containers/containers.conf.d/50-davit.conf

find bin share -type f | while read -r file; do
    mode=0644
    [ "${file%%/*}" != bin ] || mode=0755
    install -d "$destdir$prefix/$(dirname "$file")"
    install -m "$mode" "$file" "$destdir$prefix/$file.new"
    mv -f "$destdir$prefix/$file.new" "$destdir$prefix/$file"
done

install -d "$destdir/$(dirname "$conf")"
sed "s|@BINDIR@|$prefix/bin|g" "$conf.in" >"$destdir/$conf.new"
if [ -e "$destdir/$conf" ] && ! cmp -s "$destdir/$conf.new" "$destdir/$conf"; then
    echo "kept, since it differs: $destdir/$conf (this version's: $destdir/$conf.new)"
else
    mv -f "$destdir/$conf.new" "$destdir/$conf"
fi
"$destdir$prefix/bin/davit" version | head -n 2
