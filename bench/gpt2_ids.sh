#!/usr/bin/env bash
# GPT-2 ids of mixed web text, for benchmarks: pages of Debian's documentation packages in several languages, by dpipe's own road without filters and
# deduplication (which would leave prose, that compresses less: FILTERS=1), and GPT-2's vocabulary, which the npm package tiktoken carries. Prints the file
# of flat u16 ids, in build/bench/gpt2; nothing to do the second time.
# usage: bench/gpt2_ids.sh       needs npm, apt-get and the program (build/release/dpipe)
set -euo pipefail
cd "$(dirname "$0")/.."
dpipe=$PWD/build/release/dpipe out=$PWD/build/bench/gpt2
packages="libreoffice-help-en-us libreoffice-help-de libreoffice-help-ja libreoffice-help-ru rust-doc openjdk-17-doc postgresql-doc-15 python3.11-doc debian-handbook"
name=ids filters='clean:
  gopher_repetition: {enabled: false}
  gopher_quality: {enabled: false}
  c4: {enabled: false}
dedup: {exact: false, near: false}'
[ -z "${FILTERS:-}" ] || { name=ids-filtered; filters=; }
if [ ! -s "$out/$name.u16" ]; then
  for c in npm apt-get; do command -v $c >/dev/null || { echo "bench: GPT-2 ids need $c" >&2; exit 69; }; done
  mkdir -p "$out/debs"
  for p in $packages; do
    ls "$out/debs/${p}_"*.deb >/dev/null 2>&1 && continue
    (cd "$out/debs" && apt-get download -qq "$p" 2>/dev/null) || { apt-get update -qq >&2 && (cd "$out/debs" && apt-get download -qq "$p"); }
  done
  (cd "$out" && npm pack --silent tiktoken@1.0.22 >/dev/null && tar xzf tiktoken-1.0.22.tgz package/encoders/gpt2.json)
  # "! FIRST TOKEN TOKEN ..." a line, in base64, to "TOKEN RANK".
  python3 - "$out/package/encoders/gpt2.json" "$out/gpt2.tiktoken" <<'END'
import json, sys
rank = {}
for line in json.load(open(sys.argv[1]))['bpe_ranks'].splitlines():
    _, first, *tokens = line.split(' ')
    for i, t in enumerate(tokens): rank[t] = int(first) + i
with open(sys.argv[2], 'w') as f: f.writelines(f'{t} {r}\n' for t, r in sorted(rank.items(), key=lambda x: x[1]))
END
  rm -rf "$out/w"; $dpipe init -q "$out/w"
  printf '%s\ntokenizer: {file: %s}\n' "$filters" "$out/gpt2.tiktoken" >"$out/w/recipe.yaml"
  $dpipe ingest -q -w "$out/w" --register-only "$out/debs"
  $dpipe run -q -w "$out/w" --until shard 2>"$out/log" >&2 || { cat "$out/log" >&2; exit 1; }
  cat "$out"/w/store/shard-*.bin >"$out/ids.new"; mv "$out/ids.new" "$out/$name.u16"
fi
echo "$out/$name.u16"
