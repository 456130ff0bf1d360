#!/usr/bin/env bash
# Splits of one's own on the command line: options, what is wrong with them and where it is said, files that carry them.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
D=tests/data/tokenizer; printf 'it was 12345, слово word 日本語かな\n' >"$work/t.txt"
ids() { "$DPIPE" tokenize --tokenizer "$1" "${@:2}" "$work/t.txt"; }
expect 78 "$DPIPE" tokenize --tokenizer $D/hf.json --split gpt3 "$work/t.txt"; says "$work/err" "deepseek-v3"; says "$work/err" "regex:PATTERN"
expect 64 "$DPIPE" train-bpe --split gpt3 -o "$work/x" "$work/t.txt"; says "$work/err" "qwen3.5"
expect 78 "$DPIPE" train-bpe --split-pattern 'a(b' -o "$work/x" "$work/t.txt"; says "$work/err" "isn't closed"
expect 78 "$DPIPE" train-bpe --split-pattern '\pL+' -o "$work/x" "$work/t.txt"; says "$work/err" '\p{L}'
expect 64 "$DPIPE" train-bpe --split-digits 4 -o "$work/x" "$work/t.txt"; says "$work/err" "split-digits"
expect 0 "$DPIPE" train-bpe -q --vocab-size 400 --split-pattern '\s?\w+|[^\w\s]+' --split-digits 2 --split-scripts -o "$work/own" $D/corpus.txt
expect 0 "$DPIPE" tokenizer info "$work/own/tokenizer.json"; says "$work/out" '"split": "custom"'; says "$work/out" '"digits 2"'; says "$work/out" 'regex \\s?\\w+|[^\\w\\s]+'; says "$work/out" '"scripts"'
expect 0 "$DPIPE" tokenizer info $D/hf.json; says "$work/out" '"pattern": "'"'(?:[sdmt]|ll|ve|re)"
for s in qwen3.5 tekken deepseek-v3; do
  expect 0 "$DPIPE" train-bpe -q --vocab-size 400 --split $s -o "$work/$s" $D/corpus.txt; expect 0 "$DPIPE" tokenizer info "$work/$s/tokenizer.json"; says "$work/out" "\"split\": \"$s\""
done
# The same pieces by a scanner and by its pattern (made another text, so that it isn't known).
same "$(ids $D/hf.json --split cl100k)" "$(ids $D/hf.json --split "regex:(?:(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)")" "cl100k by scanner and by PCRE2"
head -c 200000 /dev/zero | tr '\0' a >"$work/a.txt"
expect 65 "$DPIPE" tokenize --tokenizer $D/hf.json --split 'regex:(?:a|aa)+[bc]' "$work/a.txt"; says "$work/err" "at byte 0 of the text"
printf 'x\xffy\xe2\x82\n' >"$work/b.txt"; printf 'x\xef\xbf\xbdy\xef\xbf\xbd\n' >"$work/r.txt"
same "$("$DPIPE" tokenize --tokenizer $D/hf.json --utf8 replace "$work/b.txt")" "$("$DPIPE" tokenize --tokenizer $D/hf.json "$work/r.txt")" "bytes replaced"
"$DPIPE" tokenize --tokenizer $D/hf.json "$work/b.txt" | "$DPIPE" detokenize --tokenizer $D/hf.json >"$work/back" 2>&1; [ -s "$work/back" ] && ok || bad "bytes kept"
expect 64 "$DPIPE" tokenize --tokenizer $D/hf.json --utf8 drop "$work/b.txt"; says "$work/err" "replace"
expect 0 "$DPIPE" init "$work/w"; printf 'train-bpe: {split_pattern: "a(b"}\n' >"$work/w/recipe.yaml"; expect 78 "$DPIPE" check-config -w "$work/w"; says "$work/out" "split_pattern"
finish
