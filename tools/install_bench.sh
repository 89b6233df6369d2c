#!/usr/bin/env bash
# install_bench.sh BIN - what only the benchmarks use, each package by itself: what this Python cannot have is
# named, and the benchmarks do without it.
set -uo pipefail
bin=$1
while read -r package; do
  "$bin/python" -m pip -q --disable-pip-version-check install --only-binary :all: "$package" 2> /dev/null ||
    echo "leveret: $package does not install on this Python: the benchmarks do without it"
done < "$(dirname "$0")/requirements-bench.txt"
