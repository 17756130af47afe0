#!/bin/sh
# The C core for other machines than this one: `tests/core/machines.sh [rounds]`.
#   1. every file compiled for it, Python's face too: no warning
#   2. fuzz.c run under emulation
# ARM of 64 and of 32 bits are what gateways have; s390x stands for all whose bytes lie the other way round.
# Needs cross compilers and qemu (Debian: qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross, and so on).
set -eu

cd "$(dirname "$0")/../.."
rounds=${1:-500}
python=${PYTHON:-python3}
core=devicemesh/_core
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
sources=$(ls $core/*.c $core/windows/*.c | grep -v -e /glue -e /module.c)
flags="-std=c11 -O3 -Wall -Wextra -Werror -ffp-contract=off -fno-math-errno -fno-trapping-math -I$core"

# Python's headers are of this machine: the sizes are those of the other one.
cat >"$work/sizes.h" <<'END'
#include <pyconfig.h>
#undef SIZEOF_LONG
#undef SIZEOF_SIZE_T
#undef SIZEOF_VOID_P
#define SIZEOF_LONG __SIZEOF_LONG__
#define SIZEOF_SIZE_T __SIZEOF_SIZE_T__
#define SIZEOF_VOID_P __SIZEOF_POINTER__
END

for machine in aarch64-linux-gnu:aarch64 arm-linux-gnueabihf:arm s390x-linux-gnu:s390x; do
    compiler=${machine%%:*}-gcc emulator=qemu-${machine##*:}-static
    if ! command -v "$compiler" >/dev/null || ! command -v "$emulator" >/dev/null; then
        echo "== ${machine##*:}: left out, $compiler or $emulator is not installed"
        continue
    fi
    echo "== ${machine##*:}: no warning; fuzz.c, $rounds rounds"
    # Word splitting is meant.
    # shellcheck disable=SC2086
    "$compiler" $flags -include "$work/sizes.h" -isystem "$headers" -DPy_LIMITED_API=0x030B0000 -fsyntax-only \
        $core/*.c $core/windows/*.c
    # shellcheck disable=SC2086
    "$compiler" $flags -static tests/core/fuzz.c $sources -o "$work/fuzz" -lm
    "$emulator" "$work/fuzz" "$rounds"
done
