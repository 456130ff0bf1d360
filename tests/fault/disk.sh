#!/usr/bin/env bash
# A disk without room (writes of the broker, the catalog, or of workers say ENOSPC for a while, wherever that begins): the service pauses, says so, resumes
# alone, and counts no failure. A limit of file sizes (ulimit -f) and a read-only file system are errors, and no deaths; a failed fsync is never
# taken for success. A real full disk (tmpfs) is in tests/cli/serve.sh.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
shim=$BUILD/tests/fault/shim_fail.so probe=$BUILD/tests/fault/probe
trap 'kill -9 $(jobs -p) 2>/dev/null; umount "$work/ro" 2>/dev/null; rm -rf "$work"' EXIT
wait_for() { local n=$(($1 * 20)); shift; while [ $n -gt 0 ]; do "$@" >/dev/null 2>&1 && return 0; sleep 0.05; n=$((n - 1)); done; return 1; }
state() { "$DPIPE" status -w "$w" --json | grep -q "\"state\": \"$1\""; }
recipe() { printf 'sources: [%s]\nclean:\n  c4: {enabled: false}\ntrain-bpe: {vocab_size: 400}\nshards: {bytes_per_shard: 64K, growth: rebuild}\nserve: {settle: 50ms, rescan: 1h, min_free: 0, retry_base: 1s, retry_max: 1s, keep: 1h, spool: false}\n' "$work/in"; }
space() { "$DPIPE" init -q "$1"; recipe >"$1/recipe.yaml"; }
corpus "$work/c"; mkdir "$work/in"; cp "$work"/c/site/p1*.html "$work/in"
space "$work/one"; expect 0 "$DPIPE" run -q -w "$work/one" --until shard; want=$(store "$work/one")
full() { "$probe" clock "$work/full" "$1"; }
for at in broker:1 broker:20 broker:50 worker:1 worker:3; do
  w=$work/w; path=$w; rm -rf "$w"; space "$w"; full 1; [ ${at%:*} = worker ] && path= # a sandboxed process can't ask for paths
  [ $at = broker:1 ] || "$DPIPE" ingest -q -w "$w" --register-only "$work/in" # the catalog's tables are there
  DP_FAIL=write:ENOSPC:${at#*:} DP_FAIL_IN=${at%:*} DP_FAIL_PATH=$path DP_FAIL_WHILE=$work/full LD_PRELOAD=$shim "$DPIPE" serve -q -w "$w" >"$work/log" 2>&1 & pid=$!
  if [ $at = broker:1 ]; then wait $pid; same $? 74 "exit of a service that can't even begin"; says "$work/log" "error:"; continue; fi
  if wait_for 20 state "paused: disk"; then
    "$probe" get "$w/http.sock" /readyz >"$work/o" && bad "$at: /readyz says ready" || ok; says "$work/o" "paused: disk"
    sleep 1; state idle && bad "$at: idle on a full disk" || ok; full 0
  else bad "$at: no pause: $("$DPIPE" status -w "$w" | head -3; tail -3 "$work/log")"; full 0; fi
  wait_for 30 state idle && ok || bad "$at: no resume: $("$DPIPE" status -w "$w" | head -3; tail -3 "$work/log")"
  "$DPIPE" job list -w "$w" --state failed >"$work/o"; [ -s "$work/o" ] && bad "$at: a full disk counted as a failure: $(cat "$work/o")" || ok
  expect 0 "$DPIPE" stop -w "$w"; wait $pid; same "$(store "$w")" "$want" "$at: store after a full disk"
done
# A limit of file sizes.
for how in thread process; do
  w=$work/l; rm -rf "$w"; space "$w"; (ulimit -f 8; exec "$DPIPE" run -q -w "$w" --until shard --isolate=$how) >/dev/null 2>"$work/err"; s=$?
  [ $s = 74 ] && ok || bad "run under a file-size limit: exit $s: $(cat "$work/err")"; says "$work/err" "error:"
  [ -e "$w/quarantine" ] && bad "a document is in quarantine for a file-size limit" || ok
  expect 0 "$DPIPE" run -q -w "$w" --until shard; same "$(store "$w")" "$want" "store after a file-size limit"
done
# fsync fails once: what it was for is not published, also when a second fsync of the same file would say success.
for at in 1 2 3 5 8 13; do
  w=$work/y; rm -rf "$w"; space "$w"; DP_FAIL=fsync:EIO:$at DP_FAIL_PATH=$w/ DP_FAIL_COUNT=$work/n LD_PRELOAD=$shim "$DPIPE" run -q -w "$w" --until shard --threads 1 >/dev/null 2>"$work/err"; s=$?
  [ $s = 74 ] && ok || bad "fsync number $at failed: exit $s: $(cat "$work/err")"; same "$("$probe" counts "$work/n" fsync | cut -d' ' -f2)" 1 "fsyncs that failed"; rm -f "$work/n"
  expect 0 "$DPIPE" run -q -w "$w" --until shard; same "$(store "$w")" "$want" "store after a failed fsync"
done
# A read-only file system.
mkdir "$work/ro"
if mount -t tmpfs -o size=64m none "$work/ro" 2>/dev/null; then
  w=$work/ro/w; space "$w"; "$DPIPE" serve -q -w "$w" >"$work/log" 2>&1 & pid=$!; wait_for 20 state idle && ok || bad "not idle"
  expect 0 "$DPIPE" stop -w "$w"; wait $pid; mount -o remount,ro "$work/ro"; cp "$work/c/site/p2.html" "$work/in/"
  expect 74 "$DPIPE" run -q -w "$w" --until shard; says "$work/err" "Read-only"; expect 0 "$DPIPE" status -w "$w"; expect 74 "$DPIPE" serve -q -w "$w"; says "$work/err" "Read-only"
  mount -o remount,rw "$work/ro"; expect 0 "$DPIPE" run -q -w "$w" --until shard; umount "$work/ro"
else echo "skip: no tmpfs can be mounted here"; fi
finish
