#!/usr/bin/env bash
# The peers that can be installed, in a folder of their own: nothing of them is among what the project needs.
#   benchmarks/peers/install.sh DIR      then      python -m benchmarks.run --peers DIR
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?usage: install.sh DIR}
mkdir -p "$folder"
install() { # an environment of its own for a package of Python
  python3 -m venv "$folder/$1"
  "$folder/$1/bin/pip" install --quiet --disable-pip-version-check "${@:2}"
}
install localstack 'localstack-core[base-runtime]==2026.3.0'
install async-kinesis 'async-kinesis==3.0.1' 'aiobotocore==3.10.0'
cp "$here/package.json" "$here/sqs_consumer.mjs" "$here/serverless_offline.cjs" "$folder/"
# Their plugins ask for the whole framework, of which they use nothing here but its log.
npm install --loglevel=error --no-audit --no-fund --legacy-peer-deps --prefix "$folder"
