#!/usr/bin/env bash
# check_headers.sh - each public header compiles alone, as C11 and as C++, without a warning.
set -euo pipefail
cd "$(dirname "$0")/.."
strict=(-Wall -Wextra -Werror -pedantic -fsyntax-only -Iinclude)
for header in include/leveret/*.h; do
  "${CC:-cc}" -x c -std=c11 "${strict[@]}" "$header"
  "${CXX:-c++}" -x c++ -std=c++11 "${strict[@]}" "$header"
done
echo "$(find include/leveret -name '*.h' | wc -l) headers compile alone, as C and as C++"
