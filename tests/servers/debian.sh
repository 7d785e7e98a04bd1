#!/usr/bin/env bash
# What the tests need beyond Python and Node.js, as Debian's packages. Installs only what is missing, and says so.
set -euo pipefail

# command:package, where another than Debian's may have it as well
needs=(
    c++:g++ cmake:cmake make:make xz:xz-utils # Lambda's client for Node.js is compiled where it is installed
    prometheus:prometheus promtool:prometheus
    postgres:postgresql
    chromium:chromium # the status page is tested in a browser
    valgrind:valgrind # counts the instructions of the hot path
    java:default-jre-headless # the real Kinesis Client Library reads what we write back
)
missing=()
for need in "${needs[@]}"; do
    command=${need%%:*}
    command -v "$command" >/dev/null || compgen -G "/usr/lib/*/*/bin/$command" >/dev/null || missing+=("${need##*:}")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if ! command -v apt-get >/dev/null; then
    echo "the tests need what Debian calls ${missing[*]}: install it so that its commands are on the PATH" >&2
    exit 1
fi
become=()
[ "$(id -u)" = 0 ] || become=(sudo -n)
echo "installing for the tests: ${missing[*]}" >&2
# No cluster of the system's: the tests make their own.
"${become[@]}" sh -c 'mkdir -p /etc/postgresql-common && [ -e /etc/postgresql-common/createcluster.conf ] ||
    echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf'
"${become[@]}" apt-get -qq update
"${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "${missing[@]}" >/dev/null
