#!/usr/bin/env bash
# trace: tokens of batches and training steps back to documents, sources and text; each answer is checked against other commands.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
RANDOM=${DP_SEED:-1}
corpus "$work/c"; w=$work/w
workspace "$w" "$work/c"; expect 0 "$DPIPE" run -q -w "$w"
tok=$(ls "$w"/store/tokenizer-*.json)
num() { sed -nE "s/.*\"$1\":(-?[0-9]+)[,}].*/\1/p" "$2"; }
str() { sed -nE "s/.*\"$1\":\"(([^\"\\\\]|\\\\.)*)\".*/\1/p" "$2"; }
"$DPIPE" inspect -w "$w" --kept --json -n 0 >"$work/kept"
"$DPIPE" tokenize --tokenizer "$tok" --jsonl "$work/kept" >"$work/kept.ids"
# check_place FILE: the traced id is the one at its place in the traced document, tokenised anew; its text is where it is said to be
check_place() {
  local doc place id line
  doc=$(str document "$1") place=$(num document_token "$1") id=$(num id "$1")
  line=$(grep -n "\"id\":\"$doc\"" "$work/kept" | cut -d: -f1)
  [ -n "$line" ] || { bad "document $doc isn't kept"; return; }
  sed -n "${line}p" "$work/kept.ids" | tr -c '0-9\n' '\n' | grep . >"$work/ids"
  if grep -q '"end_of_document":true' "$1"; then same "$place" "$(wc -l <"$work/ids")" "place of an EOT in $doc"; return; fi
  same "$(sed -n "$((place + 1))p" "$work/ids")" "$id" "id at $place of $doc"
  sed -n "${line}p" "$work/kept" | grep -qF -- "$(str before "$1")$(str text "$1")$(str after "$1")" && ok || bad "text around the token isn't in $doc: $(cat "$1")"
}
# 50 random tokens of the feed: the same ids as feed gives.
expect 0 "$DPIPE" feed -w "$w" --seq-len 40 --batch 4 --seed 3; samples=$(num samples "$work/out")
for i in $(seq 1 50); do
  n=$((RANDOM % (3 * samples))) r=$((RANDOM % 4)) t=$((RANDOM % 41))
  expect 0 "$DPIPE" trace -w "$w" --seq-len 40 --batch 4 --seed 3 --sample $n --row $r --token $t --json; cp "$work/out" "$work/t$i"
  "$DPIPE" feed -w "$w" --seq-len 40 --batch 4 --seed 3 --start $n --dump "$work/d" >/dev/null
  same "$(num id "$work/t$i")" "$(od -An -td4 -j $(((r * 41 + t) * 4)) -N4 "$work/d" | tr -d ' ')" "id of sample $n, row $r, token $t"
  check_place "$work/t$i"
done
cat "$work"/t[0-9]* >"$work/all"
# Every kind of source: members of archives by name, lines and WARC records by offset.
for s in box.tar.xz lines.jsonl pages.warc.gz site/; do says "$work/all" "$s"; done
for i in $(seq 1 50); do
  src=$(str source "$work/t$i") pos=$(str position "$work/t$i") text=$(str text "$work/t$i")
  grep -q '"end_of_document":true' "$work/t$i" && continue
  case $src in
    *.tar.xz) tar xJOf "$src" "${pos%%!*}" 2>/dev/null | { [ "${pos%%!*}" = tar/t5.txt.gz ] && zcat || cat; } >"$work/rec" ;;
    *.jsonl) tail -c "+$((${pos#@} + 1))" "$src" | head -1 >"$work/rec"; says "$work/rec" "\"url\":\"$(str url "$work/t$i")\"" ;;
    *) continue ;;
  esac
  grep -qF -- "$(str before "$work/t$i" | tail -c 30)$text$(str after "$work/t$i" | head -c 20)" "$work/rec" && ok || bad "the text isn't at $pos of $src"
done
# A row's documents cover it without a gap.
expect 0 "$DPIPE" trace -w "$w" --seq-len 900 --sample 2 --json; cp "$work/out" "$work/row"
same "$(sed -nE 's/.*"tokens":([0-9]+),.*/\1/p' "$work/row" | awk '{ s += $1 } END { print s }')" 901 "ids of a row's documents"
[ "$(wc -l <"$work/row")" -gt 1 ] && ok || bad "a row of 901 ids of one document"
# Steps of the training run: the trainer's own rows (seq_len 32, batch 2), as the feed gives them with its options.
for s in 1 7 12; do
  expect 0 "$DPIPE" trace -w "$w" --step $s --row 1 --token 5 --json; cp "$work/out" "$work/s"; check_place "$work/s"
  "$DPIPE" feed -w "$w" --seq-len 32 --batch 2 --start $(((s - 1) * 2)) --dump "$work/d" >/dev/null
  same "$(num id "$work/s")" "$(od -An -td4 -j $(((33 + 5) * 4)) -N4 "$work/d" | tr -d ' ')" "id of step $s"
done
expect 0 "$DPIPE" trace -w "$w" --step 2; says "$work/out" "row 1, token"; says "$work/out" "position"
# By shard and by document; and as text.
sh=$(str shard "$work/t1") st=$(num shard_token "$work/t1") doc=$(str document "$work/t1")
expect 0 "$DPIPE" trace -w "$w" --shard "$sh" --token "$st" --json; same "$(str document "$work/out") $(num id "$work/out")" "$doc $(num id "$work/t1")" "trace --shard"
expect 0 "$DPIPE" trace -w "$w" --doc "${doc:0:20}" --json; same "$(str position "$work/out")" "$(str position "$work/t1")" "trace --doc"
expect 0 "$DPIPE" trace -w "$w" --shard "$sh" --token "$st"; says "$work/out" "source"; says "$work/out" "$(str source "$work/t1")"; says "$work/out" "text      byte"
# Compressed shards give the same answers.
workspace "$work/z" "$work/c"; sed -i 's/shards: {/shards: {compression: zstd, /' "$work/z/recipe.yaml"; expect 0 "$DPIPE" run -q -w "$work/z" --until shard
zs=$(ls "$work/z/store" | grep '\.zbin$' | head -1); bs=$(ls "$w/store" | grep '^shard.*\.bin$' | head -1)
expect 0 "$DPIPE" trace -w "$work/z" --doc "$doc" --json; z=$(str shard "$work/out") zt=$(num shard_token "$work/out")
expect 0 "$DPIPE" trace -w "$work/z" --shard "$z" --token $((zt + $(num document_token "$work/t1"))) --json
same "$(num id "$work/out") $(str before "$work/out")" "$(num id "$work/t1") $(str before "$work/t1")" "trace of compressed shards"
# What can't be answered says so.
expect 64 "$DPIPE" trace -w "$w"; says "$work/err" "--sample"
expect 64 "$DPIPE" trace -w "$w" --sample 1 --step 1; expect 64 "$DPIPE" trace -w "$w" --shard x; says "$work/err" "--token"
expect 64 "$DPIPE" trace -w "$w" --sample 1 --row 8; says "$work/err" "rows 0 to 7"
expect 64 "$DPIPE" trace -w "$w" --sample 1 --token 5000; expect 64 "$DPIPE" trace -w "$w" --step 13; says "$work/err" "1 to 12"
expect 74 "$DPIPE" trace -w "$w" --doc 0000ffff; expect 74 "$DPIPE" trace -w "$w" --shard nosuch --token 1
expect 64 "$DPIPE" trace -w "$w" --shard "$sh" --token 99999999
finish
