#!/bin/sh
# Java for the real Kinesis Client Library, on a Debian machine without one.
set -eu
command -v java >/dev/null && exit 0
sudo=$([ "$(id -u)" -eq 0 ] || echo sudo)
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -qq -y --no-install-recommends default-jre-headless
