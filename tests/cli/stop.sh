#!/usr/bin/env bash
# SIGINT and SIGTERM end a run soon, whatever step it is in, with 75; a service ends clean, with nothing abandoned. Then the road goes on to the
# bytes of an unbroken run.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
trap 'kill -9 $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
case $DPIPE in */asan/* | */tsan/*) late=5000 ;; *) late=1500 ;; esac
# Many small documents, families of near duplicates and many words: ingest is short, dedup and training the tokenizer are not.
awk 'BEGIN { x = 7; for (d = 0; d < 30000; d++) { t = ""; for (i = 0; i < 40; i++) { x = (x * 1103515245 + 12345) % 2147483648; t = t sprintf("%c%c%x ", 97 + x % 26, 97 + int(x / 64) % 26, (d % 3 ? d - d % 3 : d) * 40 + i) } printf "{\"text\":\"%s number %d\"}\n", t, d } }' >"$work/c.jsonl"
space() { "$DPIPE" init -q "$1"; printf 'sources: [%s]\nclean:\n  language: {enabled: false}\n  gopher_repetition: {enabled: false}\n  gopher_quality: {enabled: false}\n  c4: {enabled: false}\n  fineweb: {enabled: false}\ndedup: {memory: 4M}\ntrain-bpe: {vocab_size: 6000}\nserve: {settle: 0, rescan: 1h, min_free: 0, spool: false, drain_timeout: 0}\nworkers: {isolate: thread}\n' "$work/c.jsonl" >"$1/recipe.yaml"; }
space "$work/whole"; t=$(date +%s%N); expect 0 "$DPIPE" run -q -w "$work/whole" --until shard; whole=$((($(date +%s%N) - t) / 1000000)); want=$(store "$work/whole")
stopped=0
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
  [ $((i % 3)) = 0 ] || { rm -rf "$work/w"; space "$work/w"; }
  "$DPIPE" run -q -w "$work/w" --until shard 2>"$work/err" & pid=$!
  sleep "$(printf '%d.%03d' $((whole * (i % 6 + 1) / 8 / 1000)) $((whole * (i % 6 + 1) / 8 % 1000)))"
  sig=TERM; [ $((i % 2)) = 0 ] && sig=INT
  t=$(date +%s%N); kill -$sig $pid 2>/dev/null; wait $pid; s=$?; ms=$((($(date +%s%N) - t) / 1000000))
  [ $s = 0 ] && continue # it was done before
  stopped=$((stopped + 1)); same $s 75 "exit status at SIG$sig"; [ $ms -lt $late ] && ok || bad "SIG$sig: $ms ms: $(cat "$work/err")"
done
[ $stopped -ge 3 ] && ok || bad "only $stopped of 12 runs were stopped in the middle"
expect 0 "$DPIPE" run -q -w "$work/w" --until shard; same "$(store "$work/w")" "$want" "store after stops"; same "$(ls "$work/w/tmp" | wc -l)" 0 "files in tmp/"
rm -rf "$work/w"; space "$work/w"; stopped=0
for i in 1 2 3 4 5 6 7 8; do
  "$DPIPE" serve -w "$work/w" >"$work/log" 2>&1 & pid=$!
  sleep "$(printf '%d.%03d' $((whole * i / 8 / 1000)) $((whole * i / 8 % 1000)))"
  t=$(date +%s%N); kill -TERM $pid 2>/dev/null; wait $pid; same $? 0 "exit status of the service"; ms=$((($(date +%s%N) - t) / 1000000))
  [ $ms -lt $((late + 500)) ] && ok || bad "the service took $ms ms to stop: $(tail -3 "$work/log")"
  grep -q abandoned "$work/log" && bad "a unit was abandoned: $(cat "$work/log")" || ok
done
expect 0 "$DPIPE" run -q -w "$work/w" --until shard; same "$(store "$work/w")" "$want" "store after stops of the service"
"$DPIPE" status -w "$work/w" >"$work/o"; grep -q 'failed' "$work/o" && bad "a stop counted as a failure: $(cat "$work/o")" || ok
finish
