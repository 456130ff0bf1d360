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
finish
