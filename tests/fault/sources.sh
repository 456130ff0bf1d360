#!/usr/bin/env bash
# What a service meets in its folders and on its clock: files that change while they are read, that can't be read, whose read never comes back; FIFOs,
# more events than the kernel queues, folders that never rest, a wall clock that jumps, stopped workers. In the end, the store of one run.
# DP_CHANGES=N: how often a file changes under the service (default 400).
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
probe=$BUILD/tests/fault/probe changes=${DP_CHANGES:-400}
trap 'touch "$work/stop" 2>/dev/null; rm -f "$work/hang"; kill -CONT $(jobs -p) 2>/dev/null; kill -9 $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
recipe() { printf 'sources: [%s]\nclean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 400}\nshards: {bytes_per_shard: 64K, growth: rebuild}\nserve: {settle: 300ms, rescan: %s, min_free: 0, retry_base: 1s, retry_max: 2s, tries: 9, keep: 1s, spool: false}\n' "$1" "${2:-1h}"; }
space() { "$DPIPE" init -q "$1"; recipe "$2" "${3:-}" >"$1/recipe.yaml"; }
wait_for() { local n=$(($1 * 20)); shift; while [ $n -gt 0 ]; do "$@" >/dev/null 2>&1 && return 0; sleep 0.05; n=$((n - 1)); done; return 1; }
state() { "$DPIPE" status -w "$w" --json | grep -q "\"state\": \"$1\""; }
up() { "$DPIPE" status -w "$w" | grep -q ^service:; }
store_is() { [ "$(store "$w")" = "$1" ]; }
rescanned() { "$DPIPE" rescan -q -w "$w" && store_is "$1"; }
# settles WHAT SOURCE: the service's store becomes that of a run over SOURCE (asked to look again, so that what is superseded goes)
settles() {
  rm -rf "$work/one"; space "$work/one" "$2"; "$DPIPE" run -q -w "$work/one" --until shard 2>/dev/null; local want; want=$(store "$work/one")
  wait_for 40 rescanned "$want" && ok || bad "$1: $("$DPIPE" status -w "$w" | head -3; diff <(ls "$work/one/store") <(ls "$w/store") | head -5; tail -3 "$work/log")"
  "$DPIPE" job list -w "$w" --state failed >"$work/o"; [ -s "$work/o" ] && bad "$1: counted as a failure: $(cat "$work/o")" || ok
}
stopped() { local t=$SECONDS; kill -TERM $pid; wait $pid; same $? 0 "$1: exit at SIGTERM"; [ $((SECONDS - t)) -lt 10 ] && ok || bad "$1: SIGTERM took $((SECONDS - t)) s"; }

