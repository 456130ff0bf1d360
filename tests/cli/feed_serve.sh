#!/usr/bin/env bash
# dpipe feed --serve and --connect: what a client dumps is what a local feed dumps, also when the server is killed under it; SIGTERM ends cleanly.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
corpus "$work/c"; workspace "$work/a" "$work/c"; expect 0 "$DPIPE" run -q -w "$work/a" --until shard
by='pages=source:*.warc.gz,lines=source:lines.jsonl'; sock=$work/sock
serve() { "$DPIPE" feed -q -w "$work/a" --domains "$by" --mixture pages=1,lines=1 --serve "$sock" 2>>"$work/server" & server=$!; }
away() { local i; for i in $(seq 200); do [ -S "$sock" ] && return; sleep 0.02; done; bad "no socket"; }
local_() { "$DPIPE" feed -w "$work/a" --domains "$by" --dump "$@"; }
there() { timeout 100 "$DPIPE" feed -w "$work/none" --connect "$sock" --dump "$@"; }
expect 74 there "$work/x"; says "$work/err" "no feed server is there"
expect 64 "$DPIPE" feed --connect "$sock" --serve "$sock"
serve; away
# What a client doesn't say is as the server's recipe and flags say.
expect 0 there "$work/x" --steps 5; expect 0 local_ "$work/y" --mixture pages=1,lines=1 --steps 5; cmp "$work/x" "$work/y" && ok || bad "defaults"
for r in 0 1 2; do
  more="--mixture pages=0.3,lines=0.7;90:lines=1 --seed 9 --seq-len 32 --batch 5 --rank $r --world 3 --pack bestfit --start 30 --steps 40"
  there "$work/x$r" $more >/dev/null & eval "p$r=$!"; expect 0 local_ "$work/y$r" $more
done
for r in 0 1 2; do eval "wait \$p$r" && ok || bad "client $r"; cmp "$work/x$r" "$work/y$r" && ok || bad "rank $r of 3"; done
expect 65 there "$work/x" --seq-len 1000000 --batch 1000; says "$work/err" "limit of a ring"
expect 78 there "$work/x" --mixture nobody=1; says "$work/err" "nobody"
expect 64 there "$work/x" --domains "x=/etc/passwd"; says "$work/err" "server's business"
expect 75 "$DPIPE" feed -q -w "$work/a" --serve "$sock"; says "$work/err" "another server"
# kill -9 under a client that is not done, three times.
expect 0 local_ "$work/y" --mixture pages=1,lines=1 --seed 4 --steps 30000; mkfifo "$work/pipe"
there "$work/pipe" --seed 4 --steps 30000 >"$work/said" 2>"$work/talk" & client=$!
{ for i in 1 2 3; do head -c 10000000; kill -9 $server; wait $server 2>/dev/null; serve; done; cat; } <"$work/pipe" >"$work/x"
wait $client && ok || bad "client of a killed server: $(cat "$work/talk")"
cmp "$work/x" "$work/y" && ok || bad "after kill -9"
says "$work/said" '"reconnects":3'; says "$work/talk" "the feed server is gone"; says "$work/talk" "connected again, at sample"
away; kill -TERM $server; wait $server; same $? 0 "exit after SIGTERM"; [ -e "$sock" ] && bad "the socket is left" || ok
finish
