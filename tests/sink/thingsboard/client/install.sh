#!/bin/sh
# ThingsBoard's own client for gateways, in a folder of its own (it has another paho): what our platform is held against.
set -e
cd "$(dirname "$0")"
python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check tb-mqtt-client==1.13.14 mmh3==5.3.1
