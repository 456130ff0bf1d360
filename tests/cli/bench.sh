#!/usr/bin/env bash
# dpipe bench feed: one JSON object with every way, from made data and from a workspace's; nothing is left behind.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
mkdir "$work/tmp"; export TMPDIR=$work/tmp
b() { "$DPIPE" bench feed --rounds 2 --seconds 10ms --million-ids 1 --seq-len 64 --batch 4 "$@"; }
check() {
  for way in "memcpy in order" "memcpy of permuted rows" feed "feed, read" "feed of compressed shards" "feed, bestfit with masks" ring "ring, bestfit with masks" tcp "tcp, zstd 1"; do says "$work/out" "\"way\": \"$way\""; done
  for key in cpu level load ids id_bytes compressed_bytes_per_id first_batch_ms rss_anon_mib million_ids_per_cpu_s million_ids_per_server_cpu_s bytes_per_id of_permuted_memcpy; do says "$work/out" "\"$key\":"; done
  grep -E '"million_ids_per_(cpu_|server_cpu_)?s": (0,|0$|-|[^0-9])' "$work/out" && bad "a way without a rate" || ok
  if command -v python3 >/dev/null; then python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); sys.exit(len(d["ways"]) < 13)' "$work/out" && ok || bad "no JSON object with 13 ways"; fi
  same "$(find "$work/tmp" -mindepth 1 | wc -l)" 0 "files left in TMPDIR"
}
expect 0 b -w "$work/none"; check; says "$work/out" '"from": "made"'; says "$work/out" '"id_bytes": 2'
corpus "$work/c"; workspace "$work/a" "$work/c"; expect 0 "$DPIPE" run -q -w "$work/a" --until shard
expect 0 b -w "$work/a"; check; says "$work/out" "\"vocab_size\": "
m=$(ls "$work"/a/store/manifest-*.json); expect 0 b -w "$work/none" --manifest "$m"; says "$work/out" "\"from\": \"$m\""
expect 64 "$DPIPE" bench; expect 64 "$DPIPE" bench train; says "$work/err" "there is feed"
expect 78 b -w "$work/none" --manifest "$m" --seq-len 1000000; same "$(find "$work/tmp" -mindepth 1 | wc -l)" 0 "files left behind a failure"
# dpipe bench tokenizer: trained on the text, given, JSON lines; counts and decoding are checked by the bench itself.
words 5 4000 | tr . '\n' >"$work/t.txt"; t() { "$DPIPE" bench tokenizer --rounds 2 --doc-bytes 1000 "$@"; }
rates() { for key in bench cpu level ids pieces documents encode threads cold warm first_mb_per_cpu_s mb_per_cpu_s best_mb_per_s speedup_cold split_only count_only decode peak_rss_mib; do says "$work/out" "\"$key\":"; done
  grep -E '_mb_per_(cpu_)?s": (0,|0$|-|[^0-9])' "$work/out" && bad "no rate" || ok; }
expect 0 t --train 300 "$work/t.txt"; rates; says "$work/out" '"merges": 43'; says "$work/out" '"tokenizer": "trained"'
"$DPIPE" train-bpe -q --vocab-size 400 --special-tokens '' -o "$work/tok" "$work/t.txt" 2>/dev/null
printf '{"text":"%s"}\n' "$(words 6 50)" "$(words 7 50)" >"$work/t.jsonl"
expect 0 t -t "$work/tok/tokenizer.json" --threads 2,1 --jsonl "$work/t.jsonl"; rates; says "$work/out" '"documents": 2'; says "$work/out" '"fresh_process": true'
expect 0 t -t "$work/tok/tokenizer.json" --limit 9000 --threads 1 "$work/t.txt"; says "$work/out" '"bytes": 9000'
expect 64 t; expect 64 t --threads 1,x "$work/t.txt"; says "$work/err" "numbers from 1"; : >"$work/empty"; expect 64 t "$work/empty"; says "$work/err" "no text"
# dpipe bench trainer: parts add up to the step; a figure for all that is asked.
expect 0 "$DPIPE" bench trainer --rounds 1 --threads 1 --context 64
for key in bench cpu level shape parameters batch seq_len threads peak_gflops tokens_per_s tokens_per_cpu_s mfu step_ms cpu_ms products attention loss update peak_rss_mib; do says "$work/out" "\"$key\":"; done
says "$work/out" '"parameters": 13817856'; says "$work/out" '"batch": 16'; grep -qE '"(tokens_per_(cpu_)?s|mfu)": (0,|0$|-|[^0-9])' "$work/out" && bad "no rate" || ok
awk '/"step_cpu_ms"/ { gsub(/[^0-9.]/, "", $2); step = $2 } /"cpu_ms"/ { parts = 1; next } /}/ { parts = 0 } parts { gsub(/[^0-9.]/, "", $2); sum += $2 } END { exit !(sum > 0.9 * step && sum < 1.02 * step) }' "$work/out" && ok || bad "parts don't add up to the step"
expect 64 "$DPIPE" bench trainer --threads 0; says "$work/err" "a number from 1"; expect 64 "$DPIPE" bench trainer x
finish
