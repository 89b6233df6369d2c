#!/usr/bin/env bash
# install_bench.sh VENV - what only the benchmarks use, each package by itself: what this Python cannot have is
# named, and the benchmarks do without it. Other queues and pools go into VENV/rivals: some bring cloudpickle, and where
# that is installed, more can be sent than the standard suites expect.
set -uo pipefail
venv=$1
tools=$(dirname "$0")

# install FILE [OPTION...] - each package of FILE.
install() {
  local file=$1 package
  shift
  while read -r package; do
    "$venv/bin/python" -m pip -q --disable-pip-version-check install --only-binary :all: "$@" "$package" 2> /dev/null ||
      echo "leveret: $package does not install on this Python: the benchmarks do without it"
  done < "$file"
}

install "$tools/requirements-bench.txt"
install "$tools/requirements-rivals.txt" --upgrade --target "$venv/rivals"
