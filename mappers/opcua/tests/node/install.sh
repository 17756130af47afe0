#!/bin/sh
# Installs the server of test_node.py beside this script; without it that test is skipped.
set -eu
cd "$(dirname "$0")"
exec npm install --no-audit --no-fund --ignore-scripts --no-package-lock --loglevel=error
