#!/bin/sh
# Checks the dependencies against deny.toml. cargo-deny is built if it is missing: three minutes, once.
set -eu
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
version=0.20.2

if ! $cargo deny --version >/dev/null 2>&1 &&
    ! $cargo install --quiet --locked --debug cargo-deny --version "$version"; then
    echo "skip: cargo-deny: it cannot be built"
    [ -z "${DAVIT_SKIPS:-}" ]
    exit
fi
$cargo deny check bans licenses sources
# shellcheck disable=SC2086 # CARGO may be several words
if output=$(timeout 120 $cargo deny fetch db 2>&1); then
    $cargo deny check --disable-fetch advisories
else
    echo "$output" | tail -1
    echo "skip: advisories: the database cannot be reached, dependencies were not compared with it"
fi
