#!/usr/bin/env bash
# Clients that mean no good, or are many: a thousand slow ones over HTTP, damaged requests over HTTP, the control socket and the feed's, wrong tokens, more
# connections than descriptors; and very many documents in quarantine. Others are answered meanwhile, and the service lives.
# DP_SLOW=N slow clients (1,000), DP_GARBLED=N damaged requests for each kind (600), DP_HELD=N documents in quarantine (20,000; `make fault`: 100,000)
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
probe=$BUILD/tests/fault/probe slow=${DP_SLOW:-1000} garbled=${DP_GARBLED:-600} held=${DP_HELD:-20000} 
trap 'kill -9 $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
wait_for() { local n=$(($1 * 20)); shift; while [ $n -gt 0 ]; do "$@" >/dev/null 2>&1 && return 0; sleep 0.05; n=$((n - 1)); done; return 1; }
up() { "$DPIPE" status -w "$w" | grep -q ^service:; }
idle() { "$DPIPE" status -w "$w" --json | grep -q '"state": "idle"'; }
corpus "$work/c" >/dev/null; mkdir "$work/in"; cp "$work"/c/site/p?.html "$work/in"
space() { "$DPIPE" init -q "$1"; printf 'sources: [%s]\nclean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 400}\nserve: {settle: 50ms, rescan: 1h, min_free: 0, retry_base: 1s, spool: false}\n' "$work/in" >"$1/recipe.yaml"; }
ms() { local t=$(date +%s%N); "$@" >"$work/out" 2>"$work/err" || bad "failed: $*: $(tail -1 "$work/err")"; took=$((($(date +%s%N) - t) / 1000000)); }
# under LIMIT WHAT: the last time is below; sanitizers and loaded machines get more
under() { if [ $took -lt $1 ]; then ok; else bad "$2 took $took ms, more than $1"; fi; echo "$2: $took ms" >&2; }
port=$((20000 + $$ % 20000)) w=$work/w; space "$w"; printf 'correct-horse-battery\n' >"$work/token"
"$DPIPE" serve -q -w "$w" --http "127.0.0.1:$port" --http-token-file "$work/token" >"$work/log" 2>&1 & pid=$!
wait_for 20 idle && ok || bad "the service isn't idle: $(tail -3 "$work/log")"
alive() { kill -0 $pid && "$probe" get "$w/http.sock" /livez >/dev/null && "$DPIPE" status -w "$w" | grep -q "^service: idle"; }
# slow WHERE: the longest wait of others
slow() { "$probe" slow "$1" "$2" 2 >"$work/o" || bad "slow clients at $1: $(cat "$work/o")"; echo "slow clients at ${1##*/}: $(cat "$work/o")" >&2
  [ "$(sed 's/.*worst_ms=//' "$work/o")" -lt 1000 ] && ok || bad "others waited for slow clients: $(cat "$work/o")"; }
slow "$w/http.sock" "$slow"; slow $port "$slow"; alive && ok || bad "the service isn't idle after slow clients"

