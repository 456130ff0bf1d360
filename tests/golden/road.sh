#!/usr/bin/env bash
# The whole road on a small corpus: frozen digests; the same bytes for any threads and CPU level; nothing to do twice; exact redo.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
corpus "$work/c"
workspace "$work/a" "$work/c"
expect 0 "$DPIPE" run -q -w "$work/a" --threads 2
digest=$(store "$work/a")
(cd "$work/a/store" && sha256sum -- * | sed 's/^\(................\)[0-9a-f]*/\1/') >"$work/list"
if [ "${DP_ACCEPT:-}" ]; then cp "$work/list" tests/golden/road.sha256; fi
if diff tests/golden/road.sha256 "$work/list" >"$work/diff"; then ok; else bad "store/ differs from tests/golden/road.sha256 (DP_ACCEPT=1 $0 accepts it)"; head -20 "$work/diff"; fi
expect 0 "$DPIPE" run -q -w "$work/a" --json; says "$work/out" '"made":0'
same "$(store "$work/a")" "$digest" "a second run"
same "$(ls "$work/a/tmp" | wc -l)" 0 "files in tmp/"
for t in 1 4; do
  workspace "$work/t$t" "$work/c"; expect 0 "$DPIPE" run -q -w "$work/t$t" --threads $t; same "$(store "$work/t$t")" "$digest" "$t threads"
done
for cpu in scalar avx2 avx512; do
  "$DPIPE" --version --cpu $cpu >/dev/null 2>&1; "$DPIPE" status -w "$work/a" --cpu $cpu >/dev/null 2>&1 || { echo "skip: this machine has no $cpu" >&2; continue; }
  workspace "$work/$cpu" "$work/c"; DPIPE_CPU=$cpu expect 0 "$DPIPE" run -q -w "$work/$cpu"; same "$(store "$work/$cpu")" "$digest" "CPU level $cpu"
done
# Elsewhere, in another order: places and order of registration don't matter.
mkdir "$work/moved"; cp -r "$work/c" "$work/moved/elsewhere"; "$DPIPE" init -q "$work/m"; cp "$work/a/recipe.yaml" "$work/m/"
for f in site pages.warc.gz lines.jsonl box.tar.xz; do "$DPIPE" ingest -q -w "$work/m" --register-only "$work/moved/elsewhere/$f"; done
expect 0 "$DPIPE" run -q -w "$work/m"; same "$(store "$work/m")" "$digest" "another place and order"
# One option: only what depends on it runs again.
sed -i 's/vocab_size: 600/vocab_size: 500/' "$work/a/recipe.yaml"
expect 0 "$DPIPE" run -q -w "$work/a" --until shard --json; says "$work/out" '"up_to_date":'
same "$(ls "$work/a/store" | grep -c '^docs-')" "$(ls "$work/t1/store" | grep -c '^docs-')" "documents after another vocabulary"
# in = out + dropped at every stage, and what leaves one enters the next
expect 0 "$DPIPE" status -w "$work/t1"
awk '$2 ~ /^[0-9]+$/ && /^(ingest|extract|normalise|language|patterns|gopher|c4|fineweb|dedup)/ { if ($2 != $3 + $4 || (n++ && $2 != prev)) bad = 1; prev = $3 } END { exit bad || n < 8 }' "$work/out" && ok || bad "the funnel doesn't add up: $(cat "$work/out")"
says "$work/out" "duplicate_exact"; says "$work/out" "loss:"
expect 0 "$DPIPE" status -w "$work/t1" --json; says "$work/out" '"documents_in"'
expect 0 "$DPIPE" inspect -w "$work/t1" -n 0; says "$work/out" "gopher_top_2_gram"
expect 0 "$DPIPE" inspect -w "$work/t1" --duplicates; says "$work/out" "duplicate"
expect 0 "$DPIPE" inspect -w "$work/t1" --damage; says "$work/out" "lines.jsonl"
expect 0 "$DPIPE" inspect -w "$work/t1" --kept --json -n 1; says "$work/out" '"text"'
expect 0 "$DPIPE" inspect -w "$work/t1" --units; says "$work/out" "done"
expect 0 "$DPIPE" verify -w "$work/t1"; says "$work/out" "whole"
for f in megatron llmc nanogpt datatrove olmo; do expect 0 "$DPIPE" export -w "$work/t1" -f $f -o "$work/x$f"; done
expect 0 "$DPIPE" feed -w "$work/t1" --seq-len 16 --batch 4 --steps 5 --dump "$work/f1"; same "$(stat -c %s "$work/f1")" $((5 * 4 * 17 * 4)) "bytes of a feed dump"
for r in 0 1; do expect 0 "$DPIPE" feed -w "$work/t1" --seq-len 16 --batch 2 --steps 5 --world 2 --rank $r --dump "$work/r$r"; done
for k in 0 1 2 3 4; do for r in 0 1; do dd if="$work/r$r" bs=136 count=1 skip=$k status=none; done; done | cmp -s - "$work/f1" && ok || bad "two ranks give another sequence than one"
expect 0 "$DPIPE" eval -w "$work/t1"; says "$work/out" "bits per byte"
expect 0 "$DPIPE" generate -w "$work/t1" -p "the water" -n 10 --seed 3; cp "$work/out" "$work/g"; expect 0 "$DPIPE" generate -w "$work/t1" -p "the water" -n 10 --seed 3 --threads 1
cmp -s "$work/g" "$work/out" && ok || bad "the same seed generates other text"
# A flipped bit in a shard is found and named.
shard=$(ls "$work"/t1/store/shard-*-00.bin | head -1); printf '\377' | dd of="$shard" bs=1 seek=101 conv=notrunc status=none
expect 65 "$DPIPE" verify -w "$work/t1"; says "$work/out" "$(basename "$shard")"; says "$work/out" "frame 0"
finish
