#!/usr/bin/env bash
# tokenizer convert: every format there and back with the same ids; what can't be said is refused; the road with a sentencepiece model.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
hf=tests/data/tokenizer/hf.json sp=tests/data/tokenizer/sp_bytes.model
{ words 7 2000; printf 'x<|endoftext|>y caf\303\251 \360\237\230\200\n'; } >"$work/text"
ids() { "$DPIPE" tokenize --tokenizer "$@" --special all --whole-file "$work/text"; }
digest() { "$DPIPE" tokenizer info "$1" | sed -n 's/.*"digest": "\(.*\)".*/\1/p'; }
want=$(ids $hf)
convert() { expect 0 "$DPIPE" tokenizer convert "$@"; }
convert $hf -o "$work/t.json"; same "$(digest "$work/t.json")" "$(digest $hf)" "tokenizer.json"
convert $hf -o "$work/t.gguf"; same "$(ids "$work/t.gguf")" "$want" "ids of GGUF"
convert $hf -o "$work/v" --to vocab; same "$(ids "$work/v")" "$want" "ids of a folder"; same "$(ids "$work/v/merges.txt")" "$want" "ids of merges.txt"
convert "$work/v" -o "$work/h/" --to hf; same "$(ids "$work/h")" "$want" "ids of a folder with tokenizer.json"
convert $hf -o "$work/t.tiktoken"; convert "$work/t.tiktoken" --split gpt2 -o "$work/r.json"
same "$("$DPIPE" tokenize --tokenizer "$work/r.json" --whole-file "$work/text")" "$("$DPIPE" tokenize --tokenizer $hf --whole-file "$work/text")" "ids of ranks"
convert $sp -o "$work/s.gguf"; convert "$work/s.gguf" -o "$work/s.model"; same "$(digest "$work/s.model")" "$(digest $sp)" "a sentencepiece model"
same "$("$DPIPE" tokenize --tokenizer "$work/s.gguf" "$work/text" | "$DPIPE" detokenize --tokenizer $sp | tail -1)" '{"text":"x<|endoftext|>y café 😀"}' "text of a sentencepiece model"
# What is refused.
expect 64 "$DPIPE" tokenizer convert $hf; expect 64 "$DPIPE" tokenizer convert $hf -o "$work/x"; says "$work/err" "--to"
for to in hf tiktoken vocab; do expect 78 "$DPIPE" tokenizer convert $sp -o "$work/x" --to $to; done
expect 78 "$DPIPE" tokenizer convert $hf -o "$work/x" --to sp; expect 78 "$DPIPE" tokenizer convert $hf --split o200k -o "$work/x" --to vocab; says "$work/err" "o200k"
expect 78 "$DPIPE" tokenizer convert $hf --split 'regex:a+|[^a]+' -o "$work/x.gguf"; [ ! -e "$work/x" ] && [ ! -e "$work/x.gguf" ] && ok || bad "something was written"
expect 78 "$DPIPE" tokenize --tokenizer $sp --offsets bytes "$work/text"
rm "$work/v/merges.txt"; expect 74 "$DPIPE" tokenizer info "$work/v"; says "$work/err" merges.txt
# The road with a sentencepiece model: shards decode to what was kept.
corpus "$work/c"; workspace "$work/w" "$work/c"; sed -i "s|^train-bpe.*|tokenizer: {file: $PWD/$sp}|" "$work/w/recipe.yaml"
expect 0 "$DPIPE" run -q -w "$work/w" --until shard; expect 0 "$DPIPE" verify -w "$work/w"
expect 0 "$DPIPE" trace -w "$work/w" --sample 3; says "$work/out" "shard-"
sed -i "s|^tokenizer.*|tokenizer: {file: $work/v/vocab.json}|" "$work/w/recipe.yaml"; expect 78 "$DPIPE" run -q -w "$work/w" --until shard; says "$work/err" "tokenizer convert"
finish
