#!/usr/bin/env bash
# Recipes of all shapes: what they mean, or where they are wrong.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
w=$work/w; "$DPIPE" init -q "$w"
reads() { printf '%b' "$1" >"$w/recipe.yaml"; expect 0 timeout 20 "$DPIPE" status -w "$w"; }
refuses() { printf '%b' "$1" >"$w/recipe.yaml"; expect 78 timeout 20 "$DPIPE" status -w "$w"; says "$work/err" "$2"; }
for r in '' '# nothing\n' '\xef\xbb\xbftrain: {steps: 5}\n' '---\ntrain: {steps: 5}\n...\n' 'train: ~\n' 'sources: null\n' 'sources: []\n' '~\n' '"train": {"steps": "5"}\n' 'train: &a {steps: 5}\n' 'clean.c4: {enabled: no}\n' 'train: {steps: 5}\r\nfeed: {seed: 1}\r\n'; do reads "$r"; done
refuses 'train:\n\tsteps: 5\n' 'recipe.yaml:2:1: not YAML'
refuses 'just text\n' 'a recipe has keys and values'; refuses '- a\n' 'a recipe has keys and values'
refuses 'train: 5\n' 'keys and values are wanted under "train"'
refuses 'train: {stepz: 5}\n' 'did you mean steps'; refuses 'trian: {steps: 5}\n' 'did you mean train'; refuses 'clean: {c5: {enabled: no}}\n' 'did you mean c4'
for v in 1e99 -5 5.5 '' '[1]' '{a: 1}' 0b11 99999999999999999999999 many; do refuses "train: {steps: $v}\n" 'recipe.yaml:1'; done
for v in nan .inf 99 1e400 x; do refuses "train: {lr: $v}\n" 'train.lr'; done
refuses 'train: {steps: 5, steps: 6}\n' 'the same key twice: "steps"'; refuses 'ingest: {depth_max: 5, depth-max: 6}\n' 'the same key twice'; refuses 'train: {steps: 5}\ntrain: {dim: 64}\n' 'recipe.yaml:2:1: the same key twice: "train"'
refuses '---\ntrain: {steps: 5}\n---\ntrain: {steps: 6}\n' 'this is a second one'
refuses 'train:\n  <<: {steps: 5}\n' 'unknown key train.<<'; refuses 'x: *undefined\n' 'undefined alias'; refuses 'train: &a\n  steps: *a\n' 'one value is wanted'
refuses 'sources: foo\n' 'sources is a list of paths'; refuses 'sources: [a, [b]]\n' 'a source is a path'; refuses 'train: {tied: maybe}\n' 'neither true nor false'; refuses 'train: {arch: gpt3}\n' 'gpt2|llama'
refuses '\0001\0002' 'not YAML'; refuses '{\n' 'not YAML'; refuses "train: {steps: $(printf '%070000d' 5)}\n" 'too long a value'
rm "$w/recipe.yaml"; mkdir "$w/recipe.yaml"; expect 78 "$DPIPE" status -w "$w"; says "$work/err" "no ordinary file"; rmdir "$w/recipe.yaml"; mkfifo "$w/recipe.yaml"; expect 78 timeout 20 "$DPIPE" status -w "$w"
# The recipe of init: each key once, also for other YAML readers, and valid with all comments taken away.
rm "$w/recipe.yaml"; expect 0 "$DPIPE" init "$w"; same "$(grep -c '^[a-z-]*:' "$w/recipe.yaml")" "$(grep '^[a-z-]*:' "$w/recipe.yaml" | cut -d: -f1 | sort -u | wc -l)" "keys of the recipe that init writes"
sed -i 's/^#\( *[a-z_0-9]*:\)/\1/' "$w/recipe.yaml"; expect 0 "$DPIPE" status -w "$w"
finish