# Workers that somebody stops: their documents are innocent, and they don't outlive their broker. Beside the rest, since it takes
# the limit of wall-clock time, ten seconds.
stopped_workers() {
  lines() { awk 'BEGIN { for (d = 1; d <= 9000; d++) { t = ""; for (i = 1; i <= 60; i++) t = t "the water of house " d * i % 977 " and "; printf "{\"text\":\"%s.\"}\n", t } }'; }
  lines >"$work/l.jsonl"; passed=0 failed=0 w=$work/st; "$DPIPE" init -q "$w"; printf 'clean: {c4: {enabled: false}, gopher_repetition: {enabled: false}}\nworkers: {isolate: process, doc_seconds: 1}\n' >"$w/recipe.yaml"
  "$DPIPE" ingest -q -w "$w" --register-only "$work/l.jsonl"
  a_worker() { cat /proc/$pid/task/*/children 2>/dev/null | tr ' ' '\n' | grep -m1 .; }
  at_work() { v=$(a_worker) && grep -q 'Seccomp:.2' "/proc/$v/status"; }
  "$DPIPE" run -w "$w" --until clean >/dev/null 2>"$work/err.st" & pid=$!
  if wait_for 10 at_work && kill -STOP "$v"; then
    wait $pid; same $? 0 "run with a stopped worker"; [ -e "$w/quarantine" ] && bad "a stopped worker's document is in quarantine" || ok; says "$work/err.st" "it was stopped"
    rm -rf "$w/store" "$w/catalog.db"*; mkdir "$w/store"; "$DPIPE" ingest -q -w "$w" --register-only "$work/l.jsonl"; "$DPIPE" run -q -w "$w" --until clean >/dev/null 2>&1 & pid=$!
    wait_for 10 at_work && kill -STOP "$v"; kill -9 $pid; wait $pid 2>/dev/null; gone() { ! kill -0 "$v"; }; wait_for 10 gone && ok || bad "a stopped worker outlives its broker"
  else bad "no worker to stop"; fi
  echo "$passed $failed" >"$work/st.sums"
}
stopped_workers >"$work/st.out" 2>&1 & beside=$!


# A file that is appended to, cut, rewritten, replaced and written through a mapping, without a pause, while others are there; then it rests.
mkdir "$work/in"; w=$work/w; space "$w" "$work/in"; for i in 1 2 3; do words $i 200 >"$work/in/t$i.txt"; done
"$DPIPE" serve -q -w "$w" >>"$work/log" 2>&1 & pid=$!; wait_for 10 up && ok || bad "no service"
"$probe" change "$work/in/restless.txt" "$changes" 1 "$work/stop" >"$work/o1" & "$probe" change "$work/in/lines.jsonl" "$changes" 2 "$work/stop" >"$work/o2"; wait $!
same "$(cat "$work/o1")" "changes=$changes" "changes"; words 9 300 >"$work/in/restless.txt"; printf '{"text":"%s"}\n' "$(words 10 200)" >"$work/in/lines.jsonl"
settles "files that changed $((2 * changes)) times" "$work/in"

# A folder that never rests hides no document; nor do more events than the kernel queues.
mkdir "$work/in/d"; sleep 0.3; "$probe" unrest "$work/in/d" "$work/stop" & mover=$!; sleep 0.3
kill -STOP $pid; mkdir -p "$work/in/new/deep"; words 11 200 >"$work/in/new/deep/t11.txt"; sleep 0.2; kill -CONT $pid # the new folder is seen, what came into it isn't
ln -s t1.txt "$work/in/link.txt"
there() { "$DPIPE" status -w "$w" --json | tr -d ' \n' | grep -q "\"stage\":\"ingest\",\"documents_in\":$1,"; }
wait_for 15 there 6 && ok || bad "a document in a folder that never rests isn't seen: $("$DPIPE" status -w "$w" | head -8)"
touch "$work/stop"; wait $mover; rm -f "$work/stop"
kill -STOP $pid; "$probe" shuffle "$work/in" 12000; words 12 200 >"$work/in/t12.txt"; kill -CONT $pid
wait_for 20 there 7 && ok || bad "a document behind too many events isn't seen"
settles "24,000 events, more than the kernel queues" "$work/in"

# FIFOs, folders without permission, files whose names are none.
mkfifo "$work/in/fifo"; mkdir "$work/in/closed"; words 13 200 >"$work/in/closed/t13.txt"; words 14 200 >"$work/in/$(printf 'bad\nname \377.txt')"; ln -s loop "$work/in/loop"; : >"$work/in/empty.txt"
settles "odd entries" "$work/in"; stopped "odd entries"

if [ "${DP_SANITIZED:-}" ]; then echo "skip: a jumping clock and a hung read, since sanitizers and shims don't go together"; else
# The clock goes back five hours while a unit waits for its next try, then forth a day.
w=$work/k; mkdir "$work/kin"; words 20 300 >"$work/kin/a.txt"; words 21 300 >"$work/kin/b.txt"; space "$w" "$work/kin"; sleep 0.4; "$probe" clock "$work/off" 0
DP_FAIL=rename:EIO:1 DP_CLOCK=$work/off LD_PRELOAD=$BUILD/tests/fault/shim_clock.so:$BUILD/tests/fault/shim_fail.so "$DPIPE" serve -q -w "$w" --threads 1 >>"$work/log" 2>&1 & pid=$!
failed_once() { "$DPIPE" job list -w "$w" --state failed | grep -q failures; }
wait_for 10 failed_once && ok || bad "nothing failed: the clock's test tests nothing"; "$probe" clock "$work/off" -18000
wait_for 10 there 2 && ok || bad "a unit that failed before the clock went back isn't tried again: $("$DPIPE" status -w "$w" | head -3)"; settles "a clock that went back" "$work/kin"
age() { "$probe" get "$w/http.sock" /metrics | awk '$1 == "dpipe_queue_age_seconds" { print ($2 >= 0 && $2 < 60) ? "fine" : $2 }'; }
same "$(age)" fine "queue age after the clock went back"; "$probe" clock "$work/off" 86400; words 22 300 >"$work/kin/c.txt"; settles "a clock that went forth" "$work/kin"
same "$(age)" fine "queue age after the clock went forth"; stopped "a jumping clock"

# A read that never comes back, in the broker (digest) and in a worker: everybody else is served, the manager would know, and a stop is a stop.
w=$work/h; mkdir "$work/hin"; words 30 300 >"$work/hin/hung.txt"; space "$w" "$work/hin"; touch "$work/hang"
export NOTIFY_SOCKET=@nobody WATCHDOG_USEC=4000000
DP_FAIL=read:hang:1 DP_FAIL_PATH=hin/hung.txt DP_FAIL_MARK=$work/hang LD_PRELOAD=$BUILD/tests/fault/shim_fail.so "$DPIPE" serve -q -w "$w" >>"$work/log" 2>&1 & pid=$!
unset NOTIFY_SOCKET WATCHDOG_USEC
stuck() { "$probe" get "$w/http.sock" /readyz >"$work/o"; grep -q stuck "$work/o"; }
wait_for 20 stuck && ok || bad "/readyz doesn't say stuck: $(cat "$work/o")"; expect 0 "$DPIPE" status -w "$w"; says "$work/out" "working"
stopped "a hung read"; rm -f "$work/hang"; expect 0 "$DPIPE" run -q -w "$w" --until shard
fi
wait $beside; cat "$work/st.out"; read -r p f <"$work/st.sums"; passed=$((passed + p)) failed=$((failed + f))
finish
