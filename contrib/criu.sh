#!/bin/sh
# Prints the path of a CRIU of version 4 or newer that works on this kernel: the installed one, or that of Debian sid,
# which is unpacked with its own libraries in bench/cache/criu and not installed (Debian 12's is too old for newer
# kernels). Fails, with one line that says why, where there is none and none can be had.
set -eu
cd "$(dirname "$0")/.."
cache=$PWD/bench/cache

works() {
    "$1" --version 2>/dev/null | grep -q '^Version: \([4-9]\|[1-9][0-9]\)' && "$1" check >/dev/null 2>&1
}

if [ "$(id -u)" -ne 0 ]; then
    echo "skip: criu needs root" >&2
    exit 1
fi
for criu in "$cache/criu/bin/criu" "$(command -v criu || true)"; do
    if works "$criu"; then
        echo "$criu"
        exit 0
    fi
done

new=$cache/criu.new
rm -rf "$new" "$cache/criu"
contrib/sid.sh "$new/sid" criu || exit 1
mkdir "$new/bin" "$new/lib"
cp -a "$new/sid/usr/lib/$(uname -m)-linux-gnu/"*.so* "$new/lib"
cp "$new/sid/usr/sbin/criu" "$new/criu"
rm -rf "$new/sid"
# Its libraries, or those of its caller, must not become those of the programs that it calls (ip, iptables-restore,
# tar): no LD_LIBRARY_PATH.
cat >"$new/bin/criu" <<END
#!/bin/sh
unset LD_LIBRARY_PATH
exec $cache/criu/lib/ld-linux-*.so* --library-path $cache/criu/lib --argv0 criu $cache/criu/criu "\$@"
END
chmod +x "$new/bin/criu"
mv "$new" "$cache/criu"
if ! works "$cache/criu/bin/criu"; then
    echo "skip: criu does not work on this kernel: $("$cache/criu/bin/criu" check 2>&1 | head -n 1)" >&2
    exit 1
fi
echo "$cache/criu/bin/criu"
