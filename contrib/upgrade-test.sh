#!/bin/sh
# Runs every command between the last release and this davit, in both directions (as root). The last release is the
# newest tag v*, or the commit that brought the first format of the state (docs/state.md); it is built in target/upgrade.
# DAVIT_OLD names another davit.
set -eu
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
cache=$PWD/target/upgrade

# The commit of the last release.
release() {
    git describe --tags --abbrev=0 --match 'v[0-9]*' HEAD^ 2>/dev/null ||
        git log --diff-filter=A --format=%H -- docs/state.md | tail -1
}

# Builds that commit, unless it is built.
build() {
    commit=$(release)
    commit=$(git rev-parse --verify --quiet "$commit^{commit}") || {
        echo "upgrade-test: this clone has no release (git fetch --tags --unshallow)" >&2
        exit 1
    }
    DAVIT_OLD=$cache/davit-$commit
    [ -x "$DAVIT_OLD" ] && return
    rm -rf "$cache/source"
    mkdir -p "$cache/source"
    git archive "$commit" | tar -x -C "$cache/source"
    # shellcheck disable=SC2086 # CARGO may be several words
    $cargo build --locked --quiet -p davit --manifest-path "$cache/source/Cargo.toml" --target-dir "$cache/target"
    cp "$cache/target/debug/davit" "$DAVIT_OLD"
}

[ -n "${DAVIT_OLD:-}" ] || build
echo "upgrade-test: $("$DAVIT_OLD" --version | head -1) in $DAVIT_OLD"
# shellcheck disable=SC2086
DAVIT_OLD=$DAVIT_OLD DAVIT=$PWD/target/davit RUNTIME=davit $cargo test --locked -p integration --test upgrade
