#!/bin/sh
# Finds a Rust that builds davit, as new as rust-version in Cargo.toml says, and the standard library for musl. What is
# missing is installed: with `rustup target add` where there is rustup, otherwise (as root) from Debian's packages.
#
#   rust.sh compiler        fails if there is no Rust, or only an older one
#   rust.sh musl [--again]  prints the form of musl's standard library: `ready` or `source` (of Debian, which is built
#                           along); fails if there is none. After a failure it uses the network only with --again.
#                           ARCH is another architecture than this host's, which only rustup has.
#   rust.sh checkers        what `make lint` runs, as far as it can be installed
set -eu
cd "$(dirname "$0")/.."

exec 3>&2
cargo=${CARGO:-cargo}
arch=${ARCH:-$(uname -m)}
musl=$arch-unknown-linux-musl
needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
failed=${CARGO_TARGET_DIR:-target}/no-$musl

# The version of cargo, or nothing.
version() {
    $cargo --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p'
}

new_enough() {
    [ -n "$(version)" ] && printf '%s\n' "$needed" "$(version)" | sort -V -c 2>/dev/null
}

has() {
    command -v "$1" >/dev/null
}

# Debian's Rust conflicts with rustup, and would not be found behind another one in PATH.
takes_packages() {
    has apt-get && ! has rustup && [ "$(command -v "${cargo%% *}" || echo /usr/bin/cargo)" = /usr/bin/cargo ]
}

# The suffix of packages: every stable release gets the newest Rust for its browsers, as the packages "web".
suffix() {
    new_enough && ! dpkg-query -W cargo-web >/dev/null 2>&1 || echo -web
}

install_packages() {
    web=$(suffix)
    echo "installing rustc$web, cargo$web, rust$web-src and musl-tools from Debian" >&3
    contrib/apt.sh "rustc$web" "cargo$web" "rust$web-src" musl-tools gcc libc6-dev
}

compiler() {
    if new_enough; then return; fi
    if takes_packages && [ "$(id -u)" -eq 0 ]; then
        install_packages && new_enough && return
    fi
    if has rustup; then
        how="rustup update"
    elif takes_packages; then
        how="sudo make toolchain (Debian's packages, from main and security), or https://rustup.rs"
    else
        how="https://rustup.rs"
    fi
    echo "davit needs Rust $needed or newer; $cargo is $(version | grep . || echo missing). To get it: $how" >&2
    exit 1
}

# The form of musl's standard library.
form() {
    if [ -d "$sysroot/lib/rustlib/$musl/lib" ]; then
        echo ready
    elif [ "$arch" = "$(uname -m)" ] && [ -d "$sysroot/lib/rustlib/src/rust/library/std" ] && has musl-gcc; then
        echo source
    else
        return 1
    fi
}

get_musl() {
    if has rustup; then
        timeout 300 rustup target add "$musl" >/dev/null
    else
        [ "$arch" = "$(uname -m)" ] && takes_packages && [ "$(id -u)" -eq 0 ] && install_packages
    fi
}

musl() {
    sysroot=$(rustc --print sysroot)
    if form; then return; fi
    if [ ! -e "$failed" ] || [ "${1:-}" = --again ]; then
        mkdir -p "$(dirname "$failed")"
        get_musl 2>"$failed" || :
        if form; then
            rm -f "$failed"
            return
        fi
    fi
    if has rustup || [ "$arch" != "$(uname -m)" ]; then
        how="rustup target add $musl"
    elif takes_packages; then
        how="sudo make musl"
    else
        how="a Rust with the target $musl"
    fi
    missing="no musl: this is the slower binary, with glibc. To get the fast one"
    [ "$arch" = "$(uname -m)" ] || missing="no standard library for $arch. To get it"
    echo "$missing: $how$([ ! -s "$failed" ] || echo " (why: $failed)")" >&2
    exit 1
}

checkers() {
    compiler
    web=$(suffix)
    missing=
    $cargo fmt --version >/dev/null 2>&1 || missing="rustfmt$web"
    $cargo clippy --version >/dev/null 2>&1 || missing="$missing rust$web-clippy"
    has python3 || missing="$missing python3"
    # shellcheck disable=SC2086 # a list of words
    [ -z "$missing" ] || ! takes_packages || [ "$(id -u)" -ne 0 ] || contrib/apt.sh $missing || :
}

"$@"
