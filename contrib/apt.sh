#!/bin/sh
# Installs the packages in the arguments from Debian (as root), or brings them up to date. Everything that waits for the
# network has a deadline; the installation itself, which must not be interrupted, begins when all is downloaded.
set -eu

export DEBIAN_FRONTEND=noninteractive
options="-qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o DPkg::Lock::Timeout=120"
# shellcheck disable=SC2086 # options are words
{
    timeout 180 apt-get $options update
    timeout 900 apt-get $options install -y --no-install-recommends --download-only "$@"
    apt-get $options install -y --no-install-recommends --no-download "$@"
} >/dev/null
