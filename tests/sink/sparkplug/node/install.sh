#!/bin/sh
# Installs the codec of test_peers.py beside this script; without it those tests are skipped.
set -eu
cd "$(dirname "$0")"
exec npm install --no-audit --no-fund --ignore-scripts --no-package-lock --loglevel=error
