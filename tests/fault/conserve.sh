#!/usr/bin/env bash
# in = out + everything dropped (the quarantined too), in every stage, at every moment that the API is asked: while documents come in, some of them
# kill their workers, other workers are killed from outside, and the broker is.
# DP_SECONDS=N: so long (5)
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
probe=$BUILD/tests/fault/probe seconds=${DP_SECONDS:-5} w=$work/w RANDOM=${DP_SEED:-3}
trap 'touch "$work/stop" 2>/dev/null; kill -9 $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
export DPIPE_TEST_FAULT=dpfault
recipe() { printf 'sources: [%s]\nclean: {c4: {enabled: false}}\ntrain-bpe: {vocab_size: 400}\nshards: {growth: rebuild}\nserve: {settle: 20ms, rescan: 1h, min_free: 0, retry_base: 1s, keep: 1s, spool: false}\nworkers: {doc_seconds: 2, isolate: process}\n' "$work/in"; }
mkdir "$work/in"; "$DPIPE" init -q "$w"; recipe >"$w/recipe.yaml"
serve() { "$DPIPE" serve -q -w "$w" 2>>"$work/log" & pid=$!; }
"$probe" stages "$w/http.sock" "$work/stop" >"$work/polled" 2>"$work/talk" & poller=$!
serve; end=$((SECONDS + seconds)) i=0 workers=0 brokers=0
while [ $SECONDS -lt $end ]; do
  i=$((i + 1)); { printf '{"text":"short"}\n'; for k in 1 2 3 4 5 6; do printf '{"text":"%s"}\n' "$(words $((i * 10 + k)) 90)"; done; [ $((i % 4)) = 0 ] && printf '{"text":"dpfault-segv-%d %s"}\n' $((i % 8 ? 1 : 5)) "$(words $i 90)"; } >"$work/in/f$i.jsonl"
  v=$(cat /proc/$pid/task/*/children 2>/dev/null | tr ' ' '\n' | grep -m1 .) && [ $((RANDOM % 2)) = 0 ] && kill -9 "$v" 2>/dev/null && workers=$((workers + 1))
  if [ $((i % 12)) = 0 ]; then kill -9 $pid; wait $pid 2>/dev/null; brokers=$((brokers + 1)); serve; fi
  sleep 0.0$((RANDOM % 10))
done
"$DPIPE" init -q "$work/one"; recipe >"$work/one/recipe.yaml"; expect 0 "$DPIPE" run -q -w "$work/one" --until shard
settled() { "$DPIPE" rescan -q -w "$w" 2>/dev/null && [ "$(store "$w" 2>/dev/null)" = "$(store "$work/one")" ]; }
for _ in $(seq 300); do settled && break; sleep 0.1; done; settled && ok || bad "store: $("$DPIPE" status -w "$w" | head -4; diff <(ls "$work/one/store") <(ls "$w/store") | head -4; tail -2 "$work/log")"
"$probe" get "$w/http.sock" /api/v1/stages >"$work/o"; says "$work/o" '"quarantined":'
touch "$work/stop"; wait $poller && ok || bad "an answer doesn't add up: $(head -c 1000 "$work/talk")"
expect 0 "$DPIPE" stop -w "$w"; wait $pid
echo "$(cat "$work/polled"), $workers workers and $brokers brokers killed, $i files" >&2
n() { grep -o "$1=[0-9]*" "$work/polled" | cut -d= -f2; }
[ "$(n answers)" -ge 1000 ] && [ "$(n full)" -ge 500 ] && [ "$(n changes)" -ge 10 ] && ok || bad "too few answers to tell: $(cat "$work/polled")"
same "$(n bad)" 0 "answers that don't add up"; [ $workers -ge 3 ] && [ $brokers -ge 1 ] && ok || bad "only $workers workers and $brokers brokers were killed"
finish
