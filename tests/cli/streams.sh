#!/usr/bin/env bash
# Standard streams: full, closed, cut by head; JSON is JSON, quiet is quiet; words and numbers that are none.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
mkdir "$work/c"; for i in $(seq 1 12); do words $i 160 >"$work/c/$i.txt"; done
recipe() { printf 'clean: {c4: {enabled: false}}\ntrain-bpe: {vocab_size: 300}\nfeed: {val_fraction: 0.1}\ntrain: {layers: 1, dim: 16, heads: 2, seq_len: 16, batch: 2, steps: 3, warmup: 1, eval_every: 0}\n' >"$1/recipe.yaml"; }
w=$work/w; "$DPIPE" init -q "$w"; recipe "$w"; expect 0 "$DPIPE" ingest -q -w "$w" --register-only "$work/c"; expect 0 "$DPIPE" run -q -w "$w"
json() { # every line, or all of it, is JSON
  expect 0 "$DPIPE" "$@" -w "$w" --json; command -v python3 >/dev/null || return
  for f in out err; do python3 -c 'import json,sys
s = sys.stdin.read()
try: [json.loads(l) for l in s.splitlines()]
except ValueError: json.loads(s)' <"$work/$f" 2>/dev/null && ok || bad "$* --json: std$f is no JSON: $(head -c 200 "$work/$f")"; done
}
for c in run status inspect "inspect --kept" "inspect --records" "inspect --units" verify eval "generate -p the -n 5" ingest clean dedup train-bpe shard train "feed --steps 2 --batch 2 --seq-len 16" "export -f llmc -o $work/x" "init $work/i"; do
  json $c; [ -s "$work/out" ] || [ "$c" = inspect ] && ok || bad "$c --json prints nothing"
  expect 0 "$DPIPE" $c -w "$w" -q; [ -s "$work/err" ] && bad "$c -q isn't quiet: $(cat "$work/err")"
done
for c in "status -w $w" "verify -w $w" "inspect --kept -w $w" help --help --version "run --json -w $w" "generate -n 3 -p a -w $w"; do
  "$DPIPE" $c >/dev/full 2>"$work/err"; same $? 74 "exit of $c on a full stdout"; says "$work/err" "stdout"
  "$DPIPE" $c >&- 2>"$work/err"; same $? 74 "exit of $c on a closed stdout"
done
# Closed streams give their numbers to no artifact.
"$DPIPE" init -q "$work/v"; recipe "$work/v"; echo '{' >"$work/bad.jsonl"; cp "$work/bad.jsonl" "$work/c/"
"$DPIPE" ingest -q -w "$w" >/dev/null 2>&1; "$DPIPE" run -q -w "$w" 2>/dev/null
"$DPIPE" ingest -w "$work/v" --register-only "$work/c" <&- >&- 2>&-; "$DPIPE" run -w "$work/v" <&- >&- 2>&-; same $? 0 "exit with all streams closed"
"$DPIPE" run -q -w "$work/v" 2>/dev/null; expect 0 "$DPIPE" verify -w "$work/v"
same "$(cd "$work/v/store" && sha256sum records-* | cut -d' ' -f1)" "$(cd "$w/store" && sha256sum $(cd "$work/v/store" && ls records-*) | cut -d' ' -f1)" "records made with closed streams"
"$DPIPE" inspect -w "$w" --kept -n 0 --json 2>"$work/err" | head -c 10 >/dev/null; same "$(cat "$work/err")" "" "talk into a closed pipe"
for v in -1 abc '' 99999999999999999999 1.5 1025; do expect 64 "$DPIPE" status -w "$w" --threads "$v"; done
for v in 0 1 1K -5 M 5X 99999999999T; do expect 64 "$DPIPE" status -w "$w" --memory "$v"; done
expect 64 "$DPIPE" status -w "$w" --seed -2; expect 64 "$DPIPE" status -w ''; expect 64 "$DPIPE" init ''; expect 64 "$DPIPE" help statsu; says "$work/err" "did you mean status"
expect 64 "$DPIPE" statsu; says "$work/err" "dpipe: error: there is no command"; expect 64 "$DPIPE" --bogus; says "$work/err" '`dpipe --help`'
expect 78 "$DPIPE" status -w "$w" --cpu 386; DPIPE_CPU=386 expect 78 "$DPIPE" status -w "$w"
finish
