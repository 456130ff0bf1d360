#!/usr/bin/env bash
# The tokenizer in figures, beside its peers: installs them in build/venv-tokenizer, gets vocabularies and texts, and races all in turns (bench/bench_tokenizer.py).
# usage: bench/tokenizer.sh [ARGUMENT OF bench/bench_tokenizer.py...]     BUILD=build/release
#   CORPUS=FILE  100 MB and more of mixed web text; else text of Debian's documentation packages, downloaded (some 150 MB) and extracted by dpipe
#   CODE=FILE    C source; else the C and C++ headers of this machine and this repository's C
#   LIMIT=BYTES  of each text; RUNS=3, of which medians are taken. In full about 20 minutes, on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
export BUILD=${BUILD:-build/release}
case $BUILD in /*) ;; *) BUILD=$PWD/$BUILD ;; esac
out=$PWD/build/bench/tokenizer; mkdir -p "$out/ranks"
py=$(tools/venv.sh tokenizer)
# Vocabularies: the npm package tiktoken carries them.
if [ ! -s "$out/ranks/o200k_base.json" ]; then
  command -v npm >/dev/null || { echo "bench: the vocabularies of gpt2, cl100k_base and o200k_base need npm" >&2; exit 69; }
  (cd "$out" && npm pack --silent tiktoken@1.0.22 >/dev/null && tar xzf tiktoken-1.0.22.tgz package/encoders)
  "$py" bench/tokenizer_ranks.py "$out/package/encoders" "$out/ranks"
fi
web=${CORPUS:-$out/web.txt} code=${CODE:-$out/code.txt}
# Text: what gpt2_ids.sh downloads, without filters.
if [ ! -s "$web" ]; then
  bench/gpt2_ids.sh >/dev/null
  for f in build/bench/gpt2/w/store/docs-*.jsonl.zst; do zstd -dcq "$f"; done |
    "$py" -c 'import json, sys
n = 0
for l in sys.stdin.buffer: # to its end, or a pipe breaks
    if n > 120e6: continue
    t = json.loads(l)["text"].encode() + b"\n\n"
    n += len(t)
    sys.stdout.buffer.write(t)' >"$web.new"; mv "$web.new" "$web"
fi
if [ ! -s "$code" ]; then
  { git ls-files '*.c' '*.h'; find /usr/include /usr/lib/gcc -type f \( -name '*.h' -o -name '*.hpp' -o -name '*.c' \); } | LC_ALL=C sort | tr '\n' '\0' | xargs -0 cat | head -c 120000000 | iconv -c -f utf-8 -t utf-8 >"$code.new" || true
  mv "$code.new" "$code"
fi
exec "$py" bench/bench_tokenizer.py --web "$web" --code "$code" --ranks "$out/ranks" --out "$out" ${LIMIT:+--limit "$LIMIT"} ${RUNS:+--runs "$RUNS"} "$@"