stamp() { echo "$1: $SECONDS s" >&2; }; stamp slow
# Damaged requests; corpora of the fuzz targets, and what a client would say.
mkdir "$work/control" "$work/http" "$work/feed"; cp tests/fuzz/corpus/request/* "$work/control"; cp tests/fuzz/corpus/http_head/* "$work/http"; cp tests/fuzz/corpus/feed_wire/* tests/fuzz/corpus/channel/* "$work/feed"
for p in status stages 'jobs?limit=3&state=done' 'samples?reason=c4' drops sources events artifacts; do printf 'GET /api/v1/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$p" >"$work/http/${p%%\?*}"; done
for op in status pause resume drain rescan reload jobs retry loglevel; do printf '{"op":"%s","id":1,"limit":5,"level":"info","state":"done"}' $op >"$work/control/op-$op"; done
for k in "http $w/http.sock $work/http" "http $port $work/http" "control $w/control.sock $work/control"; do
  # shellcheck disable=SC2086
  "$probe" garble $k "$garbled" 3 >"$work/o" && ok || bad "damaged requests, $k: $(cat "$work/o")"
done
"$probe" token $port "$((garbled / 2))" correct-horse-battery >"$work/o" && ok || bad "tokens: $(cat "$work/o")"
"$DPIPE" resume -q -w "$w" 2>/dev/null; wait_for 20 alive && ok || bad "the service isn't idle after damaged requests: $(tail -3 "$work/log")"
expect 0 "$DPIPE" stop -w "$w"; wait $pid; same $? 0 "exit after damaged requests"
"$DPIPE" feed -q -w "$w" --serve "$work/sock" 2>"$work/log" & pid=$!; there() { [ -S "$work/sock" ]; }; wait_for 10 there
"$probe" garble feed "$work/sock" "$work/feed" "$garbled" 5 >"$work/o" && ok || bad "damaged feed requests: $(cat "$work/o")"
expect 0 timeout 60 "$DPIPE" feed -w "$work/none" --connect "$work/sock" --seq-len 16 --steps 3 --dump "$work/x"; kill -TERM $pid; wait $pid; same $? 0 "exit of the feed server after damaged requests"

stamp damaged
# Few descriptors: clients wait, work goes on.
w=$work/few; space "$w"; (ulimit -n 48; exec "$DPIPE" serve -q -w "$w" >"$work/log" 2>&1) & pid=$!
wait_for 20 idle && ok || bad "no work with 48 descriptors: $(tail -3 "$work/log")"
"$probe" slow "$w/http.sock" 100 2 >"$work/o" & sleep 0.5; words 77 200 >"$work/in/late.txt"; wait $!
late() { "$DPIPE" status -w "$w" --json | tr -d ' \n' | grep -q "\"stage\":\"ingest\",\"documents_in\":10,"; }
wait_for 60 late && ok || bad "a document didn't come while clients took all descriptors: $("$DPIPE" status -w "$w" | head -3; tail -3 "$work/log")"
expect 0 "$DPIPE" stop -w "$w"; wait $pid; same $? 0 "exit with 48 descriptors"

stamp few
# Many documents in quarantine.
w=$work/many; space "$w"; expect 0 "$DPIPE" run -q -w "$w" --until shard; mkdir "$w/quarantine"
(cd "$w/quarantine" && awk -v n="$held" 'BEGIN { for (i = 1; i <= n; i++) { u = sprintf("%08x%08x%016x", int(i / 4) * 48271 % 2147483647, int(i / 4), 0); id = sprintf("%032x", i); f = substr(u, 1, 16) "-" id
  printf "{\"unit\":\"%s\",\"path\":\"/data/a%d.jsonl\",\"position\":\"@%d\",\"url\":\"\",\"id\":\"%s\",\"stage\":\"extract\",\"reason\":\"crash\",\"what\":\"signal 11 (SIGSEGV)\",\"rows\":%d,\"round\":0,\"attempts\":2,\"time\":1790000000,\"bytes\":5}\nbytes", u, i, i, id, i >f; close(f) } }')
sync -f "$w" # what made them isn't measured
ms "$DPIPE" quarantine list -w "$w" --json; under 20000 "quarantine list of $held"; same "$(wc -l <"$work/out")" "$held" "documents listed"
name=$(sed -n '500s/.*"name":"\([^"]*\)".*/\1/p' "$work/out")
ms "$DPIPE" quarantine show -w "$w" "$name" --bytes; under 3000 "quarantine show"; same "$(cat "$work/out")" bytes "bytes shown"
ms "$DPIPE" quarantine retry -w "$w" "$name"; under 10000 "quarantine retry of one"; ms "$DPIPE" quarantine drop -w "$w" "$name"; under 3000 "quarantine drop of one"
t=$(date +%s%N); "$DPIPE" serve -q -w "$w" >"$work/log" 2>&1 & pid=$!; wait_for 20 up; took=$((($(date +%s%N) - t) / 1000000)); under 1000 "start of the service"
words 99 200 >"$work/in/more.txt"; more() { "$DPIPE" status -w "$w" --json | tr -d ' \n' | grep -q "\"stage\":\"ingest\",\"documents_in\":11,"; }; t=$(date +%s%N)
wait_for 30 more && ok || bad "a unit isn't published beside $held documents in quarantine"; took=$((($(date +%s%N) - t) / 1000000)); under 5000 "a unit"
expect 0 "$DPIPE" stop -w "$w"; wait $pid
ms "$DPIPE" quarantine retry -w "$w" --all; under 60000 "quarantine retry --all"; expect 0 "$DPIPE" quarantine list -w "$w" --json; same "$(grep -c '"state":"retry"' "$work/out")" $((held - 1)) "documents to be tried again"
ms "$DPIPE" run -q -w "$w" --until shard; under 60000 "a run behind it"
ms "$DPIPE" quarantine drop -w "$w" --all; under 120000 "quarantine drop --all"; same "$(find "$w/quarantine" -type f | wc -l)" 0 "documents left"
finish
