#!/usr/bin/env bash
# The whole road, .warc.gz of real pages to token shards, in CPU seconds; and the same road in datatrove where it is installed.
# usage: bench/pipeline.sh [PAGES.warc.gz]   PEERS=1: install datatrove in build/venv first; DATATROVE_PYTHON=python that has it already
# Each road runs RUNS times (2), one process and one thread; the ratio is of the medians' CPU seconds, user and system.
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
# The same filters as the peer, and like it a finished tokenizer. Both drop what their filters drop.
printf 'clean:\n  fineweb: {enabled: true}\ntokenizer: {file: %s}\n' "$PWD/$tok" >$out/recipe.yaml
own() { # CPU seconds of one run into $cpu
  rm -rf $out/w; $dpipe init -q $out/w; cp $out/recipe.yaml $out/w/; $dpipe ingest -q -w $out/w --register-only "$pages"
  TIMEFORMAT='%U %S %R'; local t u s r; t=$( { time $dpipe run -q -w $out/w --until shard --threads 1 >&2; } 2>&1 | tail -1)
  read -r u s r <<<"$t"; cpu=$(awk "BEGIN{print $u + $s}")
  echo "{\"dpipe_cpu_s\":$cpu,\"wall_s\":$r,\"pages_bytes\":$($dpipe status -w $out/w --json | sed -n 's/ *"bytes_out": \([0-9]*\).*/\1/p' | head -1)}"
}
median() { sort -n | awk '{v[NR] = $1} END {print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }
py=${DATATROVE_PYTHON:-python3}; [ -z "${PEERS:-}" ] || py=$(tools/venv.sh)
runs=${RUNS:-2} peer=; $py -c 'import datatrove, spacy, trafilatura' 2>/dev/null && peer=yes
: >$out/own.txt; : >$out/peer.txt
for _ in $(seq "$runs"); do
  own; echo "$cpu" >>$out/own.txt
  [ $peer ] || continue
  $py bench/peers/pipeline_datatrove.py "$pages" $out/peer $tok 2>$out/peer.log | tee $out/peer.jsonl
  sed -n 's/.*"cpu_s": \([0-9.]*\).*/\1/p' $out/peer.jsonl | awk '{s += $1} END {print s}' >>$out/peer.txt
done
$dpipe status -w $out/w | sed -n '/^stage/,/^$/p' >&2
if [ $peer ]; then awk -v own="$(median <$out/own.txt)" -v peer="$(median <$out/peer.txt)" 'BEGIN {printf "{\"dpipe_cpu_s\":%.2f,\"datatrove_cpu_s\":%.2f,\"ratio\":%.1f}\n", own, peer, peer / own}'
else echo "datatrove isn't installed here (make bench-pipeline PEERS=1 installs it): no peer figure" >&2; fi
