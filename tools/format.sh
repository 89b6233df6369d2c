#!/usr/bin/env bash
# format.sh BIN [--check] - put every C and Python file into form, or say which are not.
set -euo pipefail
bin=$1
mode=${2:-}
cd "$(dirname "$0")/.."
mapfile -t c_files < <(git ls-files --cached --others --exclude-standard '*.c' '*.h')
python_folders=(python tests bench fuzz tools examples/python examples/beyond)
if [ "$mode" = --check ]; then
  "$bin/clang-format" --dry-run --Werror "${c_files[@]}"
  if grep -nE '^.{101,}' "${c_files[@]}"; then exit 1; fi  # comments, which it leaves as they are
  "$bin/ruff" format --check "${python_folders[@]}"
else
  "$bin/clang-format" -i "${c_files[@]}"
  "$bin/ruff" check --fix --quiet "${python_folders[@]}" || true
  "$bin/ruff" format "${python_folders[@]}"
fi
