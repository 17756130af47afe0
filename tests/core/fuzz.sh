#!/bin/sh
# Coverage-guided fuzzing of the C core: `tests/core/fuzz.sh [runs]`, so many inputs to each of fuzz_ingest.c,
# fuzz_decode.c and fuzz_encode.c (or of $TARGETS), under AddressSanitizer, UndefinedBehaviorSanitizer and leak detection.
# Needs clang with its runtime (Debian: clang libclang-rt-14-dev). An input that fails is left in .fuzz/.
set -eu

cd "$(dirname "$0")/../.."
runs=${1:-100000}
core=devicemesh/_core
home=$PWD/.fuzz
command -v clang >/dev/null || {
    echo "clang is not installed. Try: apt install clang libclang-rt-14-dev"
    exit 1
}
mkdir -p "$home"
sources=$(ls $core/*.c $core/windows/*.c | grep -v -e /glue -e /module.c)
# Freed memory is reused sooner, and where it was taken is not noted: many more inputs in the same time. A report lacks
# these places: run the input that failed alone, without these options.
export ASAN_OPTIONS="quarantine_size_mb=1:malloc_context_size=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
for target in ${TARGETS:-ingest decode encode}; do
    # What is compared with what, for the fuzzer to try: an ingest input is a program that has nothing to guess. Its batches
    # are small, so that chunks must be, too, and series are soon many.
    options=
    [ "$target" != ingest ] || options="-fno-sanitize-coverage=trace-cmp -DDEVICEMESH_CHUNK=8 -DDEVICEMESH_NEAR=4"
    # Word splitting is meant.
    # shellcheck disable=SC2086
    clang -std=c11 -O1 -g -ffp-contract=off -I$core -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all $options \
        tests/core/fuzz_$target.c $sources -o "$home/$target" -lm
    mkdir -p "$home/corpus-$target"
    [ ! -d tests/core/fuzz_cases/$target ] || cp tests/core/fuzz_cases/$target/* "$home/corpus-$target" # what failed once
    echo "== $target: $runs inputs"
    "$home/$target" -runs="$runs" -max_len=400 -entropic=0 -timeout=10 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$home/$target-" "$home/corpus-$target" >"$home/$target.log" 2>&1 || {
        tail -n 60 "$home/$target.log"
        exit 1
    }
    grep -e number_of_executed_units -e average_exec_per_sec -e peak_rss_mb "$home/$target.log"
done
