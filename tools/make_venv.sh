#!/bin/sh
# make_venv.sh PYTHON ENV - a virtual environment with pip and our build requirements, from whatever Python
# there is. What is missing on the machine is said in one line, with the package that has it.
set -eu
python=$1
env=$2
here=$(dirname "$0")

die() { echo "leveret: $1" >&2; exit 1; }

command -v "$python" > /dev/null 2>&1 ||
  die "no $python here. Install it (apt-get install python3 python3-dev python3-venv) or name one: make PYTHON=python3.13"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11) or sys.implementation.name != "cpython")' ||
  die "$python is not CPython 3.11 or newer. Name one that is: make PYTHON=python3.13"
short=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ -n "${CC:-}" ]; then # it may have words behind it
  command -v "${CC%% *}" > /dev/null 2>&1 ||
    die "no C compiler ${CC%% *} here (CC=$CC). Install it, or name another: make CC=gcc"
else
  CC=$(command -v cc || command -v gcc || command -v clang) ||
    die "no C compiler here. Install one: apt-get install gcc libc6-dev"
fi
echo '#include <stdlib.h>' | $CC -E - > /dev/null 2>&1 ||
  die "the C compiler finds no <stdlib.h>. Install the C library's headers: apt-get install libc6-dev"
"$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
  die "Python.h of $python is missing. Install it: apt-get install python$short-dev (or python3-dev)"

# A Python without ensurepip (Debian's, when python3-venv is missing) borrows the pip of another one.
rm -rf "$env"
if "$python" -c 'import ensurepip' > /dev/null 2>&1; then
  "$python" -m venv "$env"
else
  "$python" -m venv --without-pip "$env"
  site=$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  for other in "$python" python3 /usr/bin/python3; do
    "$other" -m pip --version > /dev/null 2>&1 || continue
    "$other" -m pip install -q --disable-pip-version-check --target "$site" pip && break
  done
  "$env/bin/python" -m pip --version > /dev/null 2>&1 ||
    die "$python can make no environment with pip. Install: apt-get install python$short-venv (or python3-venv)"
fi
pip="$env/bin/python -m pip --disable-pip-version-check"
$pip install -q --upgrade pip
$pip install -q -r "$here/requirements-build.txt"
