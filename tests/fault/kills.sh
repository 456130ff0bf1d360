#!/usr/bin/env bash
# kill -9 at random moments: of `dpipe run`, of the service, of workers, of the feed's server and of its consumer. Afterwards nothing is lost, doubled or
# changed: the store's bytes are those of an unbroken run, a dump's bytes those of an unbroken dump, the catalog is whole, and nothing is left in
# tmp/, in /dev/shm or among the processes. What each kill hit is counted and printed, so that they can't all have been at the start.
# DP_KILLS=N: about so many kills in all (default 330); DP_SEED: the random seed. `make fault` does thousands.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
probe=$BUILD/tests/fault/probe total=${DP_KILLS:-330} seed=${DP_SEED:-1}
trap 'kill -9 $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
export DPIPE_TEST_FAULT="mark-$$-$RANDOM" # no document holds it; worker processes keep it, so that theirs are found
mkdir "$work/none"; ls /dev/shm >"$work/shm" 2>/dev/null; : >"$work/hits"
mark() { sed "s/^/$1 /" >>"$work/hits"; }
hits() { grep -c "^$1 " "$work/hits"; }
missed() { grep -c "^$1 missed" "$work/hits"; }
stamp() { echo "$1: $SECONDS s" >&2; }
left() { # of processes that end by themselves a moment later: wait for it
  local i; for i in $(seq 100); do "$probe" leaks "$DPIPE_TEST_FAULT" >"$work/leaks" 2>&1 && { ok; return; }; sleep 0.1; done; bad "$1: $(cat "$work/leaks")"
}
whole() { # whole WORKSPACE WANT WHAT
  same "$(store "$1")" "$2" "$3: store"; same "$(ls "$1/tmp" | wc -l)" 0 "$3: files in tmp/"; same "$("$probe" catalog "$1/catalog.db" 2>&1)" ok "$3: catalog"
}
# span COMMAND...: its time in microseconds
span() { local t=$(date +%s%N); "$@" >/dev/null 2>&1; echo $((($(date +%s%N) - t) / 1000)); }

# `dpipe run`, until it comes to its end: all of the road, training with checkpoints too.
corpus "$work/c"; workspace "$work/proto" "$work/c" 2>/dev/null
cp -r "$work/proto" "$work/whole"; expect 0 "$DPIPE" run -q -w "$work/whole"; want=$(store "$work/whole")
cp -r "$work/proto" "$work/t"; us=$(span "$DPIPE" run -q -w "$work/t"); n=0
while [ $(($(hits run) - $(missed run))) -lt $((total * 32 / 100)) ] && [ $n -lt "$total" ]; do
  n=$((n + 1)) w=$work/r; rm -rf "$w"; cp -r "$work/proto" "$w"
  for k in 1 2 3 4 5 6 7 8; do "$probe" kill "$w" $((seed * 7919 + n * 8 + k)) 3000 "$us" self "$work/log" -- "$DPIPE" run -q -w "$w" $([ $((k % 3)) = 0 ] && echo --isolate=process) | mark run; tail -1 "$work/hits" | grep -q missed && break; done
  "$DPIPE" run -q -w "$w" >/dev/null 2>"$work/err" || bad "run after kills: $(tail -1 "$work/err")"
  whole "$w" "$want" "run, chain $n"
done
left "a process outlives its killed run"
for k in 1 2 3 4 5; do # and SIGTERM: a clean stop, then the same end
  w=$work/r; rm -rf "$w"; cp -r "$work/proto" "$w"; "$DPIPE" run -q -w "$w" >/dev/null 2>&1 & pid=$!
  sleep 0.0$((k * 13)); kill -TERM $pid 2>/dev/null; wait $pid; s=$?; [ $s = 75 ] || [ $s = 0 ] || [ $s = 143 ] && ok || bad "SIGTERM gave exit $s"
  [ $s = 143 ] || same "$(ls "$w/tmp" | wc -l)" 0 "files in tmp/ after SIGTERM"; expect 0 "$DPIPE" run -q -w "$w"; whole "$w" "$want" "after SIGTERM"
done

