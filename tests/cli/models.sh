#!/usr/bin/env bash
# Models that go out and come in: export to hf and gguf, training from an exported folder, what is refused.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
corpus "$work/c"; workspace "$work/w" "$work/c"
expect 0 "$DPIPE" run -q -w "$work/w"
body() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1); }
model=$(ls "$work"/w/store/model-*.safetensors); tok=$(ls "$work"/w/store/tokenizer-*.json)
for d in f32 f16 bf16; do
  expect 0 "$DPIPE" export -q -w "$work/w" --format hf --dtype $d -o "$work/$d" --json; says "$work/out" '"format":"hf"'
  expect 0 "$DPIPE" export -q --format gguf --model "$model" --tokenizer "$tok" --dtype $d -o "$work/$d.gguf"
  # From the folder the same comes out as from the checkpoint, where nothing was rounded.
  expect 0 "$DPIPE" export -q --format gguf --model "$work/f32" --dtype $d -o "$work/again-$d.gguf" --name $d
  cmp -s "$work/$d.gguf" "$work/again-$d.gguf" && ok || bad "$d: GGUF of the checkpoint and of the folder differ"
done
says "$work/f32/config.json" '"model_type": "gpt2"'; says "$work/bf16/config.json" '"bfloat16"'; says "$work/f32/dpipe-export.json" '"tokenizer.json"'
expect 0 "$DPIPE" export -q --checkpoint "$work/f32" --format hf -o "$work/again"; same "$(body "$work/again")" "$(body "$work/f32")" "hf of hf"
expect 0 "$DPIPE" export -q --checkpoint "$work/f32" --format gguf -o "$work/folder" --name f32; cmp -s "$work/folder/model.gguf" "$work/f32.gguf" && ok || bad "GGUF in a folder"
same "$("$DPIPE" tokenizer info "$work/f32.gguf" | grep digest)" "$("$DPIPE" tokenizer info "$tok" | grep digest)" "the tokenizer in GGUF"
# An earlier export is replaced, what is no export isn't.
expect 0 "$DPIPE" export -q --checkpoint "$work/f32" --dtype bf16 --format hf -o "$work/again"; same "$(body "$work/again")" "$(body "$work/bf16")" "replaced"
mkdir "$work/mine"; : >"$work/mine/file"; expect 78 "$DPIPE" export -q --checkpoint "$work/f32" --format hf -o "$work/mine"; says "$work/err" "no export"
expect 64 "$DPIPE" export --checkpoint "$work/f32" --format hf
expect 64 "$DPIPE" export --checkpoint "$work/f32" --format pt -o "$work/n"
expect 74 "$DPIPE" export --checkpoint "$work/c" --tokenizer "$tok" --format hf -o "$work/n"; says "$work/err" "config.json"
expect 78 "$DPIPE" export --checkpoint "$model" --tokenizer tests/data/tokenizer/hf.json --format hf -o "$work/n"; says "$work/err" "isn't the tokenizer"
head -c 5000 "$model" >"$work/torn.safetensors"; expect 65 "$DPIPE" export --checkpoint "$work/torn.safetensors" --tokenizer "$tok" --format gguf -o "$work/n.gguf"; says "$work/err" "cut off"
[ -e "$work/n" ] || [ -e "$work/n.gguf" ] && bad "something was written" || ok
# The same text from the workspace, the checkpoint and the folder; for any number of threads; written as it comes and at once.
g() { "$DPIPE" generate -q --seed 3 -n 40 -p "the river" "$@"; }
g -w "$work/w" --top-k 20 --min-p 0.01 >"$work/a"; [ "$(wc -c <"$work/a")" -gt 30 ] && ok || bad "generate: $(cat "$work/a")"
g --model "$model" -t "$tok" --top-k 20 --min-p 0.01 -j 1 >"$work/b"; cmp -s "$work/a" "$work/b" && ok || bad "generate: of the checkpoint"
g --model "$work/f32" --top-k 20 --min-p 0.01 -j 3 >"$work/b"; cmp -s "$work/a" "$work/b" && ok || bad "generate: of the folder"
printf 'the river' >"$work/p"; "$DPIPE" generate -q --seed 3 -n 40 --prompt-file - --model "$work/f32" --top-k 20 --min-p 0.01 <"$work/p" >"$work/b"; cmp -s "$work/a" "$work/b" && ok || bad "generate: prompt from stdin"
g --model "$work/f32" --top-k 20 --min-p 0.01 --seed 4 >"$work/b"; cmp -s "$work/a" "$work/b" && bad "generate: another seed" || ok
expect 0 g --model "$work/f32" --json --ignore-eot; says "$work/out" '"tokens":30,'; says "$work/out" '"end":"context"'
text=$(sed 's/.*"text":"//; s/","tokens".*//' "$work/out"); stop=$(printf %s "$text" | grep -o '[a-z ]\{4\}' | sed -n 3p)
expect 0 g --model "$work/f32" --json --ignore-eot --stop "$stop"; says "$work/out" '"end":"stop"'; says "$work/out" "\"text\":\"${text%%"$stop"*}\""
expect 0 g --model "$work/f32" --no-echo --ignore-eot --stop "[\"$stop\", \"zzz\"]"; text=${text%%"$stop"*}; same "$(cat "$work/out"; echo .)" "${text//\\\"/\"}"$'\n.' "the text before a stop string"
expect 64 g --model "$work/f32" --stop '[1]'; expect 64 g --model "$work/f32" --prompt-file "$work/p"; expect 64 g --model "$work/f32" --min-p 2
expect 64 "$DPIPE" generate --model "$work/f32" --no-begin; says "$work/err" "no token to begin with"
words 5 200 >"$work/long"; expect 65 "$DPIPE" generate --model "$work/f32" --prompt-file "$work/long"; says "$work/err" "shorten the prompt"
# Training from it begins where the other ended.
last=$(grep -o '"val_loss":[0-9.]*' "$work"/w/store/loss-*.jsonl | tail -1)
expect 0 "$DPIPE" train -q -w "$work/w" --init-from "$work/f32" --steps 3 --warmup 1 --layers 7 --arch llama
new=$(ls -t "$work"/w/store/loss-*.jsonl | head -1); same "$(grep -o '"val_loss":[0-9.]*' "$new" | head -1)" "$last" "loss before the first step"
expect 0 "$DPIPE" train -q -w "$work/w" --init-from "$model" --steps 3 --warmup 1 --train.seq-len 24 --eval-every 0
for type in fp32 bf16; do expect 0 "$DPIPE" train -q --data "$work/w" --init-from "$work/f32" --steps 3 --warmup 1 --train.seq-len 24 --dtype $type --log "$work/$type.jsonl"; done
losses() { grep -o '"loss":[0-9.]*' "$work/$1.jsonl"; } # dtype is the run's, not the model's
same "$(losses fp32 | wc -l)" 3 "losses"; [ "$(losses fp32)" != "$(losses bf16)" ] && ok || bad "--init-from with --dtype bf16 trains in fp32"
expect 78 "$DPIPE" train -q -w "$work/w" --init-from "$work/f32" --steps 3 --warmup 1 --train.seq-len 33; says "$work/err" "seq_len is 33"
sed -i 's/"n_layer": 1/"n_layer": 2/' "$work/again/config.json"; expect 65 "$DPIPE" train -q -w "$work/w" --init-from "$work/again" --steps 3 --warmup 1; says "$work/err" "transformer.h.1."
finish
