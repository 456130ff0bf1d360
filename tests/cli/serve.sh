#!/usr/bin/env bash
# The service from outside: files dropped in, pause and resume, reload, failures, disk, HTTP with and without a token, kill -9, stop.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
w=$work/w
trap 'kill -9 $(jobs -p) 2>/dev/null; umount "$work/small" 2>/dev/null; rm -rf "$work"' EXIT
recipe() { # recipe SOURCE [MORE]: a recipe that watches SOURCE
  printf 'sources: [%s]\nclean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 600}\nshards: {bytes_per_shard: 64K}\nserve: {settle: 300ms, rescan: 1h, min_free: %s, retry_base: 1s, retry_max: 1s, tries: 2%s}\n' "$1" "${3:-0}" "${2:-}"
}
serve() { "$DPIPE" serve -w "$1" "${@:2}" >>"$work/log" 2>&1 & pid=$!; }
# http SOCKET-OR-PORT PATH [HEADER]: status line and body. bash speaks TCP; the Unix socket is asked through the status command.
# In a shell of its own that a server which closes early doesn't kill.
http() ( trap '' PIPE; exec 8<>"/dev/tcp/127.0.0.1/$1" || exit 1; printf 'GET %s HTTP/1.1\r\nHost: localhost\r\n%bConnection: close\r\n\r\n' "$2" "${3:-}" >&8 2>/dev/null; timeout 10 cat <&8 )
# wait_for SECONDS COMMAND...: until it succeeds
wait_for() { local n=$(($1 * 20)); shift; while [ $n -gt 0 ]; do "$@" >/dev/null 2>&1 && return 0; sleep 0.05; n=$((n - 1)); done; return 1; }
ready() { http "$port" /readyz | grep -q '^HTTP/1.1 200'; }
state() { "$DPIPE" status -w "$w" --json | grep -q "\"state\": \"$1\""; }
documents() { "$DPIPE" status -w "$w" --json | tr -d ' \n' | grep -q "\"complete\":\[\"ingest\",\"clean\",\"dedup\",\"train-bpe\",\"tokenize\",\"shard\"\].*\"stage\":\"ingest\",\"documents_in\":$1,"; }
documents_made() { "$DPIPE" job list -w "$w" --state done --json | grep -q '"stage":"shard"'; }
port=$((20000 + $$ % 20000))

