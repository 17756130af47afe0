#!/bin/sh
# The core's tests on CPython without the GIL: `tests/core/free_threaded.sh`.
# The interpreter is $FREE_THREADED, or python3.14t or python3.13t if there is one; else it is built once, in about
# five minutes, from Debian's source package of Python 3.13, into .free-threaded/ (git-ignored; kept for the next time).
set -eu

cd "$(dirname "$0")/../.."
home=$PWD/.free-threaded
package=python3.13
suite=trixie

# Debian's sources of another release, with an apt of our own: that of the machine is not touched.
fetch_source() {
    site=$(apt-get indextargets --format '$(SITE)' "Created-By: Packages" | grep -v security | head -n 1)
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    mkdir -p "$home/apt/lists/partial" "$home/apt/cache/archives/partial" "$home/source"
    echo "deb-src [signed-by=$keyring] $site $suite main" >"$home/apt/sources.list"
    set -- -qq -o "Dir::Etc::sourcelist=$home/apt/sources.list" -o Dir::Etc::sourceparts=- \
        -o "Dir::State::lists=$home/apt/lists" -o "Dir::Cache=$home/apt/cache" -o Dir::State::status=/dev/null \
        -o APT::Sandbox::User=root
    apt-get "$@" update
    (cd "$home/source" && apt-get "$@" source --download-only "$package")
}

build_interpreter() {
    echo "== building CPython without the GIL (once)"
    rm -rf "$home/source"
    fetch_source
    tar -C "$home/source" -xf "$home/source/$package"_*.orig.tar.xz
    (
        cd "$home/source"/Python-*
        ./configure -q --disable-gil --prefix="$home/cpython" >"$home/build.log" 2>&1
        make -s -j"$(nproc)" >>"$home/build.log" 2>&1
        make -s install >>"$home/build.log" 2>&1
    ) || {
        tail -n 20 "$home/build.log"
        exit 1
    }
    rm -rf "$home/source" "$home/apt"
}

python=${FREE_THREADED:-$(command -v python3.14t || command -v python3.13t || true)}
if [ -z "$python" ]; then
    python=$home/cpython/bin/python3.13t
    [ -x "$python" ] || build_interpreter
fi

echo "== $("$python" -VV)"
"$python" -c 'import sysconfig; assert sysconfig.get_config_var("Py_GIL_DISABLED"), "it has a GIL"'
if [ ! -e "$home/venv/.done" ]; then
    rm -rf "$home/venv"
    "$python" -m venv "$home/venv"
    # What is compiled and has no sources that build here without more tools must have a wheel.
    "$home/venv/bin/pip" install --quiet --disable-pip-version-check --prefer-binary \
        --only-binary pydantic-core,hypothesis setuptools wheel pytest pytest-timeout hypothesis pydantic \
        pydantic-settings pluggy PyYAML
    touch "$home/venv/.done"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$home/venv/bin/python" setup.py --quiet build --build-base "$work/build" >"$work/build.log" 2>&1 || {
    cat "$work/build.log"
    exit 1
}
export PYTHONPATH="$(echo "$work"/build/lib*)" PYTHONDONTWRITEBYTECODE=1
"$home/venv/bin/python" -P -c 'import sys, devicemesh.windows; assert not sys._is_gil_enabled(), "the core brought it back"'
"$home/venv/bin/python" -P -m pytest -q -p no:cacheprovider tests/core tests/windows