stamp run
# The service, while files come in.
recipe() { printf 'sources: [%s]\nclean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 400}\nshards: {bytes_per_shard: 64K, growth: rebuild}\nserve: {settle: 20ms, rescan: 1h, min_free: 0, retry_base: 1s, keep: 1s}\n' "$work/in"; }
for chain in 1 2; do
  w=$work/s; rm -rf "$w" "$work/in" "$work/one"; mkdir "$work/in"; "$DPIPE" init -q "$w"; recipe >"$w/recipe.yaml"
  for i in $(seq 1 $((total * 16 / 100))); do
    words $((i * 10 + chain)) 200 >"$work/in/f$i.txt"
    (sleep 0.0$((RANDOM % 8)); words $((i * 10 + chain + 5)) 200 >"$work/in/g$i.txt") &
    if [ $((i % 10)) = 0 ]; then
      "$DPIPE" serve -q -w "$w" >>"$work/log" 2>&1 & pid=$!; for _ in $(seq 200); do "$DPIPE" status -w "$w" 2>/dev/null | grep -q ^service: && break; sleep 0.01; done
      kill -TERM $pid; wait $pid; same $? 0 "exit at SIGTERM"
    fi
    "$probe" kill "$w" $((seed * 104729 + chain * 1000 + i)) 2000 160000 self "$work/log" -- "$DPIPE" serve -q -w "$w" | mark serve; wait
  done
  "$DPIPE" init -q "$work/one"; recipe >"$work/one/recipe.yaml"; expect 0 "$DPIPE" run -q -w "$work/one" --until shard
  "$DPIPE" serve -q -w "$w" >>"$work/log" 2>&1 & pid=$!
  settled() { "$DPIPE" rescan -q -w "$w" 2>/dev/null && [ "$(store "$w" 2>/dev/null)" = "$(store "$work/one")" ]; }
  for _ in $(seq 300); do settled && break; sleep 0.1; done
  "$DPIPE" job list -w "$w" --state failed >"$work/o"; [ -s "$work/o" ] && bad "a kill counted as a failure: $(cat "$work/o")" || ok
  expect 0 "$DPIPE" stop -w "$w"; wait $pid; whole "$w" "$(store "$work/one")" "service, chain $chain"
done
left "a process outlives its killed service"

stamp serve
# Workers of a run.
lines() { awk -v s="$2" -v n="$3" 'BEGIN { k = split("the of and to in that with have time people water light house river stone green walk speak large small morning garden", w, " "); x = s * 7919 + 17;
  for (d = 1; d <= n; d++) { t = ""; for (i = 1; i <= 130; i++) { x = (x * 1103515245 + 12345) % 2147483648; t = t w[int(x / 65536) % k + 1] (i % 11 ? " " : ". ") } printf "{\"text\":\"%s\"}\n", t } }' >"$1"; }
for i in 1 2 3 4; do lines "$work/k$i.jsonl" $((i + 20)) 2500; done
"$DPIPE" init -q "$work/wp"; printf 'clean: {c4: {enabled: false}, gopher_repetition: {enabled: false}}\n' >"$work/wp/recipe.yaml"; "$DPIPE" ingest -q -w "$work/wp" --register-only "$work"/k?.jsonl
cp -r "$work/wp" "$work/ww"; expect 0 "$DPIPE" run -q -w "$work/ww" --until dedup; want_w=$(store "$work/ww"); n=0
while [ "$(hits worker)" -lt $((total * 12 / 100)) ] && [ $n -lt "$total" ]; do
  n=$((n + 1)) w=$work/wk; rm -rf "$w"; cp -r "$work/wp" "$w"
  "$probe" kill "$w" $((seed * 31 + n)) 0 80000 worker "$work/err" -- "$DPIPE" run -q -w "$w" --until dedup --isolate=process --threads 2 >"$work/o" && ok || bad "run with killed workers: $(cat "$work/o"; tail -1 "$work/err")"
  grep worker "$work/o" | mark worker; whole "$w" "$want_w" "killed workers, run $n"
  [ -e "$w/quarantine" ] && bad "an innocent document is in quarantine" || ok
done
left "a worker is left"