# Start, ask, drop files.
mkdir -p "$work/in"; "$DPIPE" init -q "$w"; recipe "$work/in" >"$w/recipe.yaml"
expect 74 "$DPIPE" pause -w "$w"; says "$work/err" "no service"
expect 78 "$DPIPE" serve -w "$w" --http 0.0.0.0:$port; says "$work/err" "http_token_file"
expect 78 "$DPIPE" serve -w "$w" --until trian; says "$work/err" "no stage"
serve "$w" --http 127.0.0.1:$port
wait_for 10 ready && ok || bad "not ready within 10 s: $(tail -3 "$work/log")"
expect 75 "$DPIPE" serve -w "$w"; says "$work/err" "has it"; expect 75 "$DPIPE" run -w "$w"; says "$work/err" "ask it"
for i in 1 2 3; do words $i 200 >"$work/in/t$i.txt"; done
wait_for 20 documents 3 && ok || bad "dropped files didn't become documents: $("$DPIPE" status -w "$w" | head -12; tail -3 "$work/log")"
words 4 200 >"$w/spool/s4.txt"; wait_for 20 documents 4 && ok || bad "a file in spool/ didn't become a document"
mkdir "$work/in/sub"; words 5 200 >"$work/in/sub/t5.txt"; wait_for 20 documents 5 && ok || bad "a file in a new folder didn't become a document"
# Half a file is no file: it is taken when its writer closes it.
(words 6 100; sleep 1.5; words 7 100) >"$work/in/slow.txt" & slow=$!
sleep 1.2; documents 5 && ok || bad "a file was taken while it was written"
wait $slow; wait_for 20 documents 6 && ok || bad "the finished file didn't become a document"
# Health, metrics, API.
http $port /livez >"$work/o"; says "$work/o" "HTTP/1.1 200"
http $port /metrics >"$work/o"; says "$work/o" 'dpipe_documents_in{stage="ingest"} 6'; says "$work/o" 'dpipe_state{state="idle"} 1'
sed '1,/^\r$/d' "$work/o" | awk '/^# (HELP|TYPE) dpipe_[a-z_]+ ./ { next } /^dpipe_[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.e+-]+$/ { n++; next } { print "bad line: " $0; bad = 1 } END { exit bad || n < 40 }' && ok || bad "metrics don't parse"
sed -n 's/^# TYPE \(dpipe_[a-z_]*\) .*/\1/p' "$work/o" | while read -r m; do grep -q "\`$m\`" docs/metrics.md || echo "$m"; done >"$work/undocumented"
[ -s "$work/undocumented" ] && bad "not in docs/metrics.md: $(cat "$work/undocumented")" || ok
for p in status runs stages jobs sources drops samples events artifacts; do http $port /api/v1/$p | sed '1,/^\r$/d' >"$work/o"; grep -q '^{.*}$' "$work/o" && ok || bad "/api/v1/$p: $(head -c 200 "$work/o")"; done
http $port '/api/v1/jobs?limit=2&state=done' >"$work/o"; says "$work/o" '"next":2'
http $port '/api/v1/jobs?limit=2&after=2' >"$work/o"; says "$work/o" '"id":3'
for p in '/api/v1/jobs?limit=x' '/api/v1/jobs?limit=100000' '/api/v1/jobs?state=../etc' '/%00' '/api/v1/samples?reason=%2e%2e%2f'; do http $port "$p" >"$work/o"; says "$work/o" "HTTP/1.1 400"; done
http $port /etc/passwd >"$work/o"; says "$work/o" "HTTP/1.1 404"
printf 'GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n' >"$work/q"; exec 8<>/dev/tcp/127.0.0.1/$port; cat "$work/q" >&8; head -1 <&8 >"$work/o"; exec 8>&-; says "$work/o" "421"
exec 8<>/dev/tcp/127.0.0.1/$port; printf 'POST /livez HTTP/1.1\r\nHost: localhost\r\n\r\n' >&8; head -1 <&8 >"$work/o"; exec 8>&-; says "$work/o" "405"
# Pause, resume, drain.
expect 0 "$DPIPE" pause -w "$w"; http $port /readyz >"$work/o"; says "$work/o" "HTTP/1.1 503"; says "$work/o" "paused"
words 8 200 >"$work/in/t8.txt"; sleep 1; documents 6 && ok || bad "a paused service worked"
expect 0 "$DPIPE" resume -w "$w"; wait_for 20 documents 7 && ok || bad "work didn't resume"
expect 0 "$DPIPE" drain -w "$w" --timeout 10; state drained && ok || bad "not drained"
expect 0 "$DPIPE" resume -w "$w"
# Reload: bad recipes are refused, a good one holds.
cp "$w/recipe.yaml" "$work/good"; printf 'serve: {rescan: never}\n' >"$w/recipe.yaml"
expect 78 "$DPIPE" reload -w "$w"; says "$work/err" "recipe.yaml:1"; kill -HUP $pid; sleep 0.3; kill -0 $pid && ok || bad "a bad recipe ended the service"
mkdir "$work/in2"; recipe "$work/in, $work/in2" >"$w/recipe.yaml"; expect 0 "$DPIPE" reload -w "$w"
words 9 200 >"$work/in2/t9.txt"; wait_for 20 documents 8 && ok || bad "the new recipe's source isn't watched"
# Jobs.
expect 0 "$DPIPE" job list -w "$w" --state done --limit 3; same "$(wc -l <"$work/out")" 3 "jobs listed"
expect 0 "$DPIPE" job show 1 -w "$w"; says "$work/out" "state     done"
expect 74 "$DPIPE" job show 99999 -w "$w"; expect 64 "$DPIPE" job retry -w "$w"; expect 74 "$DPIPE" job retry 99999 -w "$w"; expect 0 "$DPIPE" job retry --all -w "$w"
expect 0 "$DPIPE" loglevel debug -w "$w"; expect 64 "$DPIPE" loglevel loud -w "$w"; expect 0 "$DPIPE" rescan -w "$w"
expect 0 "$DPIPE" status -w "$w"; says "$work/out" "service:"
# SIGTERM.
t=$(date +%s%N); kill -TERM $pid; wait $pid; s=$?; ms=$((($(date +%s%N) - t) / 1000000))
same $s 0 "exit status at SIGTERM"; [ $ms -lt 10000 ] && ok || bad "SIGTERM took $ms ms"
expect 0 "$DPIPE" run -q -w "$w" --until shard --growth append --json; says "$work/out" '"made":0'

