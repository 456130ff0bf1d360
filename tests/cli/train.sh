#!/usr/bin/env bash
# dpipe train --data: the log, checkpoints that a kill can't harm, and every bad input named with what to do.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
trap 'kill -9 $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
for i in $(seq 1 60); do words "$i" 120; done >"$work/t.txt"; for i in $(seq 1 40); do printf '{"text":"%s"}\n' "$(words "$i" 90)"; done >"$work/t.jsonl"
expect 0 "$DPIPE" train-bpe -q --vocab-size 300 -o "$work/tok" "$work/t.txt"
expect 0 "$DPIPE" tokenize -q --tokenizer "$work/tok/tokenizer.json" --jsonl -o "$work/shards" "$work/t.jsonl"
cp "$work/tok/tokenizer.json" "$work/shards/"
small=(--peak 500 --layers 1 --dim 16 --heads 2 --seq-len 32 --batch 2 --warmup 2 --val-fraction 0.2 --eval-batches 2 --eval-every 5)
t() { "$DPIPE" train -q "${small[@]}" --data "$work/shards" "$@"; }
values() { sed 's/,"tokens_per_s":[^,}]*//; s/,"mfu":[^,}]*//' "$1"; }
digest() { sha256sum <"$1"; }
# a whole run
expect 0 t --steps 20 --ckpt-every 4 --peak 0 --out "$work/a" --threads 2
for f in checkpoint-0000000016 checkpoint-0000000020 best model; do [ -s "$work/a/$f.safetensors" ] && ok || bad "no $f"; done
same "$(ls "$work/a" | tr '\n' ' ')" "best.safetensors checkpoint-0000000016.safetensors checkpoint-0000000020.safetensors log.jsonl loss.svg model.safetensors " "files of a run"
says "$work/a/loss.svg" "<svg"; same "$(wc -l <"$work/a/log.jsonl")" 21 "lines of the log"
for k in step loss norm lr tokens_per_s mfu val_loss bits_per_byte; do tail -1 "$work/a/log.jsonl" | grep -q "\"$k\":[0-9]" && ok || bad "no $k in the log"; done
expect 0 t --steps 20 --ckpt-every 4 --out "$work/a"; same "$(wc -l <"$work/a/log.jsonl")" 21 "lines behind a run that had nothing to do"
# k updates, kill -9 at any moment, and on: the same files and log
"$DPIPE" train -q "${small[@]}" --data "$work/shards" --steps 400 --ckpt-every 7 --out "$work/w" --threads 1 || bad "whole run"
kills=0
for i in 1 2 3 4 5 6; do
  "$DPIPE" train -q "${small[@]}" --data "$work/shards" --steps 400 --ckpt-every 7 --out "$work/k" --threads 2 2>"$work/err" & pid=$!
  sleep 0.0$((i * 13 % 9 + 2)); kill -9 $pid 2>/dev/null && kills=$((kills + 1)); wait $pid 2>/dev/null
