#!/bin/sh
# Builds the static davit and puts it at target/davit, or where OUTPUT says. With musl, with which a process begins three
# times as fast as with glibc, wherever contrib/rust.sh can get musl's standard library. ARCH=aarch64 builds for another
# architecture, with rustup and its linker, at target/davit-aarch64. TARGET chooses another target.
set -eu
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
built=${CARGO_TARGET_DIR:-target}
host=$(uname -m)
arch=${ARCH:-$host}
musl=$arch-unknown-linux-musl
# For the linker, through the C compiler.
linker=-Wl,
[ "$arch" = "$host" ] || linker=
output=${OUTPUT:-target/davit$([ "$arch" = "$host" ] || echo "-$arch")}
# The names in linker scripts are those of v0, which tell instances of a generic function apart.
flags="-C target-feature=+crt-static -C relocation-model=static -C symbol-mangling-version=v0"
# The same source makes the same bytes, wherever it lies: the program has none of these paths, and those in the flags are
# relative. Crates of `cargo vendor` have the names of those of the registry.
flags="$flags --remap-path-prefix=$PWD=/davit --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
flags="$flags --remap-path-prefix=$PWD/vendor=/cargo/registry/src/index.crates.io-1949cf8c6b5b557f"
flags="$flags --remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust=/rust"
# Functions that the common commands execute are together (`make link-order`): fewer pages are touched.
mkdir -p "$built"
built=$(realpath --relative-to=. "$built")
cat contrib/link.ld contrib/link-order.ld >"$built/link.ld"
flags="$flags -C link-arg=${linker}--script=$built/link.ld -C link-arg=${linker}--no-eh-frame-hdr"
# The position of each function, for the trace.
flags="$flags -C link-arg=${linker}-Map=$built/davit.map"

if [ -n "${TARGET:-}" ]; then
    target=$TARGET
elif [ "$arch" != "$host" ]; then
    contrib/rust.sh musl >/dev/null
    target=$musl
    # The linker script names the section of the build id.
    flags="$flags -C linker=rust-lld -C link-arg=--build-id"
elif form=$(contrib/rust.sh musl); then
    target=$musl
    if [ "$form" = source ]; then
        # The unwinder is not used (panic = abort), but asked for.
        mkdir -p "$built/musl"
        echo '/* empty */' >"$built/musl/libunwind.a"
        flags="$flags -C linker=musl-gcc -C link-self-contained=no -L native=$built/musl"
        # Building the standard library is not stable, though it is Debian's own compiler and source.
        export RUSTC_BOOTSTRAP=1
        set -- --config 'unstable.build-std=["std","panic_abort"]' --config 'unstable.build-std-features=[]' "$@"
    fi
else
    target=$(uname -m)-unknown-linux-gnu
fi

# shellcheck disable=SC2086 # CARGO may be several words
RUSTFLAGS="$flags" $cargo build --locked --release -p davit --target "$target" "$@"
# A copy, and not a link: what a linker has written lies in the page cache in small pieces, and a process
# takes up to a third longer to start from it than from a file that was written in one go.
mkdir -p "$(dirname "$output")"
cp -f "$built/$target/release/davit" "$output.new"
mv -f "$output.new" "$output"