# A token: without it nothing but health; a wrong one is refused.
printf 'correct-horse-battery\n' >"$work/token"; port=$((port + 1)); serve "$w" --http "0.0.0.0:$port" --http-token-file "$work/token"
wait_for 10 ready && ok || bad "not ready with a token"
http $port /metrics >"$work/o"; says "$work/o" "HTTP/1.1 401"
http $port /metrics 'Authorization: Bearer correct-horse-batterz\r\n' >"$work/o"; says "$work/o" "HTTP/1.1 401"
http $port /metrics 'Authorization: Bearer correct-horse-battery\r\n' >"$work/o"; says "$work/o" "HTTP/1.1 200"
expect 0 "$DPIPE" stop -w "$w"; wait $pid

# TLS, with a certificate of this test's own.
if command -v openssl >/dev/null && openssl req -x509 -newkey rsa:2048 -nodes -keyout "$work/key.pem" -out "$work/cert.pem" -days 2 -subj /CN=localhost 2>/dev/null; then
  port=$((port + 1)); serve "$w" --http "127.0.0.1:$port" --http-token-file "$work/token" --tls-cert "$work/cert.pem" --tls-key "$work/key.pem"
  tls() { printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer correct-horse-battery\r\nConnection: close\r\n\r\n' "$1" | timeout 10 openssl s_client -quiet -verify_quiet -ign_eof -connect "127.0.0.1:$port" "${@:2}" 2>/dev/null; }
  tls_up() { tls /livez | grep -q "HTTP/1.1 200"; }
  wait_for 10 tls_up && ok || bad "no answer over TLS: $(tail -3 "$work/log")"
  tls /metrics -tls1_2 >"$work/o"; says "$work/o" "dpipe_ready 1"; tls /metrics -tls1_1 >"$work/o"; [ -s "$work/o" ] && bad "TLS 1.1 is answered" || ok
  http $port /livez >"$work/o" 2>/dev/null; grep -q HTTP/1.1 "$work/o" && bad "plain HTTP on the TLS port is answered" || ok
  expect 0 "$DPIPE" stop -w "$w"; wait $pid
  expect 78 "$DPIPE" serve -w "$w" --http "127.0.0.1:$port" --tls-cert "$work/cert.pem" --tls-key "$work/token"; says "$work/err" "token"
else echo "skip: no openssl program"; fi

# kill -9 again and again while it works, then the bytes of an unbroken run.
corpus "$work/c"; sleep 0.5; "$DPIPE" init -q "$work/whole"; recipe "$work/c" >"$work/whole/recipe.yaml"; expect 0 "$DPIPE" run -q -w "$work/whole" --until shard; want=$(store "$work/whole")
w=$work/k; "$DPIPE" init -q "$w"; recipe "$work/c" ', spool: false' >"$w/recipe.yaml"
for ms in 30 80 130 200 300 450; do serve "$w"; sleep "$(printf '0.%03d' $ms)"; kill -9 $pid; wait $pid 2>/dev/null; done
serve "$w"; wait_for 30 state idle && ok || bad "not idle after kills: $("$DPIPE" status -w "$w" | head -3)"
expect 0 "$DPIPE" stop -w "$w"; wait $pid; same "$(store "$w")" "$want" "store after kills"; diff <(ls "$work/whole/store") <(ls "$w/store"); same "$(ls "$w/tmp" | wc -l)" 0 "files in tmp/"
# SIGTERM in the middle: nothing lost, nothing counted as a failure.
rm -rf "$w"; "$DPIPE" init -q "$w"; recipe "$work/c" ', drain_timeout: 0' >"$w/recipe.yaml"
for ms in 50 150 250; do serve "$w"; sleep "$(printf '0.%03d' $ms)"; kill -TERM $pid; wait $pid; same $? 0 "exit at SIGTERM after $ms ms"; done
serve "$w"; wait_for 30 state idle && ok || bad "not idle after SIGTERMs"; "$DPIPE" job list -w "$w" --state failed >"$work/o"; [ -s "$work/o" ] && bad "a stop counted as a failure: $(cat "$work/o")" || ok
expect 0 "$DPIPE" stop -w "$w"; wait $pid; same "$(store "$w")" "$want" "store after SIGTERMs"

# What earlier states left goes: after documents came one by one the store is that of a run over all of them (tests/cli/serve_growth.sh: when it appends).
w=$work/r; mkdir "$work/grow"; "$DPIPE" init -q "$w"; recipe "$work/grow" ', spool: false, keep: 1s' | sed 's/64K}/64K, growth: rebuild}/' >"$w/recipe.yaml"; serve "$w"
for i in 1 2 3 4; do words $((40 + i)) 250 >"$work/grow/g$i.txt"; wait_for 20 documents $i && ok || bad "document $i didn't come"; done
"$DPIPE" init -q "$work/r2"; recipe "$work/grow" >"$work/r2/recipe.yaml"; expect 0 "$DPIPE" run -q -w "$work/r2" --until shard; want_grown=$(store "$work/r2")
gone() { "$DPIPE" rescan -q -w "$w" && [ "$(store "$w")" = "$want_grown" ]; }
[ "$(ls "$w/store" | wc -l)" -gt "$(ls "$work/r2/store" | wc -l)" ] && ok || bad "nothing was superseded"
wait_for 20 gone && ok || bad "superseded artifacts stay: $(diff <(ls "$work/r2/store") <(ls "$w/store"))"
kill -9 $pid; wait $pid 2>/dev/null; words 50 250 >"$work/grow/g5.txt"; serve "$w"; wait_for 20 documents 5 && ok || bad "no fifth document"
rm -rf "$work/r2"; "$DPIPE" init -q "$work/r2"; recipe "$work/grow" >"$work/r2/recipe.yaml"; expect 0 "$DPIPE" run -q -w "$work/r2" --until shard; want_grown=$(store "$work/r2")
wait_for 20 gone && ok || bad "superseded artifacts stay after a kill: $(diff <(ls "$work/r2/store") <(ls "$w/store"))"
expect 0 "$DPIPE" stop -w "$w"; wait $pid; "$DPIPE" verify -w "$w" >/dev/null && ok || bad "the kept state doesn't verify"

# A unit that fails (its publication does, once, by the fault shim): given up after `tries`, the rest goes on; retried by request.
w=$work/e; mkdir -p "$work/ill"; words 30 30000 >"$work/ill/a.txt"; words 31 300 >"$work/well.txt"; "$DPIPE" init -q "$w"; recipe "$work/ill/a.txt, $work/well.txt" ', spool: false' | sed 's/tries: 2/tries: 1/' >"$w/recipe.yaml"
number() { "$DPIPE" status -w "$w" --json | grep -q "\"$1\": $2,"; }
if [ -e "$BUILD/tests/fault/shim_fail.so" ] && [ -z "${DP_SANITIZED:-}" ]; then
  DP_FAIL=rename:EIO:1 LD_PRELOAD=$BUILD/tests/fault/shim_fail.so "$DPIPE" serve -w "$w" --threads 1 >>"$work/log" 2>&1 & pid=$!
  wait_for 20 number units_given_up 1 && ok || bad "the unit isn't given up: $("$DPIPE" status -w "$w" | head -3)"
  "$DPIPE" job list -w "$w" --state failed >"$work/o"; says "$work/o" " 1 failures"; says "$work/o" "Input/output error"; wait_for 20 documents_made && ok || bad "the rest doesn't go on"
  expect 0 "$DPIPE" job retry --all -w "$w"; wait_for 20 documents 2 && ok || bad "a retried unit didn't come"
  number units_given_up 0 && ok || bad "still given up"; expect 0 "$DPIPE" stop -w "$w"; wait $pid
else echo "skip: no fault shim"; fi
# A root that is gone (a disk that isn't mounted) stops nothing, and nothing that was registered from it is forgotten.
w=$work/f; mkdir -p "$work/bad" "$work/fine"; words 20 300 >"$work/bad/a.txt"; words 21 300 >"$work/fine/b.txt"
"$DPIPE" init -q "$w"; recipe "$work/bad/a.txt, $work/fine" ', spool: false' >"$w/recipe.yaml"; "$DPIPE" ingest -q -w "$w" --register-only "$work/bad/a.txt" "$work/fine"
mv "$work/bad" "$work/away"; serve "$w"
wait_for 20 documents_made 1 && ok || bad "one vanished source stopped the others: $(tail -3 "$work/log")"
sleep 4; number units_given_up 0 && ok || bad "a missing source counted as a failure"
mv "$work/away" "$work/bad"; expect 0 "$DPIPE" rescan -w "$w"; wait_for 20 documents 2 && ok || bad "a source that came back wasn't read"
expect 0 "$DPIPE" stop -w "$w"; wait $pid

# A full disk: pause, say so, resume alone.
mkdir "$work/small"
if mount -t tmpfs -o size=24m none "$work/small" 2>/dev/null; then
  w=$work/small/w; "$DPIPE" init -q "$w"; recipe "$work/c" '' 4M >"$w/recipe.yaml"; dd if=/dev/zero of="$work/small/ballast" bs=1M count=21 2>/dev/null
  port=$((port + 1)); serve "$w" --http 127.0.0.1:$port
  wait_for 10 state "paused: disk" && ok || bad "no pause at the low mark: $("$DPIPE" status -w "$w" | head -3)"
  http $port /readyz >"$work/o"; says "$work/o" "HTTP/1.1 503"; says "$work/o" "disk"
  rm "$work/small/ballast"; wait_for 30 state idle && ok || bad "no resume: $(tail -3 "$work/log")"; same "$(store "$w")" "$want" "store after a low disk"
  expect 0 "$DPIPE" stop -w "$w"; wait $pid
  rm -rf "$w"; "$DPIPE" init -q "$w"; recipe "$work/c" >"$w/recipe.yaml"; : >"$w/catalog.db"; "$DPIPE" status -w "$w" >/dev/null; n=$(df --output=avail -k "$work/small" | tail -1)
  dd if=/dev/zero of="$work/small/ballast" bs=1k count=$((n - 300)) 2>/dev/null; serve "$w"
  wait_for 20 state "paused: disk" && ok || bad "no pause at ENOSPC: $(tail -3 "$work/log")"
  rm "$work/small/ballast"; wait_for 40 state idle && ok || bad "no resume after ENOSPC: $("$DPIPE" status -w "$w" | head -4; tail -5 "$work/log")"
  "$DPIPE" job list -w "$w" --state failed >"$work/o"; [ -s "$work/o" ] && bad "a full disk counted as a failure: $(cat "$work/o")" || ok
  same "$(store "$w")" "$want" "store after ENOSPC"; diff <(ls "$work/whole/store") <(ls "$w/store"); expect 0 "$DPIPE" stop -w "$w"; wait $pid; umount "$work/small"
else echo "skip: no tmpfs can be mounted here"; fi
finish
