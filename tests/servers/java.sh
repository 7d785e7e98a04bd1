#!/bin/sh
# Java for the real Kinesis Client Library, from Debian, on a machine that has none. Says what it does.
set -eu
if command -v java >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo 'the tests need Java: install one so that `java` is on the PATH' >&2
    exit 1
fi
become=$([ "$(id -u)" -eq 0 ] || echo sudo -n)
echo 'installing Java, which the tests of the Kinesis Client Library run on' >&2
$become apt-get -qq -o DPkg::Lock::Timeout=120 update
$become env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o DPkg::Lock::Timeout=120 install --yes --no-install-recommends default-jre-headless >/dev/null
