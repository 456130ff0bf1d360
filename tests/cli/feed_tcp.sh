#!/usr/bin/env bash
# dpipe feed over TCP: token, TLS, compression, masks; servers and clients that are killed again and again. What comes is always what a local feed dumps.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
corpus "$work/c"; workspace "$work/a" "$work/c"; expect 0 "$DPIPE" run -q -w "$work/a" --until shard
echo correct-horse-battery >"$work/token"; echo wrong-horse-battery >"$work/wrong"; port=0; secure=()
serve() { "$DPIPE" feed -w "$work/a" --serve "127.0.0.1:$port" --token-file "$work/token" "${secure[@]}" "$@" 2>>"$work/server" & server=$!; }
away() { local i; for i in $(seq 400); do port=$(sed -n 's/.*, port \([0-9]*\)$/\1/p' "$work/server" | tail -1); [ -n "$port" ] && return; sleep 0.02; done; bad "no port: $(cat "$work/server")"; }
there() { timeout 100 "$DPIPE" feed -w "$work/none" --connect "127.0.0.1:$port" --token-file "$work/token" "$@"; }
local_() { "$DPIPE" feed -w "$work/a" "$@"; }
stop() { kill -TERM "$server"; wait "$server"; same $? 0 "exit after SIGTERM"; }
# What others can reach is guarded, or isn't opened.
expect 78 "$DPIPE" feed -w "$work/a" --serve '*:0'; says "$work/err" "needs a token"
expect 78 "$DPIPE" feed -w "$work/a" --serve '127.0.0.1:0' --tls-ca "$work/token"; says "$work/err" "TLS"
expect 74 "$DPIPE" feed --connect 127.0.0.1:1 --dump "$work/x"; says "$work/err" "no server is there"
serve --clients 3; away
expect 78 "$DPIPE" feed --connect "127.0.0.1:$port" --dump "$work/x"; says "$work/err" "token"
expect 78 "$DPIPE" feed --connect "127.0.0.1:$port" --token-file "$work/wrong" --dump "$work/x"; says "$work/err" "token"
expect 0 there --steps 5 --dump "$work/x"; expect 0 local_ --steps 5 --dump "$work/y"; cmp "$work/x" "$work/y" && ok || bad "defaults"
# Ranks, packing, masks, compression: byte for byte.
for r in 0 1 2; do
  more="--seed 9 --seq-len 32 --batch 5 --rank $r --world 3 --pack bestfit --start 30 --steps 40"
  there $more --compress $r --dump "$work/x$r" --dump-meta "$work/mx$r" >/dev/null & eval "p$r=$!"; expect 0 local_ $more --dump "$work/y$r" --dump-meta "$work/my$r"
done
for r in 0 1 2; do eval "wait \$p$r" && ok || bad "client $r"; cmp "$work/x$r" "$work/y$r" && ok || bad "rank $r of 3"; cmp "$work/mx$r" "$work/my$r" && ok || bad "masks of rank $r"; done
says "$work/mx0" '"masked":['
expect 65 there --seq-len 1000000 --batch 1000; says "$work/err" "limit of a ring"
expect 78 there --mixture nobody=1
kill -9 "$server"; wait "$server" 2>/dev/null
# kill -9 of servers under one client, in the middle of frames.
serve; expect 0 local_ --seed 4 --steps 20000 --dump "$work/y"; mkfifo "$work/pipe"
there --seed 4 --steps 20000 --compress 1 --dump "$work/pipe" >"$work/said" 2>"$work/talk" & client=$!
{ for i in 1 2 3 4; do head -c 7654321; kill -9 $server; wait $server 2>/dev/null; serve; done; cat; } <"$work/pipe" >"$work/x"
wait $client && ok || bad "client of a killed server: $(cat "$work/talk")"
cmp "$work/x" "$work/y" && ok || bad "after kill -9 of servers"
says "$work/said" '"reconnects":4'; says "$work/talk" "the feed server is gone"; says "$work/talk" "connected again, at sample"
# kill -9 of clients: the next one goes on behind the last whole batch that it has.
batch=$((8 * 1025 * 4)); : >"$work/x"; total=$(stat -c %s "$work/y")
for i in $(seq 60); do
  done_=$(($(stat -c %s "$work/x") / batch)); truncate -s $((done_ * batch)) "$work/x"; [ $done_ -ge 20000 ] && break
  if [ $i -lt 8 ]; then
    "$DPIPE" feed --connect "127.0.0.1:$port" --token-file "$work/token" --seed 4 --start $((done_ * 8)) --steps $((20000 - done_)) --dump - 2>/dev/null >>"$work/x" & client=$!
    sleep 0.$((i * 13 % 20 + 10)); kill -9 $client; wait $client 2>/dev/null
  else expect 0 there --seed 4 --start $((done_ * 8)) --steps $((20000 - done_)) --dump "$work/rest"; cat "$work/rest" >>"$work/x"; fi
done
cmp "$work/x" "$work/y" && ok || bad "after kill -9 of clients"
stop
# TLS, with certificates of both sides.
if command -v openssl >/dev/null && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/ca.key" -out "$work/ca.pem" -days 2 -subj /CN=ca 2>/dev/null; then
  for n in server client; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/$n.key" -out "$work/$n.csr" -subj /CN=$n 2>/dev/null
    openssl x509 -req -in "$work/$n.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 -out "$work/$n.pem" -extfile <(echo subjectAltName=IP:127.0.0.1,DNS:feed.example) 2>/dev/null
  done
  secure=(--tls-cert "$work/server.pem" --tls-key "$work/server.key" --tls-ca "$work/ca.pem"); port=0; : >"$work/server"; serve; away
  mine="--tls-cert $work/client.pem --tls-key $work/client.key"
  expect 0 there --tls-ca "$work/ca.pem" $mine --seed 4 --steps 300 --dump "$work/x"; cmp -n $((300 * batch)) "$work/x" "$work/y" && ok || bad "over TLS"
  expect 0 there --tls-ca "$work/ca.pem" --tls-host feed.example $mine --compress 3 --seed 4 --steps 300 --dump "$work/x"; cmp -n $((300 * batch)) "$work/x" "$work/y" && ok || bad "over TLS, compressed"
  expect 78 there --tls-ca "$work/ca.pem" --seed 4 --steps 3 --dump "$work/x"
  expect 78 there --tls $mine --seed 4 --steps 3 --dump "$work/x"; says "$work/err" "certificate"
  expect 78 there --tls-ca "$work/ca.pem" --tls-host elsewhere.example $mine --seed 4 --steps 3 --dump "$work/x"; says "$work/err" "certificate"
  stop
else echo "skip: no openssl program"; fi
finish
