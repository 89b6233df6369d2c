#!/usr/bin/env bash
# fuzz.sh BIN SECONDS - libFuzzer over the decoder, with ASan and UBSan. What it finds worth keeping goes into
# the build folder; the corpus in the tree is only read. An input that breaks something is named at the end.
set -euo pipefail
bin=$(realpath "$1")
seconds=$2
cd "$(dirname "$0")/.."
work=$(dirname "$bin")
command -v clang > /dev/null || { echo "fuzz.sh: needs clang with libFuzzer (apt-get install clang)" >&2; exit 1; }
sanitizers=address,undefined,fuzzer-no-link
runtime=$(clang -print-file-name=libclang_rt.asan-x86_64.so)

[ -f "$work/fuzz/build.ninja" ] ||
  CC=clang "$bin/meson" setup "$work/fuzz" -Dfuzz=true -Db_lundef=false -Dbuildtype=debugoptimized \
    -Dpython=enabled -Dtests=false -Dexamples=false -Dlibrary=false \
    -Dc_args="-fsanitize=$sanitizers -fno-sanitize-recover=undefined" \
    -Dc_link_args="-fsanitize=address,undefined -shared-libasan -Wl,-rpath,$(dirname "$runtime")" > /dev/null
"$bin/meson" compile -C "$work/fuzz" > "$work/fuzz/log.txt" || { cat "$work/fuzz/log.txt"; exit 1; }
rm -rf "$work/fuzz-site"
"$bin/meson" install -C "$work/fuzz" --no-rebuild --quiet --destdir "$work/fuzz-site"
package=$(dirname "$(find "$work/fuzz-site" -path '*/leveret/__init__.py' | head -1)")

mkdir -p "$work/fuzz-corpus"
export ASAN_OPTIONS=detect_leaks=0:exitcode=98 UBSAN_OPTIONS=print_stacktrace=1
LD_PRELOAD=$runtime PYTHONMALLOC=malloc \
  PYTHONPATH=$(dirname "$package") "$bin/python" fuzz/decode.py -max_total_time="$seconds" -max_len=512 \
  -rss_limit_mb=4096 -timeout=10 -artifact_prefix="$work/fuzz-" -print_final_stats=1 \
  "$work/fuzz-corpus" fuzz/corpus/decode
