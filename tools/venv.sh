#!/usr/bin/env bash
# Install the Python packages that others use for dpipe's work in build/venv, and print its interpreter on standard output.
# tests/parity compares with them and bench/pipeline.sh races datatrove. Some 0.7 GB, less than a minute; nothing to do the second time.
# With `feed`: PyTorch, JAX and those that feed trainers, in build/venv-feed, for bench/bench_feed.py and the Python package's tests; 7 GB (PyPI's PyTorch
# brings CUDA along, whether there is a GPU or not), some three minutes.
# With `tokenizer`: the tokenizers that bench/bench_tokenizer.py races, in build/venv-tokenizer; 0.2 GB.
# With `models`: transformers, gguf and llama.cpp for tests/parity/models.py, in build/venv-models; 0.3 GB.
# With `trainer`: PyTorch alone, for bench/bench_trainer.py, in build/venv-trainer; 6 GB, for the same reason.
# usage: tools/venv.sh [feed|tokenizer|models|trainer]     PYTHON=python3 names the interpreter it is made with
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$PWD/build/venv${1:+-$1} list=tools/venv${1:+-$1}.txt python=${PYTHON:-python3}
[ -e "$list" ] || { echo "usage: tools/venv.sh [feed|tokenizer|models|trainer]" >&2; exit 64; }
say() { echo "venv: $*" >&2; }
if cmp -s $list "$venv/installed.txt"; then echo "$venv/bin/python"; exit 0; fi
# ensurepip is what Debian keeps in python3-venv; python-magic loads libmagic.
if ! command -v "$python" >/dev/null || ! "$python" -c 'import ensurepip' 2>/dev/null || ! ldconfig -p | grep -q libmagic.so.1; then
  command -v apt-get >/dev/null || { say "needs Python 3.10 or later with venv, and libmagic"; exit 69; }
  sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
  say "installing python3-venv libmagic1"
  { $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends python3 python3-venv libmagic1; } >&2
fi
mkdir -p build; "$python" -m venv --clear "$venv"
say "installing the packages of $list"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check install -q --no-deps --only-binary :all: "$@" >&2; }
# Every version is pinned, so nothing is left to resolve. Where one can't be had, the others are installed and its tests say that they skip.
pip -r $list || grep -v '^#' $list | while read -r p; do pip "$p" || say "can't install $p"; done
cp $list "$venv/installed.txt"
echo "$venv/bin/python"