stamp workers
# The feed's server under a consumer that goes on, at random places of the stream and while it starts; then consumers, each going on where
# the last whole batch of the one before ended.
sock=$work/sock more="--seq-len 32 --batch 5 --seed 9 --pack bestfit" bytes=$((5 * 33 * 4)) steps=40000
feed() { "$DPIPE" feed -q -w "$work/whole" --serve "$sock" 2>>"$work/server" & server=$!; }
expect 0 "$DPIPE" feed -w "$work/whole" $more --steps $steps --dump "$work/dump"
feed; for _ in $(seq 200); do [ -S "$sock" ] && break; sleep 0.02; done
n=$((total * 12 / 100)); mkfifo "$work/pipe"
timeout 300 "$DPIPE" feed -w "$work/none" --connect "$sock" $more --steps $steps --dump "$work/pipe" >"$work/said" 2>"$work/talk" & client=$!
{
  for i in $(seq 1 $n); do
    head -c $((bytes * steps / (n + 2) - 4000 + RANDOM % 8000))
    kill -9 $server && echo serving | mark feed-server; wait $server 2>/dev/null; feed
    if [ $((i % 4)) = 0 ]; then sleep 0.00$((RANDOM % 10)); kill -9 $server && echo starting | mark feed-server; wait $server 2>/dev/null; feed; fi
  done; cat
} <"$work/pipe" >"$work/got" 2>/dev/null
wait $client && ok || bad "client of a killed server: $(tail -3 "$work/talk")"
cmp -s "$work/dump" "$work/got" && ok || bad "the consumer's dump isn't that of an unbroken feed, after $n killed servers"
[ "$(grep -o '"reconnects":[0-9]*' "$work/said" | cut -d: -f2)" -ge $n ] && ok || bad "reconnects: $(cat "$work/said")"
stamp server; : >"$work/got"; n=0
while [ "$(hits consumer)" -lt $((total * 12 / 100)) ] && [ $n -lt 100000 ]; do
  n=$((n + 1)) at=$(($(stat -c %s "$work/got") / bytes)); truncate -s $((at * bytes)) "$work/got"; rm -f "$work/part"
  [ $at -ge $((steps * 9 / 10)) ] && { cmp -s -n $((at * bytes)) "$work/got" "$work/dump" && ok || bad "a resumed dump differs"; : >"$work/got"; continue; }
  # shellcheck disable=SC2086
  "$probe" kill "$work/none" $((seed * 17 + n)) 2000 30000 self "$work/log" -- "$DPIPE" feed -w "$work/none" --connect "$sock" $more --start $((at * 5)) --steps $((steps - at)) --dump "$work/part" >"$work/o"
  if grep -q missed "$work/o"; then mark consumer <"$work/o"; elif [ -s "$work/part" ]; then echo reading | mark consumer; else echo connecting | mark consumer; fi
  [ -e "$work/part" ] && cat "$work/part" >>"$work/got"
done
cmp -s -n "$(stat -c %s "$work/got")" "$work/got" "$work/dump" && ok || bad "the dump of $n killed consumers isn't that of an unbroken feed"
# shellcheck disable=SC2086
at=$(($(stat -c %s "$work/got") / bytes)); truncate -s $((at * bytes)) "$work/got"; expect 0 "$DPIPE" feed -w "$work/none" --connect "$sock" $more --start $((at * 5)) --steps $((steps - at)) --dump "$work/part"
cat "$work/part" >>"$work/got"; cmp -s "$work/dump" "$work/got" && ok || bad "the whole dump of killed consumers isn't that of an unbroken feed"
stamp feed
# The server's descriptors: those of dead consumers are closed.
for _ in $(seq 50); do fds=$(ls /proc/$server/fd | wc -l); [ "$fds" -lt 24 ] && break; sleep 0.1; done; [ "$fds" -lt 24 ] && ok || bad "the feed server holds $fds descriptors of dead consumers"
kill -TERM $server; wait $server; same $? 0 "exit of the feed server"; left "a feed process is left"

same "$(ls /dev/shm 2>/dev/null | comm -13 "$work/shm" - | grep -c dpipe)" 0 "files in /dev/shm"
echo "kills by what was killed and what it was at:" >&2; sort "$work/hits" | uniq -c | sed 's/^/  /' >&2
hit=$(grep -vc missed "$work/hits"); busy=$(grep -vcE "missed|start|connecting" "$work/hits"); echo "$hit kills hit a live process, $busy of them at work" >&2
[ "$hit" -ge $((total * 90 / 100)) ] && ok || bad "only $hit kills hit a live process"
[ "$busy" -ge $((hit / 2)) ] && ok || bad "only $busy of $hit kills hit work"
for p in "run writing-documents" "run behind-" "run writing-shards\|run writing-train" "serve writing-" "serve behind-" "worker worker-at-work" "worker worker-starting" "feed-server serving" "consumer reading"; do
  grep -q "$p" "$work/hits" && ok || bad "no kill hit \"$p\""
done
finish
