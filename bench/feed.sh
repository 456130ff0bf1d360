#!/usr/bin/env bash
# The feed in figures: in C beside memcpy (bench_feed), through ring and TCP (dpipe bench feed), compressed shards beside zstd (bench_shards), and in Python; JSON lines, then a table.
# usage: bench/feed.sh [ARGUMENT OF bench/bench_feed.py...]   PEERS=1: install PyTorch and other feeds in build/venv-feed (7 GB) first, race them, and
# compress GPT-2 ids of real pages; BUILD=build/release
set -euo pipefail
cd "$(dirname "$0")/.."
export BUILD=${BUILD:-build/release}
case $BUILD in /*) ;; *) BUILD=$PWD/$BUILD ;; esac
"$BUILD/bench/bench_feed"
"$BUILD/dpipe" bench feed -w build/none --seq-len 2048 --batch 8
if [ -n "${PEERS:-}" ]; then
  py=$(tools/venv.sh feed)
  if ids=$(bench/gpt2_ids.sh); then "$BUILD/bench/bench_shards" "$ids"; else "$BUILD/bench/bench_shards"; fi
  exec "$py" bench/bench_feed.py "$@"
fi
"$BUILD/bench/bench_shards"
py=python3; [ ! -x build/venv-feed/bin/python ] || py=build/venv-feed/bin/python
if $py -c 'import numpy' 2>/dev/null; then exec $py bench/bench_feed.py --no-peers "$@"; fi
echo "numpy isn't installed: nothing in Python (make bench-feed PEERS=1 installs it and the peers)" >&2
