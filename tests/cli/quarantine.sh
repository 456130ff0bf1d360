#!/usr/bin/env bash
# The quarantine beside a service at work, and with many documents in it.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
w=$work/w
trap 'kill -9 $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
wait_for() { local n=$(($1 * 20)); shift; while [ $n -gt 0 ]; do "$@" >/dev/null 2>&1 && return 0; sleep 0.05; n=$((n - 1)); done; return 1; }
state() { "$DPIPE" status -w "$w" --json | grep -q "\"state\": \"$1\""; }
held() { [ "$("$DPIPE" quarantine list -w "$w" --json | wc -l)" = "$1" ]; }
ms() { local t; t=$(date +%s%N); "$@" >"$work/out" 2>"$work/err" || bad "exit $?: $*: $(tail -1 "$work/err")"; echo $((($(date +%s%N) - t) / 1000000)); }
"$DPIPE" init -q "$w"; mkdir "$work/in"
printf 'sources: [%s]\nclean: {c4: {enabled: false}, gopher_repetition: {enabled: false}}\nworkers: {doc_seconds: 1}\nserve: {until: clean, settle: 100ms, rescan: 1h, min_free: 0}\n' "$work/in" >"$w/recipe.yaml"
for i in 1 2 3; do printf '{"text":"%s"}\n{"text":"dpfault-segv-1 number %d %s"}\n{"text":"%s"}\n' "$(words "$i" 120)" "$i" "$(words $((i + 9)) 120)" "$(words $((i + 20)) 120)"; done >"$work/in/a.jsonl"
export DPIPE_TEST_FAULT=dpfault
"$DPIPE" serve -w "$w" >"$work/log" 2>&1 & pid=$!
wait_for 30 state idle; wait_for 30 held 3 && ok || bad "not three in quarantine: $("$DPIPE" quarantine list -w "$w"; tail -3 "$work/log")"
name=$("$DPIPE" quarantine list -w "$w" --json | sed -n '2s/.*"name":"\([^"]*\)".*/\1/p')
expect 0 "$DPIPE" quarantine show -w "$w" "${name:0:22}"; says "$work/out" "a.jsonl"
expect 0 "$DPIPE" quarantine show -w "$w" "$name" --bytes; says "$work/out" "dpfault-segv-1"
expect 0 "$DPIPE" quarantine list -w "$w" --limit 2; says "$work/out" "2 of 3 in quarantine"
expect 0 "$DPIPE" quarantine drop -w "$w" "${name:0:22}"; says "$work/out" "1 documents dropped"; held 2 && ok || bad "still there after a drop"
expect 74 "$DPIPE" quarantine drop -w "$w" "$name"; expect 74 "$DPIPE" quarantine retry -w "$w" 0000; expect 64 "$DPIPE" quarantine retry -w "$w"
# Tried again by the running service: it dies again, with its attempts counted, and the one that was dropped is found again.
expect 0 "$DPIPE" quarantine retry -w "$w" --all; says "$work/out" "2 documents to be tried again"
again() { [ "$("$DPIPE" quarantine list -w "$w" --json | grep -c '"state":"held".*"attempts":4')" = 2 ]; }
wait_for 30 again && ok || bad "not tried again: $("$DPIPE" quarantine list -w "$w" --json; tail -3 "$work/log")"
wait_for 30 held 3 && ok || bad "the dropped one isn't back"
expect 0 "$DPIPE" stop -w "$w"; wait $pid; unset DPIPE_TEST_FAULT
"$DPIPE" serve -w "$w" >"$work/log" 2>&1 & pid=$!; wait_for 30 state idle # repaired
expect 0 "$DPIPE" quarantine retry -w "$w" --all
wait_for 30 held 0 && ok || bad "still in quarantine after a successful retry: $("$DPIPE" quarantine list -w "$w")"
"$DPIPE" status -w "$w" >"$work/o"; grep -q quarantined "$work/o" && bad "still counted: $(cat "$work/o")" || ok
# Many. A thousand times as many as a page must not take longer than a second.
awk -v dir="$w/quarantine" -v n="${DP_QUARANTINED:-10000}" 'BEGIN { for (i = 0; i < 256; i++) system(sprintf("mkdir -p %s/%02x", dir, i));
  for (i = 0; i < n; i++) { unit = sprintf("%02x%014x", (i * 7) % 256, i); f = sprintf("%s/%s/%s-%032x", dir, substr(unit, 1, 2), unit, i);
    printf "{\"unit\":\"%s0000000000000000\",\"path\":\"/srv/a.warc.gz\",\"position\":\"@%d\",\"url\":\"\",\"id\":\"%032x\",\"stage\":\"extract\",\"reason\":\"crash\",\"what\":\"SIGSEGV\",\"round\":0,\"rows\":0,\"attempts\":2,\"time\":1,\"bytes\":3}\nabc", unit, i, i >f; close(f) } }'
t=$(ms "$DPIPE" quarantine list -w "$w"); says "$work/out" "100 of ${DP_QUARANTINED:-10000}"; [ "$t" -lt 1000 ] && ok || bad "a page took $t ms"; echo "list: $t ms" >&2
last=$(sed -n 's/.*--after \([^,]*\),.*/\1/p' "$work/out"); t=$(ms "$DPIPE" quarantine list -w "$w" --after "$last" --limit 50 --json); same "$(wc -l <"$work/out")" 50 "lines of the next page"
t=$(ms "$DPIPE" quarantine show -w "$w" "$last"); [ "$t" -lt 1000 ] && ok || bad "show took $t ms"; echo "show: $t ms" >&2
t=$(ms "$DPIPE" quarantine drop -w "$w" "$last"); [ "$t" -lt 1000 ] && ok || bad "drop took $t ms"; echo "drop: $t ms" >&2
t=$(ms "$DPIPE" quarantine retry -w "$w" --all); echo "retry --all: $t ms" >&2; says "$work/out" "$((${DP_QUARANTINED:-10000} - 1)) documents"
expect 0 "$DPIPE" quarantine list -w "$w" --limit 3; says "$work/out" "to be tried again"
t=$(ms "$DPIPE" quarantine drop -w "$w" --all); echo "drop --all: $t ms" >&2
held 0 && ok || bad "something is left"; kill -0 $pid && ok || bad "the service is gone: $(tail -3 "$work/log")"
expect 0 "$DPIPE" stop -w "$w"; wait $pid
finish
