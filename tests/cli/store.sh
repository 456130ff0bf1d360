#!/usr/bin/env bash
# What others do to store/ and catalog.db: made again with the same bytes, or refused with the remedy; never swept away, never believed.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
mkdir "$work/c"; for i in $(seq 1 12); do words $i 160 >"$work/c/$i.txt"; done
workspace_of() {
  "$DPIPE" init -q "$1"; "$DPIPE" ingest -q -w "$1" --register-only "$work/c"
  printf 'clean: {c4: {enabled: false}}\ntrain-bpe: {vocab_size: 300}\nfeed: {val_fraction: 0.1}\ntrain: {layers: 1, dim: 16, heads: 2, seq_len: 16, batch: 2, steps: 3, warmup: 1, eval_every: 0}\n' >"$1/recipe.yaml"
}
workspace_of "$work/g"; expect 0 "$DPIPE" run -q -w "$work/g"; want=$(store "$work/g")
fresh() { rm -rf "$work/k"; cp -r "$work/g" "$work/k"; }
for kind in records docs drops sig keep clusters tokenizer shard tokens manifest model loss; do
  fresh; rm "$work/k/store/$kind"-*; expect 0 "$DPIPE" run -q -w "$work/k"; says "$work/err" "is gone: it is made again"; same "$(store "$work/k")" "$want" "store after losing $kind"
  case $kind in clusters) continue ;; esac # empty here
  fresh; f=$(ls "$work/k/store/$kind"-* | head -1); n=$(($(stat -c %s "$f") / 2))
  printf '\377\377' | dd of="$f" bs=1 seek=$n conv=notrunc status=none; expect 65 "$DPIPE" verify -w "$work/k"; says "$work/out" "$(basename "$f")"; says "$work/err" "makes them again"
  truncate -s $n "$f"; expect 0 "$DPIPE" run -q -w "$work/k"; same "$(store "$work/k")" "$want" "store after cutting $kind"
done
expect 0 "$DPIPE" verify -w "$work/g" --json; says "$work/out" '"artifacts_bad":0'
fresh; rm "$work/k"/catalog.db*; for c in status run ingest verify; do expect 78 "$DPIPE" $c -w "$work/k"; says "$work/err" "remove store/ to begin anew"; done; same "$(store "$work/k")" "$want" "store without its catalog"
rm -r "$work/k/store"; expect 0 "$DPIPE" ingest -q -w "$work/k" --register-only "$work/c"; expect 0 "$DPIPE" run -q -w "$work/k"; same "$(store "$work/k")" "$want" "store made anew"
fresh; rm -f "$work/k"/catalog.db-*; words 3 4000 >"$work/k/catalog.db"; for c in status run; do expect 65 "$DPIPE" $c -w "$work/k"; says "$work/err" "catalog.db"; says "$work/err" "remove it and store/"; done
finish
