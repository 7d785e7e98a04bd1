#!/usr/bin/env bash
# What the tests need beyond Python and Node: PostgreSQL's server. Installs only what is missing, and says so.
set -euo pipefail

if command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo 'the tests need PostgreSQL: install it so that `postgres` and `initdb` are on the PATH' >&2
    exit 1
fi
become=()
if [ "$(id -u)" != 0 ]; then
    become=(sudo -n)
fi
echo 'installing PostgreSQL, which the tests start on a free port of their own' >&2
"${become[@]}" apt-get -qq update
# No cluster of the system's: the tests make their own.
"${become[@]}" sh -c 'mkdir -p /etc/postgresql-common && [ -e /etc/postgresql-common/createcluster.conf ] ||
    echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf'
"${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends postgresql >/dev/null
