#!/usr/bin/env bash
# sanitize.sh BIN [asan|tsan|python|valgrind ...] - the C tests under ASan+UBSan and under TSan, and the Python
# tests with the core and the extension under ASan+UBSan. Without words: these three. valgrind: C tests under
# memcheck, which sees what was never written.
set -euo pipefail
bin=$(realpath "$1")
shift
cd "$(dirname "$0")/.."
work=$(dirname "$bin")
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=0:exitcode=98
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:exitcode=98
export TSAN_OPTIONS=exitcode=98:die_after_fork=0

# build NAME COMPILER SANITIZERS MESON_ARGS... - into $work/NAME
build() {
  local name=$1 compiler=$2 sanitizers=$3
  shift 3
  [ -f "$work/$name/build.ninja" ] ||
    CC=$compiler "$bin/meson" setup "$work/$name" -Db_sanitize="$sanitizers" -Db_lundef=false \
      -Dbuildtype=debugoptimized "$@" > /dev/null
  "$bin/meson" compile -C "$work/$name" > "$work/$name/log.txt" || { cat "$work/$name/log.txt"; return 1; }
}

c_tests() {
  "$bin/meson" test -C "$work/$1" --no-rebuild --print-errorlogs --num-processes 2 --timeout-multiplier 5
}

asan() {
  echo "sanitize: C tests under ASan and UBSan"
  build asan gcc address,undefined -Dpython=disabled
  c_tests asan
}

# ThreadSanitizer's shadow needs the classic layout of addresses: setarch -R. Its own clone() takes a child that
# has our memory for a fork, and dies of it.
tsan() {
  echo "sanitize: C tests under TSan"
  build tsan clang thread -Dpython=disabled -Dc_args=-Dclone=__clone
  setarch -R "$bin/meson" test -C "$work/tsan" --no-rebuild --print-errorlogs --num-processes 2 --timeout-multiplier 5
}

# The extension under ASan goes into a folder that PYTHONPATH puts before the installed one.
python() {
  echo "sanitize: Python tests under ASan and UBSan"
  build asan-python gcc address,undefined -Dpython=enabled -Dtests=false -Dexamples=false -Dlibrary=false
  rm -rf "$work/asan-site"
  "$bin/meson" install -C "$work/asan-python" --no-rebuild --quiet --destdir "$work/asan-site"
  local package
  package=$(dirname "$(find "$work/asan-site" -path '*/leveret/__init__.py' | head -1)")
  LD_PRELOAD=$(gcc -print-file-name=libasan.so) PYTHONPATH=$(dirname "$package") PYTHONMALLOC=malloc \
    "$bin/python" -m pytest -p no:cacheprovider -k "not c_program" ${SANITIZE_PYTEST:-}
}

# Not there: block, which asks msync() about addresses that are not mapped; barrier, lock and semaphore, which
# have less time than valgrind takes; pipe_poll, which needs pidfds, of which valgrind 3.19 knows nothing; process,
# for which it has too few addresses; tests of deaths (each is a process of valgrind's). No search for leaks: it
# would read all of an arena's reserved addresses.
valgrind() {
  echo "sanitize: C tests under valgrind"
  build valgrind gcc none -Dpython=disabled -Dexamples=false -Dc_args=-DTEST_VALGRIND=1
  "$bin/meson" test -C "$work/valgrind" --no-rebuild --print-errorlogs --num-processes 2 \
    --wrapper "valgrind -q --leak-check=no --trace-children=yes --error-exitcode=97" \
    arena board channel condition event fork grave guard handles heap mutex object pipe queue repair session \
    slots value wait
}

[ $# -gt 0 ] || set -- asan tsan python
for job in "$@"; do "$job"; done
