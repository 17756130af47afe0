#!/bin/sh
# Home Assistant 2024.3.3, the last release for Python 3.11, in a folder of its own: an oracle for the messages.
set -e
cd "$(dirname "$0")"
python3.11 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check homeassistant==2024.3.3
