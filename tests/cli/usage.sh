#!/usr/bin/env bash
# The command line: help, mistypings, exit statuses, bad input.
set -u; cd "$(dirname "$0")/../.."; . tests/lib.sh
expect 0 "$DPIPE" --help; says "$work/out" "train-bpe"
expect 0 "$DPIPE" --version; says "$work/out" "dpipe 0."
for c in $("$DPIPE" help --commands); do expect 0 "$DPIPE" "$c" --help; says "$work/out" "usage: dpipe $c"; expect 0 "$DPIPE" help --man "$c"; says "$work/out" ".SH SYNOPSIS"; done
expect 0 "$DPIPE" help --completion bash; says "$work/out" "complete"; bash -n "$work/out" && ok || bad "bash can't read the completion"
complete_words() { bash -c 'set +u; source "$1"; shift; COMP_WORDS=(dpipe "$@"); COMP_CWORD=$#; COMPREPLY=(); _dpipe; echo "${COMPREPLY[@]}"' - "$work/completion" "$@"; }
cp "$work/out" "$work/completion"; same "$(complete_words quarantine '')" "list show retry drop" "what follows quarantine"; same "$(complete_words job re)" "retry redo" "what follows job re"; same "$(complete_words tokenizer comp)" "compare" "what follows tokenizer comp"
same "$(complete_words loglevel '')" "error warning info debug" "levels"; same "$(complete_words che)" "check-config" "a command"; same "$(complete_words check-config --recipe-)" "--recipe-only" "an option"
same "$(complete_words run --log-format j)" "json journal" "values of an option"; same "$(complete_words help tra)" "train-bpe train trace" "commands behind help"
for s in zsh fish; do expect 0 "$DPIPE" help --completion $s; says "$work/out" quarantine; cp "$work/out" "$work/$s"; if command -v $s >/dev/null; then $s -n "$work/$s" && ok || bad "$s can't read the completion"; fi; done
says "$work/fish" "-a 'list show retry drop'"
if command -v groff >/dev/null; then for c in dpipe $("$DPIPE" help --commands); do "$DPIPE" help --man "$c" | LC_ALL=C groff -man -Tutf8 -ww -z >"$work/o" 2>&1; [ -s "$work/o" ] && bad "man page of $c: $(head -2 "$work/o")" || ok; done; fi
expect 64 "$DPIPE" ingset; says "$work/err" "did you mean ingest?"
expect 64 "$DPIPE"; expect 64 "$DPIPE" run --untl train -w "$work"; says "$work/err" "--until"
expect 64 "$DPIPE" run --until trian -w "$work"; says "$work/err" "did you mean train"
expect 64 "$DPIPE" run --threads many; expect 64 "$DPIPE" status extra
expect 78 "$DPIPE" status -w "$work/none"; says "$work/err" "dpipe init"
expect 0 "$DPIPE" init "$work/w"; expect 0 "$DPIPE" init "$work/w"; says "$work/err" "stays as it is"
expect 78 "$DPIPE" run -w "$work/w"; says "$work/err" "no sources"
expect 74 "$DPIPE" ingest -w "$work/w" "$work/absent"; says "$work/err" "absent"
expect 74 "$DPIPE" verify -w "$work/w"; expect 74 "$DPIPE" generate -w "$work/w"
# The recipe that init writes is read back, and read with everything uncommented too.
expect 0 "$DPIPE" status -w "$work/w"
sed -i 's/^#\( *[a-z_0-9]*:\)/\1/' "$work/w/recipe.yaml"; expect 0 "$DPIPE" status -w "$work/w"
printf 'train-bpe:\n  vocabsize: 5\n' >"$work/w/recipe.yaml"; expect 78 "$DPIPE" status -w "$work/w"; says "$work/err" "recipe.yaml:2"; says "$work/err" "did you mean vocab_size"
printf 'train-bpe: {vocab_size: many}\n' >"$work/w/recipe.yaml"; expect 78 "$DPIPE" status -w "$work/w"; says "$work/err" "no whole number"
printf 'a: [\n' >"$work/w/recipe.yaml"; expect 78 "$DPIPE" status -w "$work/w"; says "$work/err" "not YAML"
printf 'train: {steps: 5}\n' >"$work/w/recipe.yaml"; DPIPE_TRAIN_STEPS=x expect 64 "$DPIPE" status -w "$work/w"; says "$work/err" "DPIPE_TRAIN_STEPS"
expect 64 "$DPIPE" worker-process; says "$work/err" "by dpipe itself"
# A writer at work keeps others out; readers may look.
exec 9>"$work/w/lock"; flock -n 9; expect 75 "$DPIPE" run -w "$work/w"; expect 0 "$DPIPE" status -w "$work/w"; exec 9>&-
# Train on files, encode, decode.
words 5 4000 >"$work/t.txt"
expect 0 "$DPIPE" train-bpe -q --vocab-size 400 --split gpt2 -o "$work/tok" "$work/t.txt"
for f in tokenizer.json vocab.json merges.txt tokenizer.tiktoken report.json; do [ -s "$work/tok/$f" ] && ok || bad "no $f"; done
printf '{"text":"the water of the river <|endoftext|> \\u00e9\\n"}\n' | expect 0 "$DPIPE" tokenize --tokenizer "$work/tok/tokenizer.json" --jsonl; cp "$work/out" "$work/ids"
expect 0 "$DPIPE" detokenize --tokenizer "$work/tok/tokenizer.json" --jsonl "$work/ids"; says "$work/out" '{"text":"the water of the river <|endoftext|> é\n"}'
printf '{"text":"x"}\n' | expect 0 "$DPIPE" tokenize --tokenizer "$work/tok/tokenizer.json" --jsonl --count; says "$work/out" '{"count":1}'
printf '{"no":1}\n' | expect 65 "$DPIPE" tokenize --tokenizer "$work/tok/tokenizer.json" --jsonl; says "$work/err" "line 1"
expect 0 "$DPIPE" tokenizer info "$work/tok/tokenizer.json"; same "$(tail -c 1 "$work/out" | od -An -tx1)" " 0a" "the last byte of tokenizer info"
printf '{"ids":[99999]}\n' | expect 65 "$DPIPE" detokenize --tokenizer "$work/tok/tokenizer.json"
printf '{"model":' >"$work/bad.json"; printf 'x\n' | expect 65 "$DPIPE" tokenize --tokenizer "$work/bad.json"
expect 64 "$DPIPE" train-bpe --vocab-size 100 -o "$work/tok2" "$work/t.txt"; : >"$work/empty"; expect 65 "$DPIPE" train-bpe -o "$work/tok2" "$work/empty"
for f in gpt2 llama; do expect 0 "$DPIPE" train --verify tests/data/trainer/$f.safetensors; says "$work/out" '"ok":true'; done
expect 65 "$DPIPE" train --verify "$work/t.txt"
finish
