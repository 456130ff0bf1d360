#!/usr/bin/env bash
# Worker processes: the same store as threads; documents that crash, hang, eat memory or break out go to quarantine and the run goes on, the
# same whatever the threads; kill -9 of workers and of the broker at random moments changes nothing and leaves no process behind.
# DP_KILLS=N sets how many workers are killed at least (default 30); DP_SEED the random seed.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
kills=${DP_KILLS:-30} RANDOM=${DP_SEED:-1}
quick='workers: {isolate: process, doc_seconds: 1, worker_memory: 384M}'
children() { cat /proc/"$1"/task/*/children 2>/dev/null | tr ' ' '\n' | grep .; }
# lines FILE SEED N [AT KIND-STAGE]: N documents; number AT holds a fault
lines() { awk -v s="$2" -v n="$3" -v at="${4:-0}" -v fault="${5:-}" 'BEGIN { k = split("the of and to in that with have time people water light house river stone green walk speak large small morning garden winter letter", w, " "); x = s * 7919 + 17;
  for (d = 1; d <= n; d++) { t = ""; for (i = 1; i <= 130; i++) { x = (x * 1103515245 + 12345) % 2147483648; t = t w[int(x / 65536) % k + 1] (i % 11 ? " " : ". ") }
    printf "{\"text\":\"%s%s\",\"url\":\"http://e.example/%d\"}\n", t, (d == at ? "dpfault-" fault " end." : "end."), d } }' >"$1"; }
# space DIR RECIPE-LINES SOURCE...: a workspace
space() { local w=$1; "$DPIPE" init -q "$w"; printf 'clean: {c4: {enabled: false}, gopher_repetition: {enabled: false}}\n%b\n' "$2" >"$w/recipe.yaml"; shift 2; "$DPIPE" ingest -q -w "$w" --register-only "$@" 2>/dev/null; }
funnel() { "$DPIPE" status -w "$1" >"$work/out"; awk '$2 ~ /^[0-9]+$/ && /^(ingest|extract|normalise|language|patterns|gopher|c4|fineweb|dedup)/ { if ($2 != $3 + $4 || (n++ && $2 != prev)) bad = 1; prev = $3 } END { exit bad || n < 8 }' "$work/out" && ok || bad "$1: the funnel doesn't add up: $(cat "$work/out")"; }
count() { "$DPIPE" status -w "$1" | awk -v r="$2" '$1 == r { s += $2 } END { print s + 0 }'; }
docs() { zstdcat "$1"/store/docs-* 2>/dev/null | grep -o '"id":"[0-9a-f]*"' | sort; }

# The same bytes as threads: several units and one on several lanes, charsets that need converters, patterns (JIT).
corpus "$work/c"; mkdir "$work/c/old"
for e in GBK SHIFT_JIS EUC-KR KOI8-R BIG5 WINDOWS-1256; do
  case $e in GBK | BIG5) t=水光房子河流石頭 ;; SHIFT_JIS) t=あなたの家と川の水を見る ;; EUC-KR) t=물과빛그리고집강돌 ;; KOI8-R) t=вода_свет_дом_река_камень ;; *) t=ماء_ضوء_بيت_نهر ;; esac
  { printf '<html><head><meta charset="%s"><title>x</title></head><body><p>' "$e"; for i in $(seq 1 60); do printf '%s %d. ' "$t" "$i"; done; printf '</p></body></html>'; } | iconv -c -f UTF-8 -t "$e" >"$work/c/old/$e.html"
done
lines "$work/c/large.jsonl" 3 9000
both='clean: {c4: {enabled: false}, gopher_repetition: {enabled: false}, patterns: {text_drop: "\\b(speak)\\W+\\1\\W+(\\w+)\\W+speak\\b", line_drop: "^Title"}}'
for k in thread process; do
  "$DPIPE" init -q "$work/$k"; printf '%s\nworkers: {isolate: %s}\n' "$both" $k >"$work/$k/recipe.yaml"
  "$DPIPE" ingest -q -w "$work/$k" --register-only "$work"/c/* 2>/dev/null; expect 0 "$DPIPE" run -q -w "$work/$k" --until dedup --threads 3
done
same "$(store "$work/process")" "$(store "$work/thread")" "store of process workers, not of threads"
says "$work/process/recipe.yaml" process; [ "$(count "$work/process" pattern_text)" -gt 0 ] && ok || bad "no pattern matched: the test tests nothing"
# The same, every worker replaced after one unit.
space "$work/one" "" "$work/nothing" 2>/dev/null; cp "$work/process/recipe.yaml" "$work/one/"; "$DPIPE" ingest -q -w "$work/one" --register-only "$work"/c/* 2>/dev/null
expect 0 "$DPIPE" run -q -w "$work/one" --until dedup --threads 2 --worker-units 1; same "$(store "$work/one")" "$(store "$work/thread")" "store with a new worker for each unit"
# Signatures alone: other shingles, the documents stay.
for k in thread process; do expect 0 "$DPIPE" run -q -w "$work/$k" --until dedup --threads 2 --shingle 4; done
same "$(store "$work/process")" "$(store "$work/thread")" "store after new signatures"; same "$(ls "$work/process/store" | grep -c ^docs-)" "$(($(ls "$work/process/store" | grep -c ^sig-) / 2))" "docs files beside twice as many signature files"

# One bad document: named, kept with its bytes, left out; all others as in an unbroken run; one lane or three, the same store.
export DPIPE_TEST_FAULT=dpfault
fault() { # fault KIND STAGE REASON STAGE-NAME
  local f=$work/f.jsonl w; rm -rf "$work"/f1 "$work"/f3; lines "$f" 5 2500 1234 "$1-$2"
  for t in 1 3; do w=$work/f$t; space "$w" "$quick" "$f"; expect 0 "$DPIPE" run -q -w "$w" --until dedup --threads $t; done
  same "$(store "$work/f1")" "$(store "$work/f3")" "$1 in stage $2: store on one lane, not on three"
  same "$(find "$w/quarantine" -type f | wc -l)" 1 "$1 in stage $2: documents in quarantine"
  expect 0 "$DPIPE" quarantine list -w "$w" --json; says "$work/out" "\"stage\":\"$4\",\"reason\":\"$3\""
  funnel "$w"
}
check_one() { # of the last fault: exactly one document is missing
  same "$(count "$work/f1" quarantined)" 1 "documents counted as quarantined"
  zstdcat "$work"/f1/store/drops-* | grep -q '"reason":"quarantined"' && ok || bad "no drop line"
  same "$(docs "$work/f1" | wc -l)" "$(($(docs "$work/whole" | wc -l) - 1))" "documents beside the bad one"
  same "$(comm -23 <(docs "$work/f1") <(docs "$work/whole") | wc -l)" 0 "documents that an unbroken run doesn't have"
}
for k in "segv 1 crash extract" "abort 5 crash gopher_repetition" "stack 3 crash language" "open 2 sandbox normalise" "spin 1 cpu extract" "eat 2 memory normalise"; do
  # shellcheck disable=SC2086
  set -- $k; case $1$DPIPE in eat*/asan/* | eat*/tsan/*) echo "skip: sanitizers have no memory limit" >&2; continue ;; esac
  lines "$work/whole.jsonl" 5 2500 1234 "$1-$2"; cp "$work/whole.jsonl" "$work/f.jsonl"
  rm -rf "$work/whole"; space "$work/whole" "" "$work/f.jsonl"; "$DPIPE" run -q -w "$work/whole" --until dedup
  if [ "$1" = eat ]; then # the first death may be a matter of time, the second names memory
    rm -rf "$work/f1"; space "$work/f1" "workers: {isolate: process, worker_memory: 384M}" "$work/f.jsonl"; expect 0 "$DPIPE" run -q -w "$work/f1" --until dedup
    expect 0 "$DPIPE" quarantine -w "$work/f1" --json; says "$work/out" '"reason":"memory"'; funnel "$work/f1"
  else fault "$@"; fi
  check_one
done
# The same through all of the road, signatures too: a document that dies when it is signed is missing in the last stage before.
fault segv 9 crash signature; same "$(count "$work/f1" quarantined)" 1 "documents that died when signed"
# Reading itself dies: what the file gave before stays, the rest is damage.
fault segv 0 crash ingest; same "$(docs "$work/f1" | wc -l)" "$(count "$work/f1" normalise)" "documents"; "$DPIPE" inspect -w "$work/f1" --damage >"$work/out"; says "$work/out" "quarantine"
same "$("$DPIPE" status -w "$work/f1" | awk '$1 == "ingest" { print $2 }')" 1233 "records before the one that can't be read"

# show, retry, drop
w=$work/q; space "$w" "$quick" "$work/whole.jsonl" "$work/c/site"; lines "$work/seg.jsonl" 9 300 7 segv-1; "$DPIPE" ingest -q -w "$w" --register-only "$work/seg.jsonl"
rm -f "$work/whole.jsonl"; lines "$work/whole.jsonl" 5 2500
expect 0 "$DPIPE" ingest -q -w "$w" --register-only "$work/whole.jsonl"; expect 0 "$DPIPE" run -q -w "$w" --until dedup
name=$("$DPIPE" quarantine list -w "$w" --json | sed -n 's/.*"name":"\([^"]*\)".*/\1/p')
expect 0 "$DPIPE" quarantine show -w "$w" "${name:0:20}"; says "$work/out" "seg.jsonl"; says "$work/out" "record @"
expect 0 "$DPIPE" quarantine show -w "$w" "$name" --bytes; same "$(cat "$work/out")" "$(sed -n '7s/.*"text":"\([^"]*\)".*/\1/p' "$work/seg.jsonl")" "bytes in quarantine"
expect 74 "$DPIPE" quarantine show -w "$w" nothing; expect 64 "$DPIPE" quarantine frobnicate -w "$w"; expect 64 "$DPIPE" quarantine drop -w "$w"
expect 0 "$DPIPE" quarantine retry -w "$w" "$name"; expect 0 "$DPIPE" quarantine list -w "$w"; says "$work/out" "to be tried again"
expect 0 "$DPIPE" run -q -w "$w" --until dedup; expect 0 "$DPIPE" quarantine list -w "$w" --json; says "$work/out" '"state":"held","records_before":6,"attempts":4'
unset DPIPE_TEST_FAULT # repaired
n=$("$DPIPE" status -w "$w" | awk '$1 == "dedup" { print $2 }')
expect 0 "$DPIPE" quarantine retry -w "$w" --all; expect 0 "$DPIPE" run -q -w "$w" --until dedup; expect 0 "$DPIPE" quarantine list -w "$w"; says "$work/out" "nothing is in quarantine"
same "$("$DPIPE" status -w "$w" | awk '$1 == "dedup" { print $2 }')" $((n + 1)) "documents after a successful retry"; same "$(count "$w" quarantined)" 0 "quarantined after a successful retry"
export DPIPE_TEST_FAULT=dpfault
w=$work/d; space "$w" "$quick" "$work/seg.jsonl"; expect 0 "$DPIPE" run -q -w "$w" --until clean; before=$(store "$w")
expect 0 "$DPIPE" quarantine drop -w "$w" --all; expect 0 "$DPIPE" quarantine list -w "$w" --json; same "$(wc -c <"$work/out")" 0 "bytes listed after drop"
expect 0 "$DPIPE" run -q -w "$w" --until clean; same "$(store "$w")" "$before" "store after drop"
# Too many: the unit fails and says so, and nothing of it is published.
for i in $(seq 1 12); do printf '{"text":"dpfault-segv-1 number %d %s"}\n' "$i" "$(words "$i" 60)"; done >"$work/many.jsonl"
w=$work/m; space "$w" "workers: {isolate: process, quarantine_max: 5}" "$work/many.jsonl"; expect 65 "$DPIPE" run -q -w "$w" --until clean; says "$work/err" "quarantine_max"
same "$(find "$w/quarantine" -type f | wc -l)" 5 "documents in quarantine of a unit that failed"; same "$(ls "$w/store" "$w/tmp" | grep -c -e docs- -e records-)" 0 "artifacts of a unit that failed"
expect 0 "$DPIPE" run -q -w "$w" --until clean --quarantine-max 20; same "$(count "$w" quarantined)" 12 "documents quarantined when that many may be"
unset DPIPE_TEST_FAULT

# kill -9 of workers at random moments of a run: the same store.
for i in 1 2 3 4 5 6; do lines "$work/k$i.jsonl" $((i + 20)) 4000; done
space "$work/k" "" "$work"/k?.jsonl; expect 0 "$DPIPE" run -q -w "$work/k" --until dedup; want=$(store "$work/k") n=0 round=0
while [ $n -lt "$kills" ] && [ $round -lt 40 ]; do
  round=$((round + 1)); w=$work/kk; rm -rf "$w"; space "$w" "" "$work"/k?.jsonl
  "$DPIPE" run -q -w "$w" --until dedup --isolate=process --threads $((1 + RANDOM % 3)) >/dev/null 2>"$work/err" & pid=$!
  for _ in 1 2 3 4 5 6 7 8; do
    sleep 0.$(printf %03d $((RANDOM % 120))); v=$(children $pid | shuf -n 1 --random-source=<(yes $RANDOM)); [ "$v" ] && [ "$(cat /proc/$v/comm 2>/dev/null)" = dpipe-worker ] && kill -9 "$v" 2>/dev/null && n=$((n + 1))
  done
  wait $pid; s=$?; [ $s = 0 ] && ok || bad "run with killed workers: exit $s: $(tail -1 "$work/err")"
  same "$(store "$w")" "$want" "store after workers were killed (round $round)"; [ -e "$w/quarantine" ] && bad "an innocent document is in quarantine" || ok
done
[ $n -ge "$kills" ] && ok || bad "only $n workers could be killed"; echo "$n workers killed" >&2
# kill -9 of the broker: its workers end at once, one in a document without end too; the next run goes on.
export DPIPE_TEST_FAULT=dpfault; lines "$work/spin.jsonl" 77 200 3 sleep-1
w=$work/b; space "$w" "" "$work/spin.jsonl"; "$DPIPE" run -q -w "$w" --until clean --isolate=process >/dev/null 2>&1 & pid=$!
sleep 1; child=$(children $pid | head -1); [ "$child" ] && ok || bad "no worker"; kill -9 $pid; wait $pid 2>/dev/null
for _ in $(seq 1 50); do kill -0 "$child" 2>/dev/null || break; sleep 0.1; done; kill -0 "$child" 2>/dev/null && bad "a worker outlives its broker" || ok
# SIGTERM while a worker hangs: stopped in less than 10 s, no process left.
"$DPIPE" run -q -w "$w" --until clean --isolate=process --doc-seconds 1000 >/dev/null 2>&1 & pid=$!; sleep 1; child=$(children $pid | head -1); start=$(date +%s); kill -TERM $pid; wait $pid; same $? 75 "exit after SIGTERM"
[ $(($(date +%s) - start)) -lt 10 ] && ok || bad "SIGTERM took longer than 10 s"; kill -0 "$child" 2>/dev/null && bad "a worker is left after SIGTERM" || ok
finish
