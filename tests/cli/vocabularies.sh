#!/usr/bin/env bash
# train-bpe's seeds, second stage and extension, tokenizer nest and prune: files, messages, the same bytes whatever the order of texts.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
for i in 1 2 3; do words $i 4000 | sed 's/\. /. \n/g' >"$work/$i"; done
printf '" photosynthesis"\nbase64:4pyT4pyT\n" of the river"\n' >"$work/seeds"
train() { expect 0 "$DPIPE" train-bpe -q --vocab-size 600 "$@"; }
ids() { printf '%s' "$2" | "$DPIPE" tokenize --tokenizer "$1" --whole-file --special none -; }
train -o "$work/a" --super-from 450 --super-bytes-max 64K --seed-tokens "$work/seeds" "$work"/{1,2,3}
train -o "$work/b" --super-from 450 --super-bytes-max 64K --seed-tokens "$work/seeds" "$work"/{3,1,2}
cmp -s "$work/a/tokenizer.json" "$work/b/tokenizer.json" && ok || bad "the order of files changes what is learnt"
says "$work/a/tokenizer.json" '{2,}'
for s in ' photosynthesis' '✓✓' ' of the river'; do ids "$work/a/tokenizer.json" "$s" | grep -qx '{"ids":\[[0-9]*\]}' && ok || bad "'$s' isn't one token"; done
expect 78 "$DPIPE" train-bpe -q --vocab-size 600 -o "$work/c" --seed-tokens "$work/seeds" "$work/1"; says "$work/err" '" of the river" is cut by gpt2'
expect 78 "$DPIPE" train-bpe -q --vocab-size 600 --super-from 601 -o "$work/c" "$work/1"
expect 78 "$DPIPE" train-bpe -q --vocab-size 600 --super-from 300 --super-veto colons -o "$work/c" "$work/1"; says "$work/err" "there are colon, newline and sentence"
expect 64 "$DPIPE" train-bpe -q --super -o "$work/c" "$work/1"
# Special tokens are cut out.
{ cat "$work/1"; yes 'river<|endoftext|>stone' | head -400; } >"$work/with"
eot='<|endoftext|>'; train -o "$work/s" --special-tokens "$eot" "$work/with"; train -o "$work/k" --special-tokens "$eot" --learn-special-text "$work/with"
grep -q '"endo' "$work/s/vocab.json" && bad "a special token is learnt" || ok; says "$work/k/vocab.json" '"endoftext"'
# Nested and extended are what training gives.
for tie in hf bytes; do
  train --tie $tie -o "$work/large" "$work"/1; train --tie $tie --vocab-size 330 -o "$work/small" "$work/1"
  expect 0 "$DPIPE" tokenizer nest "$work/large/tokenizer.json" --vocab-size 330 -o "$work/nested.json"
  cmp -s "$work/nested.json" "$work/small/tokenizer.json" && ok || bad "$tie: nested isn't what training gives"
done
train --special-tokens '' --vocab-size 400 -o "$work/large" "$work/1"; train --special-tokens '' --vocab-size 330 -o "$work/small" "$work/1"; train --vocab-size 400 --extend "$work/small/tokenizer.json" -o "$work/more" "$work/1"
cmp -s "$work/more/tokenizer.json" "$work/large/tokenizer.json" && ok || bad "extended isn't what training gives"
expect 78 "$DPIPE" train-bpe -q --vocab-size 329 --extend "$work/small/tokenizer.json" -o "$work/c" "$work/1"
# Pruned: ids of a text without pruned tokens are the mapped ones.
expect 0 "$DPIPE" tokenizer prune "$work/large/tokenizer.json" "$work/1" --min-count 40 -o "$work/pruned"
says "$work/pruned/id_map.json" '{"old":400,"new":'
same "$(wc -c <"$work/pruned/id_map.bin")" 1600 "bytes of id_map.bin"
echo '260 261' >"$work/keep"
expect 0 "$DPIPE" tokenizer prune "$work/large/tokenizer.json" --keep "$work/keep" -o "$work/kept"
expect 65 "$DPIPE" tokenizer prune "$work/large/tokenizer.json" --keep <(echo 400) -o "$work/pruned"; says "$work/err" "the id 400"
echo '260 -1' >"$work/keep"; expect 65 "$DPIPE" tokenizer prune "$work/large/tokenizer.json" --counts "$work/keep" --vocab-size 300 -o "$work/pruned"
expect 64 "$DPIPE" tokenizer prune "$work/large/tokenizer.json" -o "$work/pruned" --vocab-size 300
command -v python3 >/dev/null || { echo "skip: no python3 to compare ids"; finish; }
python3 - "$work" <<'PY' && ok || bad "a text without pruned tokens hasn't the mapped ids"
import json, os, subprocess, sys
w = sys.argv[1]
m = json.load(open(f'{w}/pruned/id_map.json'))['map']
ids = lambda t: [json.loads(x)['ids'] for x in subprocess.run([os.environ['DPIPE'], 'tokenize', '--tokenizer', f'{w}/{t}/tokenizer.json', f'{w}/2'], capture_output=True, check=True).stdout.splitlines()]
old, new = ids('large'), ids('pruned')
whole = [i for i in range(len(old)) if all(m[x] >= 0 for x in old[i])]
sys.exit(not (0 < len(whole) < len(old) and all([m[x] for x in old[i]] == new[i] for i in whole)))
PY
finish
