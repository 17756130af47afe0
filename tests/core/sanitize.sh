#!/bin/sh
# The C core under AddressSanitizer and UndefinedBehaviorSanitizer: `tests/core/sanitize.sh [rounds]`.
#   1. with each compiler found, without Python: fuzz.c over random and damaged input
#   2. cppcheck and clang-tidy, where they are installed
#   3. the tests of the core against an extension built with gcc's sanitizers ($PYTHON, by default python3)
#   4. what is made and dropped 100,000 times, without sanitizers: memory must stay where it is
# Everything is built in a temporary folder; nothing in the tree changes.
set -eu

cd "$(dirname "$0")/../.."
rounds=${1:-2000}
python=${PYTHON:-python3}
core=devicemesh/_core
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sanitizers="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g"
flags="-std=c11 -O1 -Wall -Wextra -Werror -ffp-contract=off -I$core"
sources=$(ls $core/*.c $core/windows/*.c | grep -v -e /glue -e /module.c)

for compiler in gcc clang; do
    command -v $compiler >/dev/null || continue
    echo "== $compiler: fuzz.c, $rounds rounds"
    # Word splitting is meant.
    # shellcheck disable=SC2086
    $compiler $flags $sanitizers tests/core/fuzz.c $sources -o "$work/fuzz" -lm
    "$work/fuzz" "$rounds"
done

if command -v cppcheck >/dev/null; then
    echo "== cppcheck"
    cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,performance,portability \
        --suppress=missingIncludeSystem --inline-suppr -UPy_GIL_DISABLED -I$core $core
fi

if command -v clang-tidy >/dev/null; then
    echo "== clang-tidy"
    headers=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
    find $core -name '*.c' -print0 | xargs -0 -n 4 -P "$(nproc)" sh -c '
        clang-tidy --quiet "$@" -- -std=c11 -I'$core' -isystem "'"$headers"'" -DPy_LIMITED_API=0x030B0000 2>/dev/null
    ' clang-tidy
fi

echo "== the tests, with an extension under the sanitizers"
DEVICEMESH_CFLAGS="$sanitizers -O1" LDFLAGS="-fsanitize=address,undefined" CC=gcc \
    "$python" setup.py --quiet build --build-base "$work/build" >"$work/build.log" 2>&1 || {
    cat "$work/build.log"
    exit 1
}
# The interpreter itself is not built for leak detection; the sanitizer must be loaded before it.
ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$(gcc -print-file-name=libasan.so)" \
    PYTHONPATH="$(echo "$work"/build/lib*)" PYTHONDONTWRITEBYTECODE=1 \
    "$python" -P -m pytest -q -p no:cacheprovider tests/core tests/windows

echo "== 100,000 lives of an aggregator"
LEAK_ROUNDS=100000 "$python" -m pytest -q -p no:cacheprovider tests/windows/test_leaks.py
