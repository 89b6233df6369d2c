#!/usr/bin/env bash
# lint.sh BIN C_BUILD - form, types, spelling, headers, exported symbols, warnings of two compilers, clang-tidy.
# Every check runs, whatever the one before it said; what this machine lacks is named, and a failure in CI.
set -uo pipefail
bin=$(realpath "$1")
c_build=$(realpath "$2")
cd "$(dirname "$0")/.." || exit
work=$(dirname "$c_build")
failed=0

check() {
  local name=$1 begin=$SECONDS
  shift
  if "$@"; then echo "lint: $name: ok, $((SECONDS - begin)) s"
  else echo "lint: $name: FAILED"; failed=$((failed + 1)); fi
}

absent() {
  echo "lint: $1 is not here (apt-get install $2): NOT CHECKED"
  [ -z "${CI:-}" ] || failed=$((failed + 1))
}

# compiles COMPILER TYPE - library, tests, extension and examples, without a warning
compiles() {
  local build=$work/$1-$2
  [ -f "$build/build.ninja" ] ||
    CC=$1 "$bin/meson" setup "$build" --werror -Dbuildtype="$2" -Dbench=true -Dpython=enabled > /dev/null || return
  "$bin/meson" compile -C "$build" > "$build/log.txt" || { cat "$build/log.txt"; return 1; }
}

# One file at a time: over several, its analyzer takes each va_list of the later ones for uninitialized.
# Each file once, as it is compiled for the tests, with its crash points; and by itself, since clang-tidy
# over several files sees what is not there.
tidy() {
  mkdir -p "$work/tidy"
  "$bin/python" - "$work/clang-debug/compile_commands.json" "$work/tidy/compile_commands.json" << 'END' || return
import json, sys
commands = {c["file"]: c for c in json.load(open(sys.argv[1])) if "libleveret.so" not in c["output"]}
json.dump(list(commands.values()), open(sys.argv[2], "w"))
END
  git ls-files 'src/*.c' 'examples/c/*.c' |
    xargs -P "$(nproc)" -n 1 clang-tidy --quiet -p "$work/tidy" 2> /dev/null
}

check "form" tools/format.sh "$bin" --check
check "ruff" "$bin/ruff" check --quiet python tests bench fuzz tools examples/python examples/beyond
check "mypy" "$bin/mypy"
check "mypy of the tools" "$bin/mypy" --strict --no-warn-unused-ignores -p bench
check "stubtest" "$bin/python" -m mypy.stubtest leveret._core
check "codespell" "$bin/codespell" README.md docs include src python tests bench fuzz/*.[cp]* tools examples Makefile
check "build lists" "$bin/python" tools/check_lists.py
check "public functions" "$bin/python" tools/check_c_api.py "$c_build"/src/libleveret.so
if command -v c++ > /dev/null; then check "headers" tools/check_headers.sh; else absent c++ g++; fi
check "gcc, debug" compiles gcc debug
check "gcc, release" compiles gcc release
if command -v clang > /dev/null; then
  check "clang, debug" compiles clang debug
  check "clang, release" compiles clang release
else absent clang clang; fi
if command -v clang-tidy > /dev/null; then check "clang-tidy" tidy; else absent clang-tidy clang-tidy; fi
[ "$failed" = 0 ] && echo "lint: all ok" || echo "lint: $failed checks failed"
exit "$((failed > 0))"
