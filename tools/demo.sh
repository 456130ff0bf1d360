#!/usr/bin/env bash
# The main job on real input: Debian's documentation packages (or CORPUS=PATH) to a trained small model, in build/demo.
# usage: tools/demo.sh   (make demo)   DEMO_STEPS=N shortens or lengthens the training
set -euo pipefail
cd "$(dirname "$0")/.."
dpipe=$PWD/build/release/dpipe demo=build/demo corpus=${CORPUS:-}
packages="python3.11-doc debian-handbook postgresql-doc-15 libreoffice-help-de libreoffice-help-ja libreoffice-help-zh-cn"
say() { printf '\n== %s\n' "$*"; }
mkdir -p $demo
if [ -z "$corpus" ]; then
  corpus=$PWD/$demo/debs; mkdir -p "$corpus"
  command -v apt-get >/dev/null || { echo "no apt-get here: give a folder, archive or WARC file, make demo CORPUS=PATH" >&2; exit 69; }
  for p in $packages; do
    ls "$corpus/${p}"_*.deb >/dev/null 2>&1 && continue
    say "fetching $p"
    if ! (cd "$corpus" && apt-get download -qq "$p" 2>/dev/null); then (apt-get update -qq && cd "$corpus" && apt-get download -qq "$p"); fi
  done
fi
if [ ! -e $demo/w/recipe.yaml ]; then
  "$dpipe" init -q $demo/w
  # Technical documentation: code and tables are wanted, so the two rules that would drop them are loosened.
  cat >$demo/w/recipe.yaml <<YAML
clean:
  gopher_quality: {alpha_ratio_min: 0.5}
  gopher_repetition: {enabled: true}
  c4: {enabled: false}
train-bpe: {vocab_size: 32000, split: gpt2}
shards: {bytes_per_shard: 16M}
feed: {val_fraction: 0.01}
train: {layers: 6, dim: 256, heads: 8, seq_len: 128, batch: 8, steps: ${DEMO_STEPS:-700}, warmup: 30, lr: 0.001, min_lr: 0.0001, eval_every: 50, eval_batches: 4, ckpt_every: 50}
YAML
fi
start=$(date +%s)
say "sources: $corpus"; "$dpipe" ingest -w $demo/w --register-only "$corpus"
say "the whole road: clean, dedup, train-bpe, tokenize, shard, train"; "$dpipe" run -w $demo/w
say "summary"; "$dpipe" status -w $demo/w
say "shards"; "$dpipe" verify -w $demo/w
say "a sample of the model (temperature 0.7, seed 1)"; "$dpipe" generate -w $demo/w -p "The " -n 60 --temperature 0.7 --seed 1
printf '\n\ndone in %d s; the loss curve is %s\n' $(($(date +%s) - start)) "$(ls $demo/w/store/loss-*.svg)"