done
[ $kills -ge 2 ] && ok || bad "only $kills of 6 runs were killed"
expect 0 t --steps 400 --ckpt-every 7 --out "$work/k"
for f in model best checkpoint-0000000399 checkpoint-0000000400; do same "$(digest "$work/k/$f.safetensors")" "$(digest "$work/w/$f.safetensors")" "$f after kills"; done
same "$(values "$work/k/log.jsonl" | sha256sum)" "$(values "$work/w/log.jsonl" | sha256sum)" "log after kills"
# k updates and on, with Muon, accumulation, skipped spikes and another schedule
odd=(--steps 30 --lr 1e-5 --min-lr 0 --muon-lr 1e-4 --optimizer muon --schedule wsd --accum 3 --spike 0.02 --spike-window 16 --spike-skip --arch llama --clip 0.5)
expect 0 t "${odd[@]}" --out "$work/m"; for k in 3 17 18 29; do expect 0 t "${odd[@]}" --out "$work/n" --stop-at $k; done; expect 0 t "${odd[@]}" --out "$work/n"
same "$(digest "$work/n/model.safetensors")" "$(digest "$work/m/model.safetensors")" "model behind four stops"
same "$(values "$work/n/log.jsonl" | sha256sum)" "$(values "$work/m/log.jsonl" | sha256sum)" "log behind four stops"
grep -q '"spike":{"median".*"skipped":true,"rows":\[{"sample":[0-9]*,"loss":[0-9.]*,"documents":\[{"shard":"[^"]*","document":[0-9]*,"id":"[0-9a-f]*"' "$work/m/log.jsonl" && ok || bad "no spike with documents"
# documents apart, masks of packed rows, dropout: of the seed and the place in the data, so resuming is exact as well
apart=(--steps 24 --documents restarted --pack bestfit --dropout-residual 0.1 --z-loss 1e-4 --mup-base-dim 8)
expect 0 t "${apart[@]}" --out "$work/p"; for k in 5 16; do expect 0 t "${apart[@]}" --out "$work/q" --stop-at $k; done; expect 0 t "${apart[@]}" --out "$work/q"
same "$(digest "$work/q/model.safetensors")" "$(digest "$work/p/model.safetensors")" "model with documents behind two stops"; tail -1 "$work/q/log.jsonl" | grep -q bits_per_byte && ok || bad "no bits per byte with documents"
expect 0 t --steps 3 --documents masked --log "$work/x.log"; expect 0 t --steps 3 --log "$work/y.log"; [ "$(values "$work/x.log")" != "$(values "$work/y.log")" ] && ok || bad "documents apart change nothing"
# SIGTERM saves and stops
"$DPIPE" train -q "${small[@]}" --data "$work/shards" --steps 100000000 --ckpt-every 0 --out "$work/s" 2>"$work/err" & pid=$!
for i in $(seq 100); do [ "$(wc -l 2>/dev/null <"$work/s/log.jsonl" || echo 0)" -gt 2 ] && break; sleep 0.05; done
kill -TERM $pid; wait $pid; same $? 75 "exit status at SIGTERM"; says "$work/err" "run again to go on"
last=$(tail -1 "$work/s/log.jsonl" | sed 's/.*"step":\([0-9]*\).*/\1/'); [ -s "$work/s/checkpoint-$(printf %010d "$last").safetensors" ] && ok || bad "no checkpoint of step $last"
# bad input
cp -r "$work/a" "$work/torn"; truncate -s -9 "$work/torn/checkpoint-0000000020.safetensors"; expect 65 t --steps 30 --out "$work/torn"
says "$work/err" "torn/checkpoint-0000000020.safetensors"; says "$work/err" "to go on from the one of update 16"
rm "$work/torn/checkpoint-0000000020.safetensors"; expect 0 t --steps 30 --out "$work/torn"; same "$(grep -c . "$work/torn/log.jsonl")" 31 "log behind a removed checkpoint"
expect 78 t --steps 30 --dim 32 --out "$work/a"; says "$work/err" "a/checkpoint-0000000020.safetensors"; says "$work/err" "dim"
expect 0 "$DPIPE" train-bpe -q --vocab-size 320 -o "$work/tok2" "$work/t.txt"; expect 0 "$DPIPE" tokenize -q --tokenizer "$work/tok2/tokenizer.json" --jsonl -o "$work/other" "$work/t.jsonl"
expect 78 t --data "$work/other" --steps 30 --out "$work/a"; says "$work/err" "vocab"; says "$work/err" "a/checkpoint-0000000020.safetensors"
head -30 "$work/t.jsonl" >"$work/u.jsonl"; expect 0 "$DPIPE" tokenize -q --tokenizer "$work/tok/tokenizer.json" --jsonl -o "$work/fewer" "$work/u.jsonl"
expect 78 t --data "$work/fewer" --steps 30 --out "$work/a"; says "$work/err" "cannot go on from it"
expect 78 t --tokenizer "$work/tok2/tokenizer.json" --steps 3; says "$work/err" "isn't the tokenizer"
expect 65 t --steps 40 --lr 10 --clip 0 --warmup 0 --lr-scale wte=1e9 --ckpt-every 1 --out "$work/nan"
says "$work/err" "diverged"; says "$work/err" "is whole"
full() { (ulimit -f "$1"; shift; t "$@"); }
cp -r "$work/a" "$work/f"; before=$(digest "$work/f/checkpoint-0000000020.safetensors"); expect 74 full 40 --steps 40 --out "$work/f"
says "$work/err" "not saved"; says "$work/err" "f/checkpoint-0000000020.safetensors (update 20) is whole"; says "$work/err" "MiB"; same "$(digest "$work/f/checkpoint-0000000020.safetensors")" "$before" "checkpoint of before"
expect 0 t --steps 40 --out "$work/f"
expect 74 t --data "$work/nowhere"; mkdir "$work/empty"; expect 74 t --data "$work/empty"; says "$work/err" "manifest.json"
expect 64 "$DPIPE" train --data tests/data/trainer/curve_rows.u16; says "$work/err" "--vocab"
expect 64 "$DPIPE" train --out "$work/x"; says "$work/err" "--data"
# a YAML file, whole or its train section alone; flags over it
printf 'layers: 1\ndim: 16\nheads: 2\nseq_len: 32\nbatch: 2\nwarmup: 0\nsteps: 3\n' >"$work/flat.yaml"; { echo train:; sed 's/^/  /' "$work/flat.yaml"; echo 'feed: {val_fraction: 0}'; } >"$work/whole.yaml"
for f in flat whole; do expect 0 "$DPIPE" train -q --peak 500 --config "$work/$f.yaml" --data "$work/shards/manifest.json" --log "$work/$f.log" --threads 1; same "$(grep -c '"loss"' "$work/$f.log")" 3 "updates by $f.yaml"; done
expect 0 "$DPIPE" train -q --peak 500 --config "$work/flat.yaml" --steps 2 --data "$work/shards" --log -; same "$(grep -c '"loss"' "$work/out")" 2 "lines on stdout"
echo 'layer: 2' >>"$work/flat.yaml"; expect 78 "$DPIPE" train -q --config "$work/flat.yaml" --data "$work/shards"; says "$work/err" "layers"
expect 0 "$DPIPE" train --json "${small[@]}" --steps 3 --data "$work/shards"; says "$work/out" '"bits_per_byte":'; says "$work/out" '"mfu":'
# a workspace: its road, its spikes, and its shards for --data
mkdir "$work/pages"; for i in $(seq 1 12); do words "$i" 200 >"$work/pages/$i.txt"; done; "$DPIPE" init -q "$work/space"
printf 'clean:\n  language: {enabled: false}\n  gopher_quality: {enabled: false}\n  gopher_repetition: {enabled: false}\n  c4: {enabled: false}\n  fineweb: {enabled: false}\ntrain-bpe: {vocab_size: 300}\ntrain: {layers: 1, dim: 16, heads: 2, seq_len: 32, batch: 2, steps: 30, warmup: 1, lr: 1e-6, min_lr: 0, spike: 0.01, spike_window: 16}\n' >"$work/space/recipe.yaml"
"$DPIPE" ingest -q -w "$work/space" --register-only "$work/pages" 2>/dev/null; expect 0 "$DPIPE" run -q -w "$work/space"; says "$work/err" "deviations above the running median"
read -r step row < <(sed -n 's/.*--step \([0-9]*\) --row \([0-9]*\).*/\1 \2/p' "$work/err"); expect 0 "$DPIPE" trace -w "$work/space" --step "$step" --row "$row" --json; says "$work/out" "pages/"
expect 0 "$DPIPE" train -q --peak 500 --data "$work/space" --val-fraction 0.3 --steps 4 --log "$work/space.log" --threads 1; grep -q bits_per_byte "$work/space.log" && ok || bad "no bits per byte by the workspace's tokenizer"
# what it would take, before it begins
expect 0 "$DPIPE" train --json "${small[@]}" --steps 2 --data "$work/shards"; params=$(sed 's/.*"parameters":\([0-9]*\).*/\1/' "$work/out")
expect 0 "$DPIPE" plan --json "${small[@]:2}" --steps 10 --accum 3 --data "$work/shards"; says "$work/out" "\"parameters\": $params,"; says "$work/out" '"tokens": 1920,'; says "$work/out" '"rate_from": "measured"'
for k in flops_per_token epochs tokens_per_s seconds mfu peak_gflops total activations moments parameters_for_flops; do grep -q "\"$k\": [0-9]" "$work/out" && ok || bad "no $k in the plan"; done
grep -qF '"advice": ["' <(tr -d '\n' <"$work/out" | sed 's/\[ */[/') && ok || bad "no advice"
expect 0 "$DPIPE" plan --vocab 50257 --layers 12 --dim 768 --heads 12 --seq-len 1024 --steps 90 --no-measure; says "$work/out" "parameters  124439808"; says "$work/out" "assumed"; expect 64 "$DPIPE" plan
expect 78 "$DPIPE" plan --vocab 100 --heads 7; says "$work/err" "heads"
# a grid
expect 0 t --steps 6 --sweep "lr=1e-3,1e-2 width=16,32" --out "$work/g" --json; same "$(grep -o '"run":' "$work/out" | wc -l)" 4 "runs of a sweep"; says "$work/out" '"options":"lr=1e-2 dim=32"'
same "$(ls "$work/g" | wc -l)" 4 "folders of a sweep"; expect 0 t --steps 6 --sweep "lr=1e-3,1e-2 width=16,32" --out "$work/g"; says "$work/out" "lr=1e-3 dim=16"; says "$work/out" "val loss"
expect 64 t --sweep "lt=1"; says "$work/err" "did you mean"; expect 64 t --sweep "lr=1e-3,x"; expect 64 t --sweep "lr"
finish
