#!/bin/sh
# A wheel that carries libdpipe.so: build/wheel/dpipe-VERSION-py3-none-PLATFORM.whl, for any Python 3 on this platform. The libraries that libdpipe
# itself is linked with are the system's. usage: tools/make-wheel.sh LIBRARY       PYTHON=python3
set -eu
cd "$(dirname "$0")/.."
library=$1 python=${PYTHON:-python3} src=build/wheel-src
"$python" -m pip --version >/dev/null 2>&1 || { echo "make wheel: $python has no pip: install python3-pip, or name another with PYTHON=" >&2; exit 69; }
rm -rf $src build/wheel
mkdir -p $src/dpipe build/wheel
cp python/pyproject.toml python/setup.py python/README.md LICENSE $src/
cp python/dpipe/*.py python/dpipe/py.typed $src/dpipe/
strip --strip-unneeded -o $src/dpipe/libdpipe.so.0 "$library"
"$python" -m pip --disable-pip-version-check wheel -q --no-deps -w build/wheel ./$src
ls build/wheel/*.whl
