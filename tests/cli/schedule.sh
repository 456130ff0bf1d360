#!/usr/bin/env bash
# Asking a service for things: read this source again, make this job again, this source first; times for the large steps, hours of work.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
trap 'kill -9 $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
w=$work/w; mkdir "$work/in"; "$DPIPE" init -q "$w"
recipe() { printf 'sources: [%s]\nclean: {c4: {enabled: false}}\ntrain-bpe: {vocab_size: 400}\nshards: {growth: rebuild}\nserve: {settle: 100ms, rescan: 1h, min_free: 0, spool: false%s}\n' "$work/in" "$1" >"$w/recipe.yaml"; }
wait_for() { local n=$(($1 * 20)); shift; while [ $n -gt 0 ]; do "$@" >/dev/null 2>&1 && return 0; sleep 0.05; n=$((n - 1)); done; return 1; }
status() { "$DPIPE" status -w "$w" --json | tr -d ' \n'; }
state() { status | grep -q "\"state\":\"$1\""; }
serve() { "$DPIPE" serve -w "$w" "$@" >"$work/log" 2>&1 & pid=$!; wait_for 10 "$DPIPE" status -w "$w"; }
jobs_of() { "$DPIPE" job list -w "$w" --stage "$1" --state done --json | grep -c '"id"'; }
made() { [ "$(jobs_of "$1")" = "$2" ]; }
for i in 1 2 3; do words $i 200 >"$work/in/t$i.txt"; done
recipe ', watches: 0'; sleep 0.3; serve; wait_for 30 made shard 1 && ok || bad "no shards: $(tail -3 "$work/log")"; wait_for 10 state idle; before=$(store "$w")
# Read again: an unknown path is said to be one; a changed file with its old size and time is found only when asked for.
expect 74 "$DPIPE" rescan -w "$w" --source "$work/nowhere"; says "$work/err" "is no source"
expect 0 "$DPIPE" rescan -w "$w" --source "$work/in"; says "$work/out" "3 sources are read again"; wait_for 10 grep -q "3 sources are read again" "$work/log" && ok || bad "not read again"
wait_for 10 state idle; same "$(store "$w")" "$before" "store after unchanged files were read again"
cp -p "$work/in/t1.txt" "$work/old"; tr ae ea <"$work/old" >"$work/in/t1.txt"; touch -r "$work/old" "$work/in/t1.txt"; sleep 0.3; expect 0 "$DPIPE" rescan -w "$w" --source "$work/in/t1.txt"
wait_for 20 made shard 2 && ok || bad "a changed file wasn't found: $(tail -3 "$work/log")"; wait_for 10 state idle
# Made again: the same bytes in place of damaged ones.
id=$("$DPIPE" job list -w "$w" --stage clean --json | sed -n '$s/.*"id":\([0-9]*\),.*/\1/p'); key=$("$DPIPE" job show "$id" -w "$w" | sed -n 's/^key *//p'); before=$(store "$w")
printf x >>"$w/store/docs-$key.jsonl.zst"; expect 0 "$DPIPE" job redo "$id" -w "$w"; healed() { [ "$(store "$w")" = "$before" ]; }
wait_for 20 healed && ok || bad "not made again: $(tail -3 "$work/log")"; wait_for 10 state idle
expect 74 "$DPIPE" job redo 99999 -w "$w"; expect 64 "$DPIPE" job redo -w "$w"; expect 64 "$DPIPE" job first -w "$w"
recipe ''; expect 0 "$DPIPE" reload -w "$w"
# First: of many units the one that was asked for, by the recipe or by hand.
expect 0 "$DPIPE" pause -w "$w"; for i in $(seq 1 8); do mkdir "$work/in/d$i"; { words $((i + 50)) 300; head -c 9000000 /dev/zero | tr '\0' ' '; } >"$work/in/d$i/big.txt"; done
expect 0 "$DPIPE" job first "d5/*" -w "$w"; sleep 0.5; expect 0 "$DPIPE" resume -w "$w"; expect 0 "$DPIPE" rescan -w "$w"
bigs() { [ "$("$DPIPE" job list -w "$w" --stage ingest --state done --limit 1000 --json | grep -c big.txt)" = 8 ]; }
wait_for 60 bigs && ok || bad "not all were read: $(jobs_of ingest)"
"$DPIPE" job list -w "$w" --stage ingest --limit 1000 --json | sed -n 's/.*"what":"\([^"]*big[^"]*\)".*/\1/p' | head -2 >"$work/o"; says "$work/o" "d5/big.txt"
wait_for 60 state idle; n=$(jobs_of shard); expect 0 "$DPIPE" stop -w "$w"; wait $pid
# Steps at their time: documents are read at once, the rest waits; and goes on when asked for. What is wrong is refused.
recipe ', steps_at: "25:00"'; expect 78 timeout 20 "$DPIPE" serve -w "$w"; says "$work/err" "serve.steps_at"
recipe ", steps_at: [\"$(date -d '+12 hours' +%H:%M)\"], first: [t9.txt]"; serve; words 9 200 >"$work/in/t9.txt"; cleaned() { [ "$(status | sed 's/.*"stage":"ingest","documents_in":\([0-9]*\).*/\1/')" = 12 ]; }
wait_for 30 cleaned && ok || bad "a new document wasn't read: $(status | head -c 600)"; wait_for 10 state idle; made shard "$n" && ok || bad "steps didn't wait for their time"
status | grep -q '"next_steps":0,' && bad "no time for the steps is told" || ok
expect 0 "$DPIPE" rescan -w "$w" --steps; wait_for 30 made shard $((n + 1)) && ok || bad "steps weren't made on request: $(tail -3 "$work/log")"
# A time that comes: a zone in which the next minute begins in a few seconds.
wait_for 10 state idle; expect 0 "$DPIPE" stop -w "$w"; wait $pid; words 10 200 >"$work/in/t10.txt"
TZ=$(printf 'XXX-00:00:%02d' $(((116 - 10#$(date -u +%S)) % 60))); export TZ; recipe ", steps_at: [\"$(date -d '+1 minute' +%H:%M)\"]"; serve
wait_for 20 made shard $((n + 2)) && ok || bad "the time came, and nothing happened: $(date); $(tail -3 "$work/log")"
# Hours of work: none is begun outside of them, and the service is well.
wait_for 10 state idle; recipe ", hours: $(date -d '+2 hours' +%H:%M)-$(date -d '+3 hours' +%H:%M)"; expect 0 "$DPIPE" reload -w "$w"
wait_for 5 state offhours && ok || bad "no state of its own: $(status | head -c 200)"; words 11 200 >"$work/in/t11.txt"; sleep 1.5; made shard $((n + 2)) && ok || bad "work outside of the hours"
status | grep -q '"ready":true' && ok || bad "not ready outside of the hours"
recipe ", hours: $(date -d '-1 hour' +%H:%M)-$(date -d '+3 hours' +%H:%M)"; expect 0 "$DPIPE" reload -w "$w"; wait_for 30 made shard $((n + 3)) && ok || bad "no work in the hours"
expect 0 "$DPIPE" stop -w "$w"; wait $pid
"$DPIPE" init -q "$work/v"; sed 's/hours: [^}]*//' "$w/recipe.yaml" >"$work/v/recipe.yaml"; expect 0 "$DPIPE" run -q -w "$work/v" --until shard
for f in "$work"/v/store/*; do cmp -s "$f" "$w/store/${f##*/}" || bad "${f##*/} is not the same"; done; ok
finish
