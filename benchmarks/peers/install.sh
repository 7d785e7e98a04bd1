#!/usr/bin/env bash
# The peers that can be installed, in a folder of their own: nothing of them is among what the project needs.
#   benchmarks/peers/install.sh DIR      then      python -m benchmarks.run --peers DIR
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?usage: install.sh DIR}
mkdir -p "$folder"
python3 -m venv "$folder/localstack"
"$folder/localstack/bin/pip" install --quiet --disable-pip-version-check 'localstack-core[base-runtime]==2026.3.0'
cp "$here/package.json" "$here/sqs_consumer.mjs" "$folder/"
npm install --silent --prefix "$folder"
