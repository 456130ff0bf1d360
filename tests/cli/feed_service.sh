#!/usr/bin/env bash
# dpipe serve --feed: trainers served while files come in; what one of them reads stays, however often the state behind it changes and the service dies.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
w=$work/w sock=$work/feed.sock
trap 'kill -9 $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
mkdir "$work/in"; "$DPIPE" init -q "$w"
printf 'sources: [%s]\nclean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 600}\nshards: {bytes_per_shard: 64K}\nfeed: {val_fraction: 0}\nserve: {settle: 50ms, rescan: 1h, min_free: 0, keep: 3s, spool: false}\n' "$work/in" >"$w/recipe.yaml"
serve() { "$DPIPE" serve -w "$w" --feed "$sock" "$@" >>"$work/log" 2>&1 & pid=$!; }
wait_for() { local n=$(($1 * 20)); shift; while [ $n -gt 0 ]; do "$@" >/dev/null 2>&1 && return 0; sleep 0.05; n=$((n - 1)); done; return 1; }
status() { "$DPIPE" status -w "$w" --json | tr -d ' \n'; }
idle() { status | grep -q '"state":"idle"'; }
manifests() { ls "$w"/store/manifest-*.json 2>/dev/null | wc -l; }
documents() { status | grep -q "\"complete\":\[\"ingest\",\"clean\",\"dedup\",\"train-bpe\",\"tokenize\",\"shard\"\].*\"stage\":\"ingest\",\"documents_in\":$1,"; }
there() { timeout 100 "$DPIPE" feed --connect "$sock" "$@"; }
expect 78 "$DPIPE" serve -w "$w" --feed '0.0.0.0:0'; says "$work/err" "needs a token"
expect 78 "$DPIPE" serve -w "$w" --feed "$work/in/"; says "$work/err" "no socket"
serve; wait_for 10 idle || bad "not up: $(tail -3 "$work/log")"
expect 75 there --dump "$work/x"; says "$work/err" "no complete manifest yet"
for i in 1 2 3 4; do words $i 400 >"$work/in/t$i.txt"; done; wait_for 20 documents 4 && ok || bad "files didn't become documents: $(tail -3 "$work/log")"; wait_for 20 idle
expect 0 there --seq-len 32 --batch 2 --seed 3 --steps 50 --dump "$work/x"; first=$(ls -t "$w"/store/manifest-*.json | head -1); cp -r "$w/store" "$work/then"
expect 0 "$DPIPE" feed --manifest "$work/then/$(basename "$first")" --val-fraction 0 --seq-len 32 --batch 2 --seed 3 --steps 40000 --dump "$work/y"; cmp -n $((50 * 2 * 33 * 4)) "$work/x" "$work/y" && ok || bad "a client of the service"
expect 0 "$DPIPE" feed -w "$w" --seq-len 32 --batch 2 --seed 3 --steps 50 --dump "$work/z"; cmp "$work/x" "$work/z" && ok || bad "the workspace's own feed"
# A trainer reads; files come in, a new tokenizer and new shards with them; what it reads outlives serve.keep.
mkfifo "$work/pipe"; there --seq-len 32 --batch 2 --seed 3 --steps 40000 --dump "$work/pipe" >"$work/said" 2>"$work/talk" & client=$!
exec 7<"$work/pipe"; head -c 1000000 <&7 >"$work/x"
status >"$work/o"; says "$work/o" '"rank":0,"world":1,"batch":2,"seq_len":32'; says "$work/o" "\"address\":\"$sock\""
for i in 5 6 7; do words $((i + 100)) 400 >"$work/in/t$i.txt"; wait_for 20 documents $i && ok || bad "document $i: $(tail -3 "$work/log")"; sleep 1.2; done
wait_for 20 idle; touch "$work/in/t1.txt"; expect 0 "$DPIPE" rescan -w "$w"; sleep 0.5; wait_for 20 idle
[ -e "$first" ] && ok || bad "the manifest that is read is gone"
n=$(manifests); [ "$n" -lt 5 ] && ok || bad "manifests that nobody reads are kept: $n"
expect 0 there --seq-len 32 --batch 2 --seed 3 --steps 50 --dump "$work/new"; expect 0 "$DPIPE" feed -w "$w" --seq-len 32 --batch 2 --seed 3 --steps 50 --dump "$work/z"; cmp "$work/new" "$work/z" && ok || bad "a new client gets the newest manifest"
cmp -s "$work/new" <(head -c $((50 * 2 * 33 * 4)) "$work/y") && bad "nothing has grown"
# The service dies under the trainer and comes back: it goes on with the manifest of its state.
for i in 1 2 3; do kill -9 $pid; wait $pid 2>/dev/null; serve; head -c 1500000 <&7 >>"$work/x"; done
wait_for 20 idle; words 200 400 >"$work/in/t8.txt"; wait_for 20 documents 8 || bad "document 8"
cat <&7 >>"$work/x"; exec 7<&-; wait $client && ok || bad "client: $(cat "$work/talk")"
cmp "$work/x" "$work/y" && ok || bad "a trainer through changes and kills"; says "$work/said" '"reconnects":3'
# Nobody reads it any more: after serve.keep it goes.
gone() { "$DPIPE" rescan -q -w "$w"; [ ! -e "$first" ]; }
sleep 3.2; wait_for 30 gone && ok || bad "a manifest that nobody reads any more stays"
# SIGTERM under a client.
there --steps 1000000000 --dump /dev/null --reconnect 0 >/dev/null 2>"$work/talk" & client=$!; sleep 0.5
t=$(date +%s%N); kill -TERM $pid; wait $pid; same $? 0 "exit at SIGTERM"; ms=$((($(date +%s%N) - t) / 1000000)); [ $ms -lt 10000 ] && ok || bad "SIGTERM took $ms ms"
wait $client; same $? 74 "the client of a stopped service"; says "$work/talk" "the feed server is gone"; [ -e "$sock" ] && bad "the socket is left" || ok
# TCP, with a token; metrics.
echo correct-horse-battery >"$work/token"; sock=127.0.0.1:0; port=$((20000 + $$ % 20000)); serve --feed-token-file "$work/token" --http "127.0.0.1:$port"; wait_for 10 idle
sock=127.0.0.1:$(status | sed -n 's/.*"port":\([0-9]*\).*/\1/p')
expect 78 there --dump "$work/x"; says "$work/err" "token"
expect 0 there --token-file "$work/token" --seq-len 32 --steps 20 --dump "$work/x"; expect 0 "$DPIPE" feed -w "$w" --seq-len 32 --steps 20 --dump "$work/z"; cmp "$work/x" "$work/z" && ok || bad "over TCP"
exec 8<>"/dev/tcp/127.0.0.1/$port"; printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&8; timeout 10 cat <&8 >"$work/o"; exec 8>&-
says "$work/o" "dpipe_feed_accepted_total 1"; says "$work/o" "dpipe_feed_refused_total 1"; grep -q '^dpipe_feed_bytes_total [1-9]' "$work/o" && ok || bad "bytes"
sed -n 's/^# TYPE \(dpipe_feed_[a-z_]*\) .*/\1/p' "$work/o" | while read -r m; do grep -q "\`$m\`" docs/metrics.md || echo "$m"; done >"$work/undocumented"; [ -s "$work/undocumented" ] && bad "not in docs/metrics.md: $(cat "$work/undocumented")" || ok
expect 0 "$DPIPE" stop -w "$w"; wait $pid
finish
