#!/usr/bin/env bash
# The whole road, .warc.gz of real pages to token shards, in CPU seconds; and the same road in datatrove where it is installed.
# usage: bench/pipeline.sh [PAGES.warc.gz]   DATATROVE_PYTHON=python with datatrove[processing] and trafilatura; PEER=its script
set -euo pipefail
cd "$(dirname "$0")/.."
dpipe=build/release/dpipe out=build/bench; mkdir -p $out
pages=${1:-$out/pages.warc.gz}
if [ ! -e "$pages" ]; then
  # 36 MB of HTML responses from documentation packages, one gzip member a record.
  mkdir -p $out/debs $out/raw
  for p in python3.11-doc postgresql-doc-15 debian-handbook; do ls $out/debs/${p}_* >/dev/null 2>&1 || (cd $out/debs && apt-get download -qq $p); done
  for d in $out/debs/*.deb; do dpkg-deb -x "$d" $out/raw; done
  total=0
  find $out/raw -name '*.html' -type f | LC_ALL=C sort | awk 'BEGIN{srand(7)}{printf "%.9f %s\n", rand(), $0}' | sort | cut -d' ' -f2 | while read -r f; do
    n=$(stat -c %s "$f"); total=$((total + n)); if [ $total -gt 36000000 ]; then cat >/dev/null; break; fi
    h='HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n'; hn=$(printf "$h" | wc -c)
    { printf 'WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://docs.example/%s\r\nWARC-Date: 2020-01-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:%s>\r\nWARC-Identified-Payload-Type: text/html\r\nContent-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n' "${f#$out/raw/}" "$(printf %s "$f" | md5sum | sed 's/\(........\)\(....\)\(....\)\(....\)\(............\).*/\1-\2-\3-\4-\5/')" $((n + hn)); printf "$h"; cat "$f"; printf '\r\n\r\n'; } | gzip -n
  done >"$pages.tmp"; mv "$pages.tmp" "$pages"
fi
tok=$out/tokenizer.json
rm -rf $out/w; $dpipe init -q $out/w
if [ ! -e $tok ]; then
  $dpipe ingest -q -w $out/w --register-only "$pages"; $dpipe run -q -w $out/w --until train-bpe; cp $out/w/store/tokenizer-*.json $tok; rm -rf $out/w; $dpipe init -q $out/w
fi
# The peer tokenizes with a finished tokenizer, and passes quality drops on: so do we.
printf 'clean:\n  gopher_repetition: {enabled: true}\ntokenizer: {file: %s}\n' "$PWD/$tok" >$out/w/recipe.yaml
$dpipe ingest -q -w $out/w --register-only "$pages"
TIMEFORMAT='%U %S %R'; t=$( { time $dpipe run -q -w $out/w --until shard --threads 1 >&2; } 2>&1 | tail -1)
read -r u s r <<<"$t"; cpu=$(awk "BEGIN{print $u + $s}")
echo "{\"dpipe_cpu_s\":$cpu,\"wall_s\":$r,\"pages_bytes\":$($dpipe status -w $out/w --json | sed -n 's/ *"bytes_out": \([0-9]*\).*/\1/p' | head -1)}"
py=${DATATROVE_PYTHON:-python3} peer=${PEER:-../shared/bench/pipeline_peer.py}
if [ -e "$peer" ] && $py -c 'import datatrove, trafilatura' 2>/dev/null; then
  mkdir -p $out/in; ln -sf "$(realpath "$pages")" $out/in/pages.warc.gz
  $py "$peer" $out/in $out/peer $tok | tee $out/peer.jsonl
  awk -v own=$cpu -F'"cpu_s": ' '{split($2, a, ","); sum += a[1]} END {printf "{\"datatrove_cpu_s\":%.2f,\"ratio\":%.1f}\n", sum, sum / own}' $out/peer.jsonl
else echo "datatrove isn't installed here (DATATROVE_PYTHON): no peer figure" >&2; fi
