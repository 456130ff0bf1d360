#!/usr/bin/env bash
# The service killed (-9, every fifth time SIGTERM) at random moments while files come in; in the end the store of one run over all of
# them, and nothing else. DP_KILLS=N sets how many kills (default 15); DP_SEED the random seed.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
trap 'kill -9 $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
kills=${DP_KILLS:-15} RANDOM=${DP_SEED:-7} w=$work/w
recipe() { printf 'sources: [%s]\nclean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 400}\nshards: {bytes_per_shard: 64K}\nserve: {settle: 50ms, rescan: 1h, min_free: 0, retry_base: 1s, keep: 1s}\n' "$work/in"; }
mkdir "$work/in"; "$DPIPE" init -q "$w"; recipe >"$w/recipe.yaml"
for i in $(seq 1 "$kills"); do
  "$DPIPE" serve -q -w "$w" >>"$work/log" 2>&1 & pid=$!
  for k in 1 2; do words $((i * 10 + k)) 200 >"$work/in/f$i-$k.txt"; sleep 0.0$((RANDOM % 10)); done
  sleep 0.$((RANDOM % 6))$((RANDOM % 10))
  if [ $((i % 5)) = 0 ]; then kill -TERM $pid; wait $pid; same $? 0 "exit at SIGTERM"; else kill -9 $pid; wait $pid 2>/dev/null; fi
done
"$DPIPE" init -q "$work/one"; recipe >"$work/one/recipe.yaml"; expect 0 "$DPIPE" run -q -w "$work/one" --until shard; want=$(store "$work/one")
"$DPIPE" serve -q -w "$w" >>"$work/log" 2>&1 & pid=$!
settled() { "$DPIPE" rescan -q -w "$w" && [ "$(store "$w")" = "$want" ]; }
for _ in $(seq 150); do settled 2>/dev/null && break; sleep 0.2; done
settled && ok || bad "store after $kills kills: $(diff <(ls "$work/one/store") <(ls "$w/store") | head -5)"
"$DPIPE" job list -w "$w" --state failed >"$work/o"; [ -s "$work/o" ] && bad "a kill counted as a failure: $(cat "$work/o")" || ok
expect 0 "$DPIPE" stop -w "$w"; wait $pid; same "$(ls "$w/tmp" | wc -l)" 0 "files in tmp/"
finish
