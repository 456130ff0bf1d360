#!/usr/bin/env bash
# Every command that starts threads, on a small corpus with four of them. `make check` runs this with the thread sanitizer, which
# turns a race into exit 66 of the command it is found in.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
export TSAN_OPTIONS="halt_on_error=1 exitcode=66 ${TSAN_OPTIONS:-}"
corpus "$work/c"
workspace "$work/w" "$work/c"
# Few large units go one after the other on several lanes; many small ones side by side.
expect 0 "$DPIPE" run -q -w "$work/w" --threads 4 --until dedup
mkdir "$work/small"
for i in $(seq 1 12); do printf '{"text":"%s"}\n' "$(words $((i + 700)) 200)" "$(words $((i + 720)) 150)" "$(words $((i + 740)) 150)" >"$work/small/$i.jsonl"; done
for i in $(seq 1 12); do "$DPIPE" ingest -q -w "$work/w" --register-only "$work/small/$i.jsonl"; done
expect 0 "$DPIPE" ingest -q -w "$work/w" --threads 4
expect 0 "$DPIPE" run -q -w "$work/w" --threads 4 --memory 256M
expect 0 "$DPIPE" run -q -w "$work/w" --threads 4 --json; says "$work/out" '"made":0'
expect 0 "$DPIPE" verify -w "$work/w" --threads 4; says "$work/out" "whole"
expect 0 "$DPIPE" status -w "$work/w"; says "$work/out" "loss:"
expect 0 "$DPIPE" eval -w "$work/w" --threads 4; says "$work/out" "bits per byte"
expect 0 "$DPIPE" generate -w "$work/w" -p "the water" -n 8 --seed 3 --threads 4
expect 0 "$DPIPE" feed -w "$work/w" --seq-len 16 --batch 4 --steps 3 --dump "$work/f"
words 3 3000 >"$work/t.txt"
expect 0 "$DPIPE" train-bpe -q --threads 4 --vocab-size 400 -o "$work/tok" "$work/t.txt"
awk '{ gsub(/"/, ""); printf "{\"text\":\"%s\"}\n", substr($0, 1, 2000) }' "$work/t.txt" >"$work/t.jsonl"
expect 0 "$DPIPE" tokenize --threads 4 --tokenizer "$work/tok/tokenizer.json" --jsonl "$work/t.jsonl"
for f in gpt2 llama; do expect 0 "$DPIPE" train --threads 4 --verify tests/data/trainer/$f.safetensors; says "$work/out" '"ok":true'; done
finish
