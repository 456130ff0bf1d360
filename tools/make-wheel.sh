#!/bin/sh
# A wheel that carries libdpipe: build/wheel/dpipe-VERSION-py3-none-PLATFORM.whl, for any Python 3 on this platform (its glibc or a newer one).
# usage: tools/make-wheel.sh LIBDPIPE.so LIBDPIPE.a       PYTHON=python3 CC=gcc
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} src=build/wheel-src
"$python" -m pip --version >/dev/null 2>&1 || { echo "make wheel: $python has no pip: install python3-pip, or name another with PYTHON=" >&2; exit 69; }
rm -rf $src build/wheel
mkdir -p $src/dpipe build/wheel
cp python/pyproject.toml python/setup.py python/README.md LICENSE $src/
cp python/dpipe/*.py python/dpipe/py.typed $src/dpipe/
tools/wheel-libraries.sh "$1" "$2" $src/dpipe
"$python" -m pip --disable-pip-version-check wheel -q --no-deps -w build/wheel ./$src
ls build/wheel/*.whl
